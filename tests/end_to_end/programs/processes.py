"""Stacks in the processes of one run, run under a launcher: in the program itself, in two started, and in one of a pool.

    opentelemetry-instrument python processes.py '{"method": "spawn", "jobs": {"a": {...}, ...}, "folder": ...}'

Each process keeps what it saw, outside of what is under test, in a file of the folder named after its job.
"""

import asyncio
import json
import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from end_to_end.orders.jobs import job
from end_to_end.orders.layers import Order, Stack
from instrumentation.scenario import HTTP, drive
from opentelemetry import trace


def work(name: str, folder: str, settings: dict[str, Any]) -> None:
    order = Order(tuple(settings["outside"]), tuple(settings["inside"]), settings["retry"])
    http = HTTP(settings["library"], settings["mode"])
    stack = Stack(order, http, Path(folder) / name)
    scenario = job(stack, settings["base"], trace.get_tracer("program"))
    done = (asyncio.run if http.is_async else drive)(scenario)
    told = [[url, seen.as_dict()] for url, seen in done]
    (Path(folder) / f"{name}.json").write_text(json.dumps(told), encoding="utf-8")


def main() -> None:
    settings = json.loads(sys.argv[1])
    context, folder = multiprocessing.get_context(settings["method"]), settings["folder"]
    (here, one, other, *pooled) = settings["jobs"].items()
    work(here[0], folder, here[1])
    processes = [context.Process(target=work, args=(name, folder, told)) for name, told in (one, other)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        for future in [pool.submit(work, name, folder, told) for name, told in pooled]:
            future.result()
    work(f"{here[0]} again", folder, here[1])


if __name__ == "__main__":
    main()
