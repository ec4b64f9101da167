"""Troubles as a machine makes them, each for as long as a context lasts."""

import ctypes
import os
import resource
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NOBODY = 65534


@contextmanager
def without_privileges() -> Iterator[None]:
    """This thread opens files as an ordinary user does, whom modes hold off."""
    if os.geteuid() != 0:
        yield
        return
    libc = ctypes.CDLL(None)
    libc.setfsuid(NOBODY)
    try:
        yield
    finally:
        libc.setfsuid(0)


@contextmanager
def mode(path: Path, bits: int) -> Iterator[None]:
    """A file or a folder with other permissions."""
    before = path.stat().st_mode & 0o777
    path.chmod(bits)
    try:
        yield
    finally:
        path.chmod(before)


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """A file system of one MB at `folder`; where none can be mounted, the folder as it is."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m,mode=0777", "none", folder]
    is_mounted = os.geteuid() == 0 and subprocess.run(mount, capture_output=True, check=False).returncode == 0
    try:
        yield folder
    finally:
        if is_mounted:
            subprocess.run(["umount", "--lazy", folder], check=True)


@contextmanager
def full(folder: Path) -> Iterator[None]:
    """Nothing more can be written there: the disk is full or, where it is none of its own, files may not grow."""
    if folder.is_mount():
        ballast = os.open(folder / "ballast", os.O_WRONLY | os.O_CREAT)
        try:
            while os.write(ballast, bytes(4096)):
                pass
        except OSError:
            pass
        finally:
            os.close(ballast)
        yield
        (folder / "ballast").unlink()
        return
    before, ignored = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, ignored)


@contextmanager
def locked(record: Path) -> Iterator[None]:
    """Another connection writes all the time."""
    holder = sqlite3.connect(record, isolation_level=None, check_same_thread=False)
    holder.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        holder.execute("ROLLBACK")
        holder.close()


def damage(record: Path, *, header: bool = False) -> None:
    """What a bad disk leaves: pages full of nonsense; or what a crash may: a beginning of zeros."""
    with record.open("r+b") as file:
        if header:
            file.write(bytes(4096))
        else:
            file.seek(4096)
            file.write(b"\xa5" * (record.stat().st_size - 4096))
