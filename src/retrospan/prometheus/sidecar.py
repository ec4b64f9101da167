"""The page of `retrospan metrics`: rendered in the background, so that a scrape costs its bytes, whatever lies behind it.

    sidecar = Sidecar(["telemetry.sqlite"], terms, poll=10.0)
    sidecar.start()
    sidecar.page()          # None until the first was rendered, and when the last is older than three polls

Two threads: one looks for new rows at each poll, counts them and renders; the other evaluates runs, which takes long where
they are large, and rests three times as long as it worked. What has not been evaluated yet is not on the page.
"""

import glob
import threading
import time
from collections.abc import Sequence
from logging import getLogger
from pathlib import Path
from typing import Final

from retrospan.opening import NoRecord
from retrospan.prometheus import names
from retrospan.prometheus.evaluation import Evaluation, evaluate
from retrospan.prometheus.instruments import Instruments
from retrospan.prometheus.server import Page
from retrospan.prometheus.totals import Totals
from retrospan.prometheus.watch import Followed, Terms, Watch
from retrospan.record import RecordError, read

MOST_RECORDS: Final = 64
_STALE_POLLS: Final = 3
# Evaluating takes a quarter of a core at most; what is quicker than this needs no rest between.
_REST_RATIO: Final = 3.0
_QUICK_SECONDS: Final = 0.1
# So long a page waits for runs that are being evaluated, that is for small ones.
_PATIENCE_SECONDS: Final = 0.5
_RETRY_SECONDS: Final = 10.0
# An ended run is let go without its last numbers only when they cannot be had again and again.
_MOST_FAILURES: Final = 5

_logger = getLogger("retrospan")


