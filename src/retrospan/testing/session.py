"""The record of a pytest session: begun before a test is imported, ended and judged when all have run.

The process that began it judges; workers of pytest-xdist only write to it.
"""

import os
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from retrospan.configuration import configure
from retrospan.record import RecordError
from retrospan.testing import objectives

if TYPE_CHECKING:
    from retrospan.slo.definitions import SLO
    from retrospan.slo.verdicts import Verdict


class SessionRecord:
    """One session; `told` is the verdict as text, once it has ended, and None in a worker."""

    def __init__(
        self, files: Sequence[Path], db: str | os.PathLike[str] | None, tolerated: "frozenset[Verdict]"
    ) -> None:
        """Begin the record.

        Raises DefinitionError when the files are wrong, and RecordError when the record's folder is not there: now, and
        not when all tests have run for nothing.
        """
        if db and not Path(db).absolute().parent.is_dir():
            raise RecordError(f"{db}: its folder is not there: make it, or name another file by --retrospan-db")
        self._slos: tuple[SLO, ...] | None = objectives(files)
        self._tolerated = tolerated
        self._folder = None if db else Path(tempfile.mkdtemp(prefix="retrospan-pytest-"))
        self._begin(os.fspath(db) if db else os.fspath(Path(self._folder or ".", "telemetry.sqlite")), None)

    @classmethod
    def of_worker(cls, path: str, run_id: str) -> "SessionRecord":
        """Take part in a record that another process began."""
        record = cls.__new__(cls)
        record._slos, record._folder, record._tolerated = None, None, frozenset()
        record._begin(path, run_id)
        return record

    def _begin(self, path: str, run_id: str | None) -> None:
        self._recorder = configure(path, run_id, signals=False)
        self.path, self.run_id = self._recorder.path, self._recorder.run_id
        self._recorder.flush()
        self.told: str | None = None
        self.is_failed = False

    def end(self) -> None:
        """Write what is left; in the process that began it, judge. A second call does nothing."""
        recorded = self._recorder.processor is not None
        self._recorder.shutdown()
        if self._slos is None or self.told is not None:
            return
        if not recorded:
            self.told = "not recorded: Retrospan or the OpenTelemetry SDK is switched off"
            return
        from retrospan.slo.gate import judge_run
        from retrospan.slo.output import FORMATS

        try:
            report = judge_run(self.path, self.run_id, slos=self._slos, tolerated=self._tolerated)
        except RecordError as error:
            self.told, self.is_failed = f"retrospan: {error}", True
            return
        self.told, self.is_failed = FORMATS["text"](report), report.exit_code != 0
        if self._folder is not None and not self.is_failed:
            shutil.rmtree(self._folder, ignore_errors=True)
        else:
            self.told += f"\n`retrospan slo explain NAME --db {self.path}` tells more"
