"""The parts of the example downloader, each by itself: breakers, waits that servers ask for, DOIs, the store."""

from pathlib import Path

import pytest

from .example import artifacts, faults, guards, pdf_of, settings, store, wait_for


def test_an_open_breaker_lets_a_trial_pass_after_a_while_and_closes_when_that_succeeds() -> None:
    def fail() -> None:
        with guarded.breaker("host", "artifact").calling():
            raise faults.ServerFault("http_500", 500)

    guarded = guards.Guards(settings.Settings(breaker_failures=2, breaker_reset=0.05))
    for refused_after in (False, True):
        with pytest.raises(faults.ServerFault):
            fail()
        assert guarded.refuses("host", "artifact") is refused_after
    assert not guarded.refuses("host", "metadata")
    wait_for(lambda: not guarded.refuses("host", "artifact"))
    with guarded.breaker("host", "artifact").calling():
        pass
    assert guarded.breaker("host", "artifact").current_state == "closed"


@pytest.mark.parametrize("fault", faults.NOT_THE_HOSTS_FAULT)
def test_what_is_not_the_hosts_fault_opens_no_breaker(fault: type[faults.Fault]) -> None:
    guarded = guards.Guards(settings.Settings(breaker_failures=1))
    with pytest.raises(fault), guarded.breaker("host", "artifact").calling():
        raise fault("reason")
    assert not guarded.refuses("host", "artifact")


def test_retry_after_is_understood_in_both_forms_and_ignored_in_none() -> None:
    now = 784_111_777.0  # Sun, 06 Nov 1994 08:49:37 GMT
    assert faults.retry_after("3", now) == 3.0
    assert faults.retry_after("Sun, 06 Nov 1994 08:49:40 GMT", now) == 3.0
    assert faults.retry_after("Sun, 06 Nov 1994 08:49:30 GMT", now) == 0.0
    assert faults.retry_after("soon", now) is None
    assert faults.retry_after(None, now) is None


def test_dois_are_one_work_however_they_are_written() -> None:
    lines = ["10.5555/AbC", "doi:10.5555/abc", "https://doi.org/10.5555%2Fabc", "# no", "", "https://example.org/a.pdf"]
    doi, url = artifacts.works_of(lines, ("vor", "am"))
    assert [artifact.artifact_id for artifact in doi] == ["10.5555/abc:vor", "10.5555/abc:am"]
    assert [(artifact.url, artifact.version) for artifact in url] == [("https://example.org/a.pdf", "vor")]


def test_the_store_names_an_artifact_again_without_a_second_object(tmp_path: Path) -> None:
    def stored(artifact: str, number: int) -> store.Stored:
        with store.staging(tmp_path) as staged:
            staged.write(pdf_of(number))
            return store.store(staged, artifact, "work", root=tmp_path, expected_length=len(pdf_of(number)))

    actions = [stored(artifact, n).dedupe_action for artifact, n in [("a", 1), ("b", 1), ("a", 1), ("a", 2)]]
    assert actions == ["none", "hardlink", "skipped", "none"]
    assert (tmp_path / "by-artifact" / "a.pdf").read_bytes() == pdf_of(2)
    assert len(list((tmp_path / "objects").rglob("*.pdf"))) == 2


@pytest.mark.parametrize(
    ("content", "length", "fault", "reason"),
    [
        (pdf_of(1)[:-300], None, faults.TruncatedFile, "no_eof"),
        (pdf_of(1)[:-1], len(pdf_of(1)), faults.TruncatedFile, "length_differs"),
        (b"<html>", None, faults.NotAPdf, "html"),
        (b"", None, faults.NotAPdf, "not_pdf"),
    ],
)
def test_the_store_refuses_what_is_no_whole_pdf(
    tmp_path: Path, content: bytes, length: int | None, fault: type[faults.RefusedFile], reason: str
) -> None:
    with store.staging(tmp_path) as staged:
        staged.write(content)
        with pytest.raises(fault) as refusal:
            store.store(staged, "a", "work", root=tmp_path, expected_length=length)
    assert refusal.value.reason == reason
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
