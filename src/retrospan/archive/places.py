"""Where an archive lies: a folder of this machine, or an object store that fsspec reaches.

    place = place_of("archive")                     # or "s3://bucket/archive", with the store's own environment
    with place.staging() as folder:
        place.put(folder / "1.part", "table=http_events/date=2026-11-27/a.parquet")

Names are relative to the archive, with slashes. A file appears whole or not at all: a folder's by a rename, a store's since
its objects do.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Final, Protocol

from retrospan.record import RecordError
from retrospan.text import printable

try:
    import fcntl
except ImportError:  # no advisory locks here
    fcntl = None  # type: ignore[assignment]

# Readers of Hive-partitioned files pass over names that begin with an underscore.
OWN: Final = "_retrospan"


class Place(Protocol):
    """An archive's files. All methods but `put` and `write` leave them as they are; all raise RecordError."""

    name: str

    def read(self, name: str) -> bytes | None:
        """What a file holds; None when there is none."""

    def write(self, name: str, content: bytes) -> None:
        """Have a file hold this, at once."""

    def put(self, file: Path, name: str) -> None:
        """Have a finished file of this machine appear under a name."""

    def has(self, name: str) -> bool:
        """Whether there is such a file."""

    def names(self, folder: str) -> list[str]:
        """The names of all files below a folder, sorted."""

    def address(self, name: str) -> str:
        """What DuckDB opens a file by, once `introduce` was called."""

    def introduce(self, connection: Any) -> None:
        """Let a DuckDB connection read the place."""

    def staging(self, record_id: str) -> AbstractContextManager[Path]:
        """A folder of this machine for a record's unfinished files, gone when left."""

    def alone(self, record_id: str) -> AbstractContextManager[None]:
        """Hold off whoever else archives this record here."""


def place_of(text: str | os.PathLike[str]) -> Place:
    """The archive at a path or a URL. Raises RecordError for a store that fsspec cannot reach."""
    said = os.fspath(text)
    return _Store(said) if "://" in said else _Folder(Path(said))


class _Folder:
    def __init__(self, root: Path) -> None:
        self.name = str(root)
        self._root = root

    def read(self, name: str) -> bytes | None:
        try:
            return (self._root / name).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise self._trouble(error) from error

    def write(self, name: str, content: bytes) -> None:
        unfinished = self._root / f"{name}.{os.getpid()}.part"
        try:
            unfinished.parent.mkdir(parents=True, exist_ok=True)
            unfinished.write_bytes(content)
            self.put(unfinished, name)
        except OSError as error:
            raise self._trouble(error) from error

    def put(self, file: Path, name: str) -> None:
        place = self._root / name
        try:
            _sync(file)
            place.parent.mkdir(parents=True, exist_ok=True)
            file.replace(place)
            _sync(place.parent)
        except OSError as error:
            raise self._trouble(error) from error

    def has(self, name: str) -> bool:
        return (self._root / name).is_file()

    def names(self, folder: str) -> list[str]:
        found = (self._root / folder).rglob("*")
        return sorted(file.relative_to(self._root).as_posix() for file in found if file.is_file())

    def address(self, name: str) -> str:
        return str(self._root / name)

    def introduce(self, connection: Any) -> None:
        pass

    @contextmanager
    def staging(self, record_id: str) -> Iterator[Path]:
        """On the archive's own disk, so that a file can be renamed into its place. What a killed export left goes first."""
        folder = self._root / OWN / f"{record_id}.unfinished"
        try:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
        except OSError as error:
            raise self._trouble(error) from error
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    @contextmanager
    def alone(self, record_id: str) -> Iterator[None]:
        try:
            (self._root / OWN).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._trouble(error) from error
        with _locked(self._root / OWN / f"{record_id}.lock", self.name):
            yield

    def _trouble(self, error: OSError) -> RecordError:
        return RecordError(f"{self.name}: the archive cannot be used: {error.strerror or type(error).__name__}")


class _Store:
    def __init__(self, url: str) -> None:
        try:
            from fsspec.core import url_to_fs
        except ImportError as error:
            raise RecordError("object stores need an extra: pip install 'retrospan[parquet]'") from error
        # A URL may hold credentials, and is told without them.
        self.name = printable(url.partition("://")[0] + "://" + url.partition("://")[2].rpartition("@")[2])
        try:
            self._files, self._root = url_to_fs(url, use_listings_cache=False)
        except (ImportError, ValueError) as error:
            raise RecordError(
                f"{self.name}: fsspec cannot reach it ({type(error).__name__}): install what it needs for this store, such as"
                " s3fs, gcsfs or adlfs"
            ) from error
        self._protocol = url.partition("://")[0]

    def read(self, name: str) -> bytes | None:
        with self._told():
            try:
                content: bytes = self._files.cat_file(self._path(name))
            except FileNotFoundError:
                return None
            return content

    def write(self, name: str, content: bytes) -> None:
        with self._told():
            self._files.pipe_file(self._path(name), content)

    def put(self, file: Path, name: str) -> None:
        with self._told():
            self._files.put_file(str(file), self._path(name))

    def has(self, name: str) -> bool:
        with self._told():
            return bool(self._files.exists(self._path(name)))

    def names(self, folder: str) -> list[str]:
        with self._told():
            try:
                found = self._files.find(self._path(folder))
            except FileNotFoundError:
                return []
        return sorted(path.removeprefix(self._root).lstrip("/") for path in found)

    def address(self, name: str) -> str:
        return f"{self._protocol}://{self._path(name)}"

    def introduce(self, connection: Any) -> None:
        connection.register_filesystem(self._files)

    @contextmanager
    def staging(self, record_id: str) -> Iterator[Path]:
        with tempfile.TemporaryDirectory(prefix="retrospan-") as folder:
            yield Path(folder)

    @contextmanager
    def alone(self, record_id: str) -> Iterator[None]:
        """Stores know no locks; the record is on this machine, and so is whoever else exports it."""
        with _locked(Path(tempfile.gettempdir()) / f"retrospan-{record_id}.lock", self.name):
            yield

    def _path(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}"

    @contextmanager
    def _told(self) -> Iterator[None]:
        """What a store raises is of any class, and its text may quote a request: its class is told."""
        try:
            yield
        except RecordError:
            raise
        except Exception as error:
            raise RecordError(
                f"{self.name}: the object store does not answer as it should ({type(error).__name__}): look at its address,"
                " credentials and rights"
            ) from error


@contextmanager
def _locked(file: Path, archive: str) -> Iterator[None]:
    try:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise RecordError(f"{archive}: the archive cannot be used: {error.strerror}") from error
    try:
        if fcntl is not None:
            try:
                fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise RecordError(
                    f"{archive}: another export or prune of this record is at work: try again when it is done"
                ) from error
        yield
    finally:
        os.close(descriptor)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
