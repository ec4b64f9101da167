"""A content-addressed store: `objects/ab/cdef….pdf` by SHA-256, and `by-artifact/NAME.pdf` as a hard link to it.

    with staging(root) as staged:
        staged.write(chunk)
        stored = store(staged, "10.5555/12345678:vor", "10.5555/12345678", root=root, expected_length=1234)

Nothing half written is ever seen under a final name: bytes go to `root/staging`, are checked, flushed to the disk, and
only then named, in one step. Equal contents are kept once.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from .faults import NotAPdf, TooLarge, TruncatedFile

PDF = "application/pdf"
EOF_WITHIN = 2048  # bytes from the end; writers append newlines, signatures, comments
LEFTOVER_S = 3600  # what an hour-old staging file belongs to was killed
NAME_BYTES = 200


@dataclass(frozen=True)
class Stored:
    """A file that is safely there.

    `final_path` is the object (absolute), `link` its name by artifact, `content_length` bytes on disk. `dedupe_action`:
    none (new content), hardlink or copy (known content, named again), skipped (the artifact had this content already).
    """

    sha256: str
    final_path: str
    link: str
    content_length: int
    content_type: str
    dedupe_action: str


class Staged:
    """A file being received. `restart()` before each try of a download."""

    def __init__(self, path: Path, max_bytes: int | None = None) -> None:
        self.path, self.max_bytes = path, max_bytes
        self._file = path.open("w+b")
        self.restart()

    def restart(self) -> None:
        self._file.seek(0)
        self._file.truncate()
        self._digest, self.length = hashlib.sha256(), 0

    def write(self, chunk: bytes) -> None:
        """Raises TooLarge past `max_bytes`."""
        self.length += len(chunk)
        if self.max_bytes is not None and self.length > self.max_bytes:
            raise TooLarge("too_large")
        self._digest.update(chunk)
        self._file.write(chunk)

    def ends(self) -> tuple[bytes, bytes]:
        """The first and the last bytes."""
        self._file.seek(0)
        head = self._file.read(16)
        self._file.seek(max(0, self.length - EOF_WITHIN))
        return head, self._file.read()

    def settle(self) -> str:
        """Everything on the disk; the SHA-256 in hex."""
        self._file.flush()
        os.fsync(self._file.fileno())
        return self._digest.hexdigest()

    def close(self) -> None:
        self._file.close()
        self.path.unlink(missing_ok=True)


@contextmanager
def staging(root: Path, max_bytes: int | None = None) -> Iterator[Staged]:
    """A staged file that is gone at the end, whatever happens. It lies in `root`, so that naming it is one step."""
    directory = root / "staging"
    directory.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(suffix=".part", dir=directory)
    os.close(handle)
    staged = Staged(Path(name), max_bytes)
    try:
        yield staged
    finally:
        staged.close()


def store(
    staged: Staged,
    artifact_id: str,
    work_id: str,
    *,
    root: Path,
    content_type: str = PDF,
    expected_length: int | None = None,
) -> Stored:
    """Checks a received file and gives it its two names. Raises RefusedFile (TruncatedFile, NotAPdf)."""
    validate(staged, expected_length)
    sha256 = staged.settle()
    root = root.resolve()
    final = root / "objects" / sha256[:2] / f"{sha256[2:]}.pdf"
    new = _publish(staged.path, final)
    link = root / "by-artifact" / f"{file_name(artifact_id)}.pdf"
    how = _name_again(final, link)
    action = "none" if new else how
    return Stored(sha256, str(final), str(link), staged.length, content_type or PDF, action)


def validate(staged: Staged, expected_length: int | None) -> None:
    """Raises NotAPdf or TruncatedFile with the reason; quiet for a PDF that is whole."""
    head, tail = staged.ends()
    if not head.startswith(b"%PDF-"):
        raise NotAPdf("html" if head.lstrip().startswith(b"<") else "not_pdf")
    if expected_length is not None and staged.length != expected_length:
        raise TruncatedFile("length_differs")
    if b"%%EOF" not in tail:
        raise TruncatedFile("no_eof")


def file_name(artifact_id: str) -> str:
    """A file name for an artifact id, whatever is in it; long ones keep a digest."""
    name = quote(artifact_id, safe=":")
    if len(name) <= NAME_BYTES:
        return name
    return f"{name[:NAME_BYTES]}-{hashlib.sha256(artifact_id.encode()).hexdigest()[:16]}"


def clear_leftovers(root: Path) -> None:
    """Removes staging files that a killed run left; young ones may be another run's."""
    for path in (root / "staging").glob("*.part"):
        if time.time() - path.stat().st_mtime > LEFTOVER_S:
            path.unlink(missing_ok=True)


def _publish(staged: Path, final: Path) -> bool:
    """Names the content; True if it was new. Of several at once, one is."""
    final.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(staged, final)
    except FileExistsError:
        return False
    except OSError:  # a file system without hard links
        if final.exists():
            return False
        _copied(staged, final)
    _sync(final.parent)
    return True


def _name_again(final: Path, link: Path) -> str:
    """Makes `link` a name of `final`: skipped, hardlink or copy."""
    link.parent.mkdir(parents=True, exist_ok=True)
    if link.exists() and link.samefile(final):
        return "skipped"
    temporary = link.with_name(f"{link.name}.{os.getpid()}.part")
    try:
        os.link(final, temporary)
        temporary.replace(link)
        how = "hardlink"
    except OSError:
        _copied(final, link)
        how = "copy"
    finally:
        temporary.unlink(missing_ok=True)
    _sync(link.parent)
    return how


def _copied(source: Path, target: Path) -> None:
    """A copy that appears whole or not at all."""
    with tempfile.NamedTemporaryFile(dir=target.parent, suffix=".part", delete=False) as file:
        temporary = Path(file.name)
    try:
        shutil.copyfile(source, temporary)
        with temporary.open("rb") as copied:
            os.fsync(copied.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def _sync(directory: Path) -> None:
    """A name is safe only when its directory is on the disk too."""
    handle = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
