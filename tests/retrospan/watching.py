"""A sidecar over records of the tests, and what its page says once a condition holds."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from scrapes import Scrape

from retrospan.prometheus.sidecar import Sidecar
from retrospan.prometheus.watch import Terms
from retrospan.slo.definitions import DEFAULTS

POLL = 0.05
DEADLINE = 20.0
SLOS = tuple(DEFAULTS.values())


class Watching:
    """A sidecar that runs."""

    def __init__(self, sidecar: Sidecar) -> None:
        self.sidecar = sidecar

    def page(self) -> Scrape:
        """What a scrape would get now."""
        page = self.sidecar.page()
        return Scrape(503 if page is None else 200, {}, b"" if page is None else page.plain)

    def when(self, condition: Callable[[Scrape], Any], what: str = "the page says so") -> Scrape:
        """The first page that meets a condition, which must come."""
        deadline = time.monotonic() + DEADLINE
        while True:
            page = self.page()
            if page.status == 200 and condition(page):
                return page
            assert time.monotonic() < deadline, f"waited in vain until {what}:\n{page.text}"
            time.sleep(0.01)

    def settled(self) -> Scrape:
        """A page that shows all there is at this moment: the rows are counted, and no run is due."""
        sidecar, rendered = self.sidecar, 0
        deadline = time.monotonic() + DEADLINE
        while rendered < 3:
            before = sidecar._rendered_at
            while sidecar._rendered_at == before:
                assert time.monotonic() < deadline, "no further page"
                time.sleep(0.005)
            with sidecar._lock:
                runs = [run for watch in sidecar._watches.values() for run in watch.runs.values()]
                is_busy = any(run.is_due for run in runs) or any(watch.is_behind for watch in sidecar._watches.values())
            rendered = 0 if is_busy else rendered + 1
        return self.page()


@contextmanager
def watching(
    *records: Path | str,
    run_id: str | None = None,
    keep: float = 1000.0,
    most_hosts: int = 200,
    poll: float = POLL,
    **terms: Any,
) -> Iterator[Watching]:
    """A sidecar over these records, from its first page on."""
    slos = terms.pop("slos", SLOS)
    sidecar = Sidecar([str(record) for record in records], Terms(slos, run_id, keep), poll=poll, most_hosts=most_hosts)
    sidecar.start()
    try:
        yield Watching(sidecar)
    finally:
        sidecar.stop()
