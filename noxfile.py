"""The versions that hooks are known to work with: `make test-matrix` runs all, CI a pairwise subset (`nox -t fast`).

Each session installs one set of releases beside the locked rest, and runs the tests that are written for every release:
tests/instrumentation/test_versions.py.
"""

import nox

nox.options.default_venv_backend = "uv"
nox.options.error_on_missing_interpreters = True

PYTHONS = ("3.11", "3.12", "3.13")
# One value a library and session; "" leaves the library out. Oldest and newest supported, and what lies between for hishel.
# fmt: off
SETS = {
    "oldest": ("httpx==0.28.0", "httpx2==2.0.0", "hishel==0.1.5", "tenacity==8.5.0", "pyrate-limiter==3.9.0", "pybreaker==1.0.0"),
    "newest": ("httpx==0.28.1", "httpx2==2.16.2", "hishel[async]==2.0.0", "tenacity==9.2.1", "pyrate-limiter==4.5.1", "pybreaker==1.4.1"),
    "old-cache": ("httpx==0.28.1", "", "hishel==0.1.5", "tenacity==9.2.1", "pyrate-limiter==3.9.0", "pybreaker==1.4.1"),
    "middle-cache": ("httpx==0.28.1", "httpx2==2.16.2", "hishel[async]==1.4.0", "tenacity==8.5.0", "pyrate-limiter==4.5.1", "pybreaker==1.0.0"),
    "new-cache": ("httpx==0.27.0", "httpx2==2.0.0", "hishel[async]==2.0.0", "tenacity==8.5.0", "pyrate-limiter==3.9.0", "pybreaker==1.4.1"),
}
# fmt: on
# Every pair of neighbours that the sets know, and every Python, at least once.
FAST = {("oldest", "3.11"), ("newest", "3.13"), ("middle-cache", "3.12"), ("new-cache", "3.13")}
NEEDED = (
    "opentelemetry-sdk>=1.44",
    "opentelemetry-instrumentation>=0.65b0",
    "wrapt>=1.17",
    "packaging",
    "pytest",
    "pytest-timeout",
    "hypothesis",
    "trio",
)


def versions(session: nox.Session, name: str) -> None:
    """Run the tests of every release with one set of them."""
    session.install(*NEEDED, *(release for release in SETS[name] if release))
    session.install("--no-deps", ".")
    session.run("python", "-m", "pytest", "tests/instrumentation/test_versions.py")


for python in PYTHONS:
    for name in SETS:

        @nox.session(python=python, name=f"{name}-{python}", tags=["fast"] if (name, python) in FAST else ["all"])
        def _session(session: nox.Session, name: str = name) -> None:
            versions(session, name)