class Sidecar:
    """The records under watch, and the page that shows them."""

    def __init__(self, patterns: Sequence[str], terms: Terms, *, poll: float = 10.0, most_hosts: int = 200) -> None:
        """`patterns` are paths, or globs of them, looked at again at each poll; `poll` is in seconds."""
        self._patterns, self._terms, self._poll = patterns, terms, poll
        self._totals = Totals(terms.slos, most_hosts)
        self._instruments = Instruments()
        self._watches: dict[Path, Watch] = {}
        self._page: Page | None = None
        self._rendered_at = 0.0
        self._failed: dict[Path, int] = {}
        self._without_cursor: set[Path] = set()
        self._stop = threading.Event()
        # What both threads use: the watches' runs, and the totals.
        self._lock = threading.Lock()
        self._work_came, self._is_idle = threading.Event(), threading.Event()
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._poll_on, self._evaluate_on)]
        self._find(was_there=True)

    def check(self) -> None:
        """Raise RecordError when a path names what can be no record, as its user should know before anything is begun.

        What is not there yet may come, and what a glob names was not meant one by one.
        """
        for pattern in self._patterns:
            try:
                if not _is_glob(pattern):
                    read(pattern, lambda record: None)
            except NoRecord:
                raise
            except RecordError:
                pass  # it may be one by and by; until then the polls tell

    def start(self) -> None:
        """Begin; the first page is there when this returns."""
        self._cycle(patience=0.0)
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End the threads; what was counted is kept already."""
        self._stop.set()
        self._work_came.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(1.0)

    def page(self) -> Page | None:
        """The page; None when there is none, or none that is young enough."""
        return self._page if self.is_fresh() else None

    def is_fresh(self) -> bool:
        """Whether the page is at most three polls old."""
        return self._page is not None and time.monotonic() - self._rendered_at <= _STALE_POLLS * self._poll

    def _poll_on(self) -> None:
        pause = self._poll
        while not self._stop.wait(pause):
            begun = time.monotonic()
            try:
                self._cycle(min(_PATIENCE_SECONDS, self._poll / 4))
            except Exception as error:  # the page grows old and says so, and the next poll tries again
                _logger.error("The metrics cannot be renewed: %s. Please report this.", type(error).__name__)
            # What is far behind is read on sooner, but not without rest.
            is_behind = any(watch.is_behind for watch in self._watches.values())
            pause = min(self._poll, 2 * (time.monotonic() - begun)) if is_behind else self._poll

    def _cycle(self, patience: float) -> None:
        """Look at all records, and render what is known then."""
        self._find(was_there=False)
        # One that cannot be read does not hide the others.
        looked = [self._look(watch) for watch in self._watches.values()]
        if looked and not any(looked):
            return
        self._is_idle.clear()
        self._work_came.set()
        if patience:
            self._is_idle.wait(patience)
        with self._lock:
            series = self._series()
            # Before anybody sees the numbers: what a crash takes is then not counted, rather than counted twice.
            self._keep_cursors()
        page = self._instruments.render(series)
        _ = page.gzipped
        self._page, self._rendered_at = page, time.monotonic()

    def _find(self, *, was_there: bool) -> None:
        """Watch the files that the patterns mean now: a path always, what a glob names while it is there."""
        found = [
            Path(name)
            for pattern in self._patterns
            for name in (sorted(glob.glob(pattern)) if _is_glob(pattern) else [pattern])  # noqa: PTH207
        ]
        with self._lock:
            for path in dict.fromkeys(found[:MOST_RECORDS]):
                if path not in self._watches:
                    self._watches[path] = Watch(path, self._terms, was_there and path.exists())
            for path in [path for path in self._watches if path not in found]:
                del self._watches[path]

    def _look(self, watch: Watch) -> bool:
        """Take what came to one record; whether it could be read, or is not there at all."""
        try:
            seen = watch.look()
        except RecordError as error:
            self._failed[watch.path] = times = self._failed.get(watch.path, 0) + 1
            # One that has just been made may have no tables yet: that is told if it stays so, or from the beginning.
            if times == (1 if self._page is None else 2):
                _logger.warning("%s", error)
            return False
        self._failed.pop(watch.path, None)
        with self._lock:
            watch.take(seen, self._totals)
        return True

    def _series(self) -> dict[str, dict[tuple[str, ...], float]]:
        series = self._totals.series()
        shown = [evaluation for watch in self._watches.values() for evaluation in watch.shown()]
        for evaluation in sorted(shown, key=lambda one: one.started_at, reverse=True):
            for name, values in evaluation.gauges.items():
                # Of two records with a run of one id, the one that started last is shown.
                into = series.setdefault(name, {})
                into.update({labels: value for labels, value in values.items() if labels not in into})
        sizes = [size for watch in self._watches.values() if (size := watch.size())]
        if sizes:
            series[names.RECORD_SIZE] = {(): float(sum(sizes))}
        newest = [watch.newest_at for watch in self._watches.values() if watch.newest_at is not None]
        if newest:
            series[names.RECORD_LAG] = {(): max(0.0, time.time() - max(newest))}
        return series

    def _keep_cursors(self) -> None:
        for watch in self._watches.values():
            if watch.cursor is None:
                continue
            try:
                watch.cursor.keep(watch.path)
            except OSError as error:
                if watch.path not in self._without_cursor:
                    _logger.warning(
                        "No cursor can be kept beside %s (%s): after a restart counting begins with the rows to come.",
                        watch.path,
                        error.strerror,
                    )
                    self._without_cursor.add(watch.path)

    def _evaluate_on(self) -> None:
        while not self._stop.is_set():
            job = self._next_job()
            if job is None:
                self._is_idle.set()
                self._work_came.wait(self._poll)
                self._work_came.clear()
                continue
            seconds = self._evaluate(*job)
            if seconds > _QUICK_SECONDS:
                self._stop.wait(min(_REST_RATIO * seconds, self._poll))

    def _next_job(self) -> tuple[Watch, str, Followed] | None:
        """The run that is due and has waited longest."""
        now = time.monotonic()
        with self._lock:
            due = [
                (watch, run_id, followed)
                for watch in self._watches.values()
                for run_id, followed in watch.runs.items()
                if followed.is_due and followed.rest_until <= now
            ]
            if not due:
                return None
            job = min(due, key=lambda one: one[2].rest_until)
            job[2].is_due = False
            return job

    def _evaluate(self, watch: Watch, run_id: str, followed: Followed) -> float:
        """Evaluate one run; the seconds that took."""
        was_over, begun = followed.is_over, time.monotonic()
        evaluation: Evaluation | None = None
        try:
            evaluation = read(watch.path, lambda record: evaluate(record, run_id, self._terms.slos, self._totals.hosts))
        except RecordError:
            pass  # whoever polls meets it too, and tells
        now = time.monotonic()
        with self._lock:
            if watch.runs.get(run_id) is followed:
                self._take(followed, evaluation, was_over=was_over, now=now)
            followed.rest_until = now + (_REST_RATIO * (now - begun) if evaluation else _RETRY_SECONDS)
        return now - begun

    def _take(self, followed: Followed, evaluation: Evaluation | None, *, was_over: bool, now: float) -> None:
        told = followed.told
        if evaluation is not None:
            followed.evaluation, followed.failures = evaluation, 0
            told.events = (
                evaluation.events if told.events is None else self._totals.add_growth(told.events, evaluation.events)
            )
        else:
            followed.failures += 1
            if followed.failures < _MOST_FAILURES or not was_over:
                followed.is_due = True
                return
        if was_over and followed.is_over and followed.over_since is None:
            followed.over_since = now


def _is_glob(pattern: str) -> bool:
    return glob.has_magic(pattern) and not Path(pattern).exists()
