"""`--mode threads`: works in a pool of workers, adapters in the orchestrator's."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing
from functools import partial

from .artifacts import Artifact
from .attempts import Resolution, context_of
from .clients import load, sync_clients
from .faults import Judge
from .fetch import Fetcher
from .guards import Guards
from .orchestrator import FallbackOrchestrator
from .plan import plan_of
from .settings import Settings
from .sources import SOURCES
from .stopping import Stopping


def run(
    settings: Settings, works: Iterable[list[Artifact]], done: Callable[[Resolution], None], stopping: Stopping
) -> None:
    """Resolves all works, `concurrency` at once, and tells `done` (from any thread) of each artifact.

    The artifacts of one work come one after the other, so that only the first asks the services, and the others the
    cache. Returns early when told to stop.
    """
    library = load(settings)
    stopped = stopping.event
    with (
        closing(Guards(settings)) as guards,
        sync_clients(library, settings) as clients,
        FallbackOrchestrator(plan_of(settings), settings, guards) as orchestrator,
        ThreadPoolExecutor(settings.concurrency, thread_name_prefix="work") as workers,
    ):
        fetcher = Fetcher(settings, Judge(library), guards, clients, stopped)
        adapters = {name: partial(fetcher.adapter, source) for name, source in SOURCES.items()}

        def resolve(work: list[Artifact]) -> None:
            for artifact in work:
                if stopped.is_set():
                    return
                usable = {name: adapters[name] for name in SOURCES if SOURCES[name].question(settings, artifact)}
                resolution = orchestrator.resolve_pdf(context_of(artifact), usable)
                if resolution.stored or not stopped.is_set():
                    done(resolution)

        try:
            for future in as_completed([workers.submit(resolve, work) for work in works]):
                future.result()
        except BaseException:
            stopped.set()  # what the others are at is given up, so that the error is seen soon
            raise
