"""The wheel that users install: by plain pip, without --pre, beside a released httpx."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(240)
def test_plain_pip_installs_the_wheel_into_an_empty_environment_and_brings_no_prerelease_of_httpx(
    tmp_path: Path,
) -> None:
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path, ROOT]
    subprocess.run(build, capture_output=True, check=True)
    (wheel,) = tmp_path.glob("retrospan-*.whl")
    # A pip of its own takes the environment longer than all else here: ours installs into it.
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv"], check=True)
    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "pip", "--python", python, "install", "--quiet", wheel, "httpx"], check=True)
    versions = "import importlib.metadata as m; print(m.version('httpx'), [d.name for d in m.distributions()])"
    installed = subprocess.run([python, "-c", versions], capture_output=True, text=True, check=True).stdout
    assert installed.startswith("0."), installed
    assert "dev" not in installed.split()[0]
    assert "opentelemetry-sdk" in installed
    ddl = subprocess.run(
        [python, "-m", "retrospan", "ddl", "sqlite"], capture_output=True, text=True, check=True
    ).stdout
    assert "CREATE TABLE IF NOT EXISTS http_events" in ddl
    typed = "from pathlib import Path;" + "".join(
        f"assert Path(__import__({name!r}).__file__).with_name('py.typed').exists();"
        for name in ("retrospan", "retrospan_exporters", "retrospan_instrumentation")
    )
    subprocess.run([python, "-c", typed], check=True)
