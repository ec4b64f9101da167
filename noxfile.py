"""The versions that hooks and our provider are known to work with: `make test-matrix` runs all, CI a subset (`nox -t fast`).

Each session installs one set of releases, and runs the tests that are written for every release: of the libraries
tests/instrumentation/test_versions.py, of the SDK those that compare our provider with its own, and the hooks' on both.
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
# The SDK with its API, oldest and newest supported.
SDKS = {
    "oldest": (
        "opentelemetry-sdk==1.44.0",
        "opentelemetry-exporter-otlp-proto-common==1.44.0",
        "opentelemetry-instrumentation==0.65b0",
    ),
    "newest": (
        "opentelemetry-sdk==1.45.2",
        "opentelemetry-exporter-otlp-proto-common==1.45.2",
        "opentelemetry-instrumentation==0.66b2",
    ),
}
FAST_SDKS = {("oldest", "3.11"), ("newest", "3.13")}
HOOKS = "tests/instrumentation/test_versions.py"
PROVIDER = tuple(
    f"tests/exporters/test_{name}.py" for name in ("provider", "provider_calls", "use_fast_spans", "sdk_privates")
)
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


def install(session: nox.Session, *releases: str) -> None:
    """These releases, what the tests need, and this distribution."""
    session.install(*NEEDED, *(release for release in releases if release))
    session.install("--no-deps", ".")


for python in PYTHONS:
    for name in SETS:

        @nox.session(python=python, name=f"{name}-{python}", tags=["fast"] if (name, python) in FAST else ["all"])
        def _libraries(session: nox.Session, name: str = name) -> None:
            """Run the tests of every release with one set of the libraries."""
            install(session, *SETS[name])
            session.run("python", "-m", "pytest", HOOKS)

    for name in SDKS:

        @nox.session(
            python=python, name=f"sdk-{name}-{python}", tags=["fast"] if (name, python) in FAST_SDKS else ["all"]
        )
        def _sdk(session: nox.Session, name: str = name) -> None:
            """Compare our provider with this SDK's own, and run the hooks on both."""
            install(session, *SDKS[name], *SETS["newest"])
            session.run("python", "-m", "pytest", *PROVIDER, HOOKS)
            session.run("python", "-m", "pytest", HOOKS, env={"RETROSPAN_FAST_SPANS": "0"})
