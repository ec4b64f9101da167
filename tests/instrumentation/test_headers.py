"""Promises of looking at headers: the private list and the public methods say the same, and what is put there is there once,
where the library itself would put it."""

from importlib import import_module
from typing import Any

import pytest

from retrospan_instrumentation import headers

SENT = [("Accept", "a"), ("X-Retry-Count", "2"), ("accept", "b"), ("Content-Type", "text/html; charset=utf-8")]


class Unknown:
    """Headers that keep no list that we know."""

    def __init__(self, kept: Any) -> None:
        self._kept = kept

    @property
    def raw(self) -> Any:
        return self._kept.raw

    def __setitem__(self, name: str, value: str) -> None:
        self._kept[name] = value


@pytest.fixture(params=["httpx", "httpx2"])
def library(request: pytest.FixtureRequest) -> Any:
    module = import_module(request.param)
    headers.learn(module.Headers)
    return module


@pytest.mark.parametrize("wrap", [lambda kept: kept, Unknown])
def test_all_headers_are_listed_as_sent_and_in_lower_case(library: Any, wrap: Any) -> None:
    listed = headers.listed(wrap(library.Headers(SENT)))
    assert list(listed) == [(name.encode(), name.lower().encode(), value.encode()) for name, value in SENT]
    assert headers.value_of(listed, b"accept") == "a, b"
    assert headers.value_of(listed, b"content-type") == "text/html; charset=utf-8"
    assert headers.value_of(listed, b"date") is None


@pytest.mark.parametrize("wrap", [lambda kept: kept, Unknown])
@pytest.mark.parametrize("there", [[], [("TraceParent", "old")], [("traceparent", "old"), ("Traceparent", "older")]])
def test_a_header_that_is_put_is_there_once(library: Any, wrap: Any, there: list[tuple[str, str]]) -> None:
    kept = library.Headers([*SENT, *there])
    headers.put(wrap(kept), b"traceparent", b"new")
    assert kept.get_list("traceparent") == ["new"]
    by_itself = library.Headers([*SENT, *there])
    by_itself["traceparent"] = "new"
    assert kept.raw == by_itself.raw


def test_a_list_of_another_shape_is_left_to_the_public_methods(library: Any) -> None:
    class Newer(library.Headers):  # type: ignore[misc, name-defined]
        def __init__(self, sent: Any) -> None:
            super().__init__(sent)
            self._list = [(name, value) for name, _, value in self._list]

        @property
        def raw(self) -> Any:
            return self._list

    headers.learn(Newer)
    assert headers.listed(Newer([("Name", "value")])) == [(b"Name", b"name", b"value")]
