"""The `retrospan` command for the tests: its exit code, and what it said."""

import io
import os
import subprocess
import sys
from typing import NamedTuple

import pytest

from retrospan import cli


class Finished(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


def retrospan(*arguments, **environment):
    """Run the command, by the `main` that its own process would call; `run`, which is to become a program's parent, in one."""
    if arguments[:1] == ("run",):
        return process(*arguments, **environment)
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True) for _ in range(2))
    with pytest.MonkeyPatch.context() as patched:
        for name, value in (_inherited() | environment).items():
            patched.setenv(name, value)
        for name in os.environ.keys() - _inherited().keys() - environment.keys():
            patched.delenv(name)
        patched.setattr(sys, "argv", ["retrospan", *map(str, arguments)])
        patched.setattr(sys, "stdout", out)
        patched.setattr(sys, "stderr", err)
        with pytest.raises(SystemExit) as ended:
            cli.main()
    said = [stream.buffer.getvalue().decode() for stream in (out, err)]
    return Finished(ended.value.code or 0, *said)


def process(*arguments, **environment):
    """Run the command as its own process."""
    ran = subprocess.run(
        [sys.executable, "-m", "retrospan", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=30,
        env=_inherited() | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))} | environment,
    )
    return Finished(ran.returncode, ran.stdout, ran.stderr)


def _inherited():
    return {name: value for name, value in os.environ.items() if not name.startswith("RETROSPAN_")}


def python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True).stdout


def in_one_line(finished):
    assert finished.stdout == ""
    assert finished.stderr.count("\n") == 1
    assert finished.stderr.startswith("retrospan: ")
    return finished.stderr
