"""What the project promises of itself: one-way imports, docs that are derived from the code."""

import os
import re
import runpy
import subprocess
import sys
import tomllib
from pathlib import Path

import opentelemetry.sdk.trace as sdk
import providers
import pytest

import retrospan_instrumentation
from retrospan_instrumentation import INSTRUMENTORS

ROOT = Path(__file__).parents[1]


def test_imports_run_one_way_and_hooks_never_import_their_target() -> None:
    linted = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert linted.returncode == 0, linted.stdout
    assert "2 kept, 0 broken" in linted.stdout


@pytest.mark.parametrize("page", ["tables.md", "vocabulary.md", "metrics.md"])
def test_the_reference_pages_say_what_the_code_declares(page: str) -> None:
    pages = runpy.run_path(str(ROOT / "docs" / "generate.py"))["PAGES"]
    assert (ROOT / "docs" / page).read_text(encoding="utf-8") == pages[page]()


def test_the_instrumentation_needs_the_opentelemetry_api_and_never_the_sdk() -> None:
    program = (
        "import retrospan_instrumentation as r, sys; r.instrument_all();"
        "print([m for m in sys.modules if m.startswith('opentelemetry.sdk')])"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_make_test_runs_the_hooks_and_the_exporter_on_both_providers() -> None:
    ran = subprocess.run(["make", "-n", "test"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    _default, stock = [line for line in ran.splitlines() if "pytest" in line]
    assert stock.startswith("RETROSPAN_FAST_SPANS=0 ")
    assert {"tests/instrumentation", "tests/exporters"} <= set(stock.split())
    is_stock = providers.TracerProvider is sdk.TracerProvider
    assert is_stock == (os.environ.get("RETROSPAN_FAST_SPANS") == "0")


@pytest.mark.parametrize(("page", "least"), [("limits.md", 9), ("guarantees.md", 40), ("archive.md", 18)])
def test_every_limit_and_every_promise_of_the_docs_has_the_test_that_they_name(page: str, least: int) -> None:
    named = set(re.findall(r"`(test_\w+)`", (ROOT / "docs" / page).read_text(encoding="utf-8")))
    written = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    assert {name for name in named if f"def {name}(" not in written} == set()
    assert len(named) >= least


def test_every_instrumentor_is_found_by_the_launcher_under_its_name() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["entry-points"]
    listed = {name: f"{retrospan_instrumentation.__name__}.{place}" for name, place in INSTRUMENTORS.items()}
    assert declared["opentelemetry_instrumentor"] == listed
    files = {place.partition(":")[0] for place in INSTRUMENTORS.values()}
    folder = ROOT / "instrumentation" / "retrospan_instrumentation"
    assert files == {
        path.stem
        for path in folder.glob("*.py")
        if re.search(r"^class [A-Z]\w*Instrumentor\(", path.read_text(encoding="utf-8"), re.MULTILINE)
    } - {"hooks"}


@pytest.mark.parametrize(
    "command",
    [
        "queries.py --rows 20000",
        "slo.py --rows 5000 --rounds 1",
        "scrape.py --rows 2000 --series 100 300 --scrapes 5",
        "hot_path.py --blocks 2 --requests 20 --quick",
        pytest.param(
            "exporter.py --rounds 1 --spans 500 --saturate 0.2 --kills 1 --memory 3000", marks=pytest.mark.long
        ),
    ],
)
def test_every_benchmark_runs(command: str) -> None:
    """Nothing is said of its figures here: they are for a machine that is quiet."""
    name, *options = command.split()
    ran = subprocess.run(
        [sys.executable, ROOT / "benchmarks" / name, *options], capture_output=True, text=True, check=False
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout
