"""Promises about what a name or a media type says: a host, a role, a scope, or nothing."""

from collections.abc import Iterator

import pytest

from retrospan_instrumentation import mapping, surround


@pytest.mark.parametrize(
    ("name", "host", "role", "scope"),
    [
        ("api.crossref.org", "api.crossref.org", None, "host"),
        ("api.crossref.org:metadata", "api.crossref.org", "metadata", "host"),
        ("API.Crossref.org:Artifact", "api.crossref.org", "artifact", "host"),
        ("127.0.0.2:landing", "127.0.0.2", "landing", "host"),
        ("127.0.0.2:8080", "127.0.0.2", None, "host"),
        ("localhost", "localhost", None, "host"),
        ("unpaywall", None, None, "resolver"),
        ("unpaywall:metadata", None, "metadata", "resolver"),
        ("metadata", None, "metadata", "resolver"),
        ("", None, None, "host"),
        (".hidden", None, None, "resolver"),
        ("a file.pdf", None, None, "resolver"),
        ("https://user:secret@API.example.org:8443/path?key=secret", "api.example.org", None, "host"),
        ("user@example.org", None, None, "resolver"),
    ],
)
def test_a_name_says_host_role_and_scope(name: str, host: str | None, role: str | None, scope: str) -> None:
    assert (mapping.host_of(name), mapping.role_of(name), mapping.scope_of(name)) == (host, role, scope)


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("api.crossref.org:metadata", "api.crossref.org:metadata"),
        ("the slow API", "the slow API"),
        ("x" * 1000, "x" * 256),
        ("https://user:secret@api.example.org/path?key=secret", "api.example.org"),
        ("api.example.org/path?key=secret", None),
        ("user:secret@example.org", None),
        ("/works?key=secret", None),
    ],
)
def test_of_a_url_or_a_part_of_one_nothing_but_the_host_is_recorded(name: str, label: str | None) -> None:
    assert mapping.label_of(name) == label


def test_a_name_of_any_length_is_read_in_bounded_time_and_space() -> None:
    assert len(mapping.host_of("a." * 1_000_000) or "") <= 256
    assert mapping.role_of("x" * 1_000_000 + ":metadata") == "metadata"


@pytest.mark.parametrize(
    ("media_type", "role"),
    [
        ("application/pdf", "artifact"),
        ("APPLICATION/PDF; version=1.7", "artifact"),
        ("image/png", "artifact"),
        ("text/html", "landing"),
        ("application/xhtml+xml", "landing"),
        ("application/json", "metadata"),
        ("application/problem+json", "metadata"),
        ("application/atom+xml; charset=utf-8", "metadata"),
        ("text/plain", None),
        ("", None),
        (None, None),
    ],
)
def test_a_media_type_says_a_role_or_nothing(media_type: str | None, role: str | None) -> None:
    assert mapping.role_of_media_type(media_type) == role


class Ours(mapping.Mapper):
    def host(self, name: str) -> str | None:
        return {"cr": "api.crossref.org", "bad": "https://secret.example/path"}.get(name) or super().host(name)

    def role(self, name: str) -> str | None:
        if name == "fails":
            raise LookupError("secret")
        return "metadata" if name == "cr" else "nonsense"

    def scope(self, name: str) -> str | None:
        return "resolver" if name == "cr" else None

    def role_of_media_type(self, media_type: str) -> str | None:
        return "artifact" if media_type == "text/html" else super().role_of_media_type(media_type)


@pytest.fixture
def ours() -> Iterator[None]:
    assert mapping.host_of("cr") is None  # remembered, and asked again
    mapping.use(Ours())
    yield
    mapping.use(None)


@pytest.mark.usefixtures("ours")
def test_a_programs_own_mapper_is_asked_and_the_built_in_one_says_the_rest() -> None:
    assert (mapping.host_of("cr"), mapping.role_of("cr"), mapping.scope_of("cr")) == (
        "api.crossref.org",
        "metadata",
        "resolver",
    )
    assert mapping.host_of("api.example.org:metadata") == "api.example.org"
    assert mapping.role_of_media_type("text/html; charset=utf-8") == "artifact"
    assert mapping.role_of_media_type("application/json") == "metadata"


@pytest.mark.usefixtures("ours")
def test_what_a_mapper_may_not_say_is_not_recorded() -> None:
    assert (mapping.host_of("bad"), mapping.role_of("other"), mapping.scope_of("other")) == (None, None, "host")


@pytest.mark.usefixtures("ours")
def test_a_mapper_that_fails_is_told_of_once_and_the_built_in_one_answers(caplog: pytest.LogCaptureFixture) -> None:
    surround.faults.clear()
    assert mapping.role_of("fails") is None
    mapping.use(Ours())
    assert mapping.role_of("fails") is None
    assert caplog.text.count("LookupError") == 1
    assert "secret" not in caplog.text
    surround.faults.clear()
