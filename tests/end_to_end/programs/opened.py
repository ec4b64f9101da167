"""A breaker opens under a span that stays open; then the program says so and waits to be killed."""

import sys
import time

import pybreaker
from opentelemetry import trace

breaker = pybreaker.CircuitBreaker(name="api.example.org", fail_max=1, reset_timeout=60)
with trace.get_tracer("program").start_as_current_span("everything"):
    try:
        breaker.call(lambda: 1 / 0)
    except pybreaker.CircuitBreakerError:
        print("opened", flush=True)
    time.sleep(60)
    sys.exit("nobody killed it")
