"""One record under watch: what came since the last look, and which of its runs are followed.

    watch = Watch(Path("telemetry.sqlite"), Terms(slos))
    watch.take(watch.look(), totals)        # reads, and counts what it read

A run is followed when rows of it come, or when the watch begins and it is under way. It is let go `keep` seconds after its last
numbers were had.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from retrospan.prometheus.counts import Counts, count, newest, step
from retrospan.prometheus.cursor import Cursor, Told, of_file
from retrospan.prometheus.evaluation import Evaluation
from retrospan.prometheus.runs_seen import MOST_RUNS, RunSeen, had_rows, newest_at, run_seen, unfinished
from retrospan.prometheus.totals import Totals
from retrospan.record import Record, read
from retrospan.slo.definitions import SLO
from retrospan_exporters.held import Identity, identity_of

# A run whose process cannot be asked after from here is taken for over when it has been silent for so long.
_SILENT_SECONDS: Final = 3600.0


@dataclass(frozen=True, slots=True)
class Terms:
    """What is watched: the objectives, one run or all, and how many seconds an ended run's series stay."""

    slos: tuple[SLO, ...]
    run_id: str | None = None
    keep: float = 30.0


@dataclass(slots=True)
class Followed:
    """One run that is followed. `is_due`: its rows are more than its numbers know of. Moments are monotonic, in seconds."""

    told: Told
    moved_at: float
    is_due: bool = True
    is_over: bool = False
    over_since: float | None = None
    rest_until: float = 0.0
    failures: int = 0
    evaluation: Evaluation | None = None


@dataclass(frozen=True, slots=True)
class Seen:
    """What one look finds: where it began, the counts of the rows up to `ids`, whether these are all, and the runs."""

    start: Cursor
    ids: dict[str, int]
    is_all: bool
    counts: Counts
    runs: dict[str, RunSeen]
    old: frozenset[str]
    newest_at: float | None


@dataclass(slots=True)
class Watch:
    """The watch over one record. `was_there`: when the program began, so that without a cursor its rows are not counted."""

    path: Path
    terms: Terms
    was_there: bool = False
    cursor: Cursor | None = None
    runs: dict[str, Followed] = field(default_factory=dict)
    newest_at: float | None = None
    is_behind: bool = False

    def look(self) -> Seen | None:
        """Read what came since; None when the record is not there, or was replaced just now. Raises RecordError."""
        identity = identity_of(self.path)
        if identity is None or self.size() == 0:
            return None
        seen = read(self.path, lambda record: self._read(record, identity))
        return seen if identity_of(self.path) == identity else None

    def take(self, seen: Seen | None, totals: Totals) -> None:
        """Count what a look found, and follow its runs."""
        if seen is None:
            self.was_there, self.newest_at, self.is_behind = False, None, False
            self.runs.clear()
            return
        if self.cursor is not seen.start:
            self.cursor = seen.start
            self.runs.clear()
        self.cursor.ids, self.is_behind, self.newest_at = seen.ids, not seen.is_all, seen.newest_at
        totals.add(seen.counts)
        for run_id, run in seen.runs.items():
            self._follow(run_id, run, seen, totals)
        self._let_go()
        self.cursor.runs = {run_id: followed.told for run_id, followed in self.runs.items()}

    def shown(self) -> Iterable[Evaluation]:
        """The numbers of the runs that are shown."""
        return [followed.evaluation for followed in self.runs.values() if followed.evaluation is not None]

    def size(self) -> int:
        """Bytes of the record and its log; 0 when it is not there."""
        return sum(_size(file) for file in (self.path, Path(f"{self.path}-wal")))

    def _read(self, record: Record, identity: Identity) -> Seen:
        last = newest(record)
        start = self._start(identity) or Cursor(identity, dict(last))
        upto = step(start.ids, last)
        counts = count(record, start.ids, upto, self.terms.slos, self.terms.run_id)
        record.release()
        wanted = set(counts.runs)
        if start is self.cursor:
            wanted |= self.runs.keys()
        else:
            wanted |= {*start.runs, *unfinished(record)}
        if self.terms.run_id is not None:
            wanted = {self.terms.run_id}
        runs = {run_id: run_seen(record, run_id) for run_id in wanted}
        unknown = runs.keys() - self.runs.keys() - start.runs.keys()
        old = frozenset(run_id for run_id in unknown if had_rows(record, run_id, start.ids))
        return Seen(start, upto, upto == last, counts, runs, old, newest_at(record, last))

    def _start(self, identity: Identity) -> Cursor | None:
        """Where to read on; None: behind all rows that are there."""
        if self.cursor is not None:
            return self.cursor if self.cursor.identity == identity else Cursor(identity)
        kept = of_file(self.path)
        if kept is not None:
            return kept if kept.identity == identity else Cursor(identity)
        return None if self.was_there else Cursor(identity)

    def _follow(self, run_id: str, run: RunSeen, seen: Seen, totals: Totals) -> None:
        now, has_moved = time.monotonic(), run_id in seen.counts.runs
        followed = self.runs.get(run_id)
        if followed is None:
            told = seen.start.runs.get(run_id)
            if told is None:
                if not (has_moved or run_id == self.terms.run_id or _is_under_way(run)):
                    return
                told = Told(run.dropped) if run_id in seen.old else Told(0, {})
            followed = self.runs[run_id] = Followed(told, now)
        totals.add_dropped(run.dropped - followed.told.dropped)
        followed.told.dropped = max(followed.told.dropped, run.dropped)
        if has_moved:
            followed.is_due, followed.moved_at = True, now
        # Children of a run whose first process was killed may write on.
        is_over = run.state == "finished" or (
            not has_moved and (run.is_over or (run.state == "unknown" and now - followed.moved_at > _SILENT_SECONDS))
        )
        if is_over != followed.is_over:
            followed.is_over, followed.is_due, followed.over_since = is_over, True, None

    def _let_go(self) -> None:
        """Let go the runs that have been shown for long enough, and the longest silent ones beyond `MOST_RUNS`."""
        now = time.monotonic()
        for run_id, followed in list(self.runs.items()):
            is_shown = followed.over_since is not None and not followed.is_due
            if is_shown and now - (followed.over_since or 0) >= self.terms.keep and run_id != self.terms.run_id:
                del self.runs[run_id]
        by_silence = sorted(self.runs, key=lambda run_id: (not self.runs[run_id].is_over, self.runs[run_id].moved_at))
        for run_id in by_silence[: max(0, len(by_silence) - MOST_RUNS)]:
            del self.runs[run_id]


def _is_under_way(run: RunSeen) -> bool:
    silent = 0.0 if run.last_at is None else time.time() - run.last_at
    return run.state == "live" or (run.state == "unknown" and silent < _SILENT_SECONDS)


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError:
        return 0
