"""`manifest.jsonl`: one line an artifact, written as soon as it is resolved; what was stored is not fetched again.

    with Manifest(root) as manifest:
        manifest.has("10.5555/12345678:vor")
        manifest.write(resolution)

It is all that a next run knows of this one.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from threading import Lock
from typing import Any, Self

from .attempts import Resolution

NAME = "manifest.jsonl"


class Manifest:
    """Lines of an earlier run stay if their file does. `counts`: artifacts by stored and missing, and by dedupe_action."""

    def __init__(self, root: Path) -> None:
        root.mkdir(parents=True, exist_ok=True)
        path = root / NAME
        kept = {line["artifact_id"]: line for line in _lines(path) if _still_there(line)}
        partial = path.with_suffix(".jsonl.part")
        partial.write_text("".join(json.dumps(line) + "\n" for line in kept.values()))
        partial.replace(path)
        self._kept = frozenset(kept)
        self._file = path.open("a")
        self._lock = Lock()
        self.counts: Counter[str] = Counter()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def has(self, artifact_id: str) -> bool:
        """Whether an earlier run stored it, and it is still there."""
        return artifact_id in self._kept

    def write(self, resolution: Resolution) -> None:
        line = line_of(resolution)
        with self._lock:
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()
            self.counts[line["status"]] += 1
            if resolution.stored:
                self.counts[resolution.stored.dedupe_action] += 1


def line_of(resolution: Resolution) -> dict[str, Any]:
    """Artifact, status (stored or missing), the stored file, and every attempt."""
    artifact, stored = resolution.artifact, resolution.stored
    attempts = [{k: v for k, v in asdict(attempt).items() if k != "stored"} for attempt in resolution.attempts]
    return {
        "artifact_id": artifact.artifact_id,
        "work_id": artifact.work_id,
        "version": artifact.version,
        "status": "stored" if stored else "missing",
        **(asdict(stored) if stored else {}),
        "attempts": attempts,
    }


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """Whole lines; the last one may be half, if a run was killed."""
    for text in path.read_text().splitlines() if path.exists() else ():
        try:
            yield json.loads(text)
        except ValueError:
            continue


def _still_there(line: dict[str, Any]) -> bool:
    if line.get("status") != "stored":
        return False
    final, link = Path(line["final_path"]), Path(line["link"])
    return link.exists() and final.exists() and final.stat().st_size == line["content_length"]
