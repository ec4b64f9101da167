"""The example downloader, its origin servers' plan, and a wait for what they do."""

import sys
import time
from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Final

EXAMPLE: Final = Path(__file__).resolve().parents[2] / "examples" / "downloader"
sys.path.insert(0, str(EXAMPLE))

from downloader import artifacts, faults, guards, settings, store  # noqa: E402  found in the example's directory

__all__ = ["EXAMPLE", "WITHIN_S", "artifacts", "faults", "guards", "pdf_of", "plan", "settings", "store", "wait_for"]

WITHIN_S: Final = 30


def _alone(path: str) -> ModuleType:
    """A module of the example that stands alone, by its file: other tests have an `origin` of their own."""
    spec = spec_from_file_location(f"example_{Path(path).stem}", EXAMPLE / path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


plan, pdf_of = _alone("origin/plan.py"), _alone("origin/pdf.py").pdf_of


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
