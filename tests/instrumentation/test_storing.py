"""Promises of RETROSPAN_DOWNLOAD: what a storing function returns or raises is a download."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from retrospan_instrumentation import semconv as sc
from retrospan_instrumentation import surround
from retrospan_instrumentation.api import resolution

from . import orchestrators
from .conftest import Hooked, Spans
from .orchestrators import RESULTS

MODULE = orchestrators.__name__
IDS = (sc.DOWNLOAD_ARTIFACT_ID, sc.DOWNLOAD_WORK_ID)
CONTEXT = {"artifact_id": "A1", "work_id": "W1"}
DIGEST = "ab" * 32


@pytest.mark.parametrize(
    ("result", "facts"),
    [
        (
            {"sha256": DIGEST, "path": Path("/p/a.pdf"), "content_length": 7, "dedupe_action": "copy"},
            ("stored", None, DIGEST, "/p/a.pdf", 7, "copy"),
        ),
        (
            type("R", (), {"sha256": DIGEST, "final_path": "/p/a.pdf", "content_length": 7})(),
            ("stored", None, DIGEST, "/p/a.pdf", 7, "none"),
        ),
        ({"sha256": DIGEST, "final_path": "/p/a.pdf", "path": "/tmp/x"}, ("stored", None, DIGEST, "/p/a.pdf", None, "none")),
        (None, ("failed", "no_file", None, None, None, None)),
        ({"reason": "truncated"}, ("failed", "truncated", None, None, None, None)),
        (ValueError("SECRET"), ("failed", "ValueError", None, None, None, None)),
    ],
)  # fmt: skip
def test_what_a_storing_function_returns_or_raises_is_a_download(
    spans: Spans, hooked: Hooked, result: Any, facts: tuple[Any, ...]
) -> None:
    hooked(download="store")
    RESULTS.append(result)
    if isinstance(result, Exception):
        with pytest.raises(ValueError, match="SECRET"):
            orchestrators.store("https://SECRET/", artifact_id="A1")
    else:
        assert orchestrators.store("https://SECRET/", artifact_id="A1") is result
    keys = (sc.DOWNLOAD_REASON, sc.DOWNLOAD_SHA256, sc.DOWNLOAD_FINAL_PATH, sc.DOWNLOAD_CONTENT_LENGTH)
    assert spans.facts("download", sc.DOWNLOAD_OUTCOME, *keys, sc.DOWNLOAD_DEDUPE_ACTION) == [facts]
    assert spans.facts("download", sc.DOWNLOAD_ARTIFACT_ID) == ["A1"]
    assert "SECRET" not in spans.all()[0].to_json()


def test_ids_of_a_download_come_from_arguments_or_result_else_the_last_resolution(spans: Spans, hooked: Hooked) -> None:
    hooked(download="store")
    RESULTS.extend([{"sha256": DIGEST}, {"sha256": DIGEST, "artifact_id": "A2", "work_id": "W2"}, {"sha256": DIGEST}])
    with resolution("A0", "W0"):
        orchestrators.store("", artifact_id="A1")
        orchestrators.store("")
    orchestrators.store("")
    assert spans.facts("download", *IDS) == [("A1", "W0"), ("A2", "W2"), ("A0", "W0")]


def test_a_storing_function_alone_is_no_fallback(spans: Spans, hooked: Hooked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(surround, "layers", set())
    hooked(download="store")
    RESULTS.append(None)
    orchestrators.store("")
    assert surround.layers == {"download"}


def test_methods_and_coroutine_functions_store_too(spans: Spans, hooked: Hooked) -> None:
    RESULTS.extend([{"sha256": DIGEST}] * 4)
    for name in ("Store.keep", "Store.keep_static", "Store.keep_class"):
        hooked(download=f"{MODULE}:{name}")
        getattr(orchestrators.Store(), name.partition(".")[2])("A1")
    hooked(download="store_async")
    asyncio.run(orchestrators.store_async("", context=CONTEXT))
    assert spans.facts("download", sc.DOWNLOAD_ARTIFACT_ID, sc.DOWNLOAD_OUTCOME) == [("A1", "stored")] * 4


def test_a_download_inside_an_attempt_makes_it_a_success(spans: Spans, hooked: Hooked) -> None:
    hooked("Base", "store")
    RESULTS.append({"sha256": DIGEST, "path": "/p/a.pdf"})

    def adapter(policy: Any, context: Any) -> None:
        orchestrators.store("")

    orchestrators.Base().resolve(CONTEXT, {"mirror": adapter})
    keys = (*IDS, sc.FALLBACK_TIER, sc.FALLBACK_SOURCE, sc.FALLBACK_OUTCOME)
    assert spans.facts("fallback.attempt", *keys) == [("A1", "W1", "mirrors", "mirror", "success")]
    assert spans.facts("download", *IDS, sc.FALLBACK_SOURCE) == [("A1", "W1", "mirror")]
