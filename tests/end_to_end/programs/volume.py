"""One span of the program's own around everything it does: 10 000 grants, 200 transitions, 1 000 requests."""

import sys

import httpx2
import pybreaker
from opentelemetry import trace
from pyrate_limiter import Duration, Limiter, Rate

limiter = Limiter(Rate(1_000_000, Duration.SECOND))
breaker = pybreaker.CircuitBreaker(name="api.example.org")
with trace.get_tracer("program").start_as_current_span("everything"):
    for _ in range(10_000):
        limiter.try_acquire("queue")
    for _ in range(100):
        breaker.open()
        breaker.close()
    with httpx2.Client() as client:
        for number in range(1_000):
            client.get(f"{sys.argv[1]}/{number}")
