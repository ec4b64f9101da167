"""The HTTP server of both endpoints: what it answers, to whom, and what it does not."""

import http.client
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from scrapes import free_port, scrape

from retrospan.prometheus.server import Page, Server

PAGE = b"# HELP a A\n# TYPE a gauge\na 1\n"


@contextmanager
def serving(
    page: Callable[[], Page | None] = lambda: Page(PAGE), is_healthy: Callable[[], bool] = lambda: True
) -> Iterator[int]:
    port = free_port()
    server = Server("127.0.0.1", port, page, is_healthy)
    server.start()
    try:
        yield port
    finally:
        server.shutdown()
        server.server_close()


def test_a_page_is_served_as_it_is_or_compressed_as_the_client_accepts() -> None:
    with serving() as port:
        plain, packed = scrape(port), scrape(port, **{"Accept-Encoding": "deflate, gzip"})
    assert (plain.status, plain.body, plain.text) == (200, PAGE, PAGE.decode())
    assert plain.headers["content-type"] == packed.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert (packed.headers["content-encoding"], packed.text) == ("gzip", PAGE.decode())
    assert plain.headers["server"] == "retrospan"


@pytest.mark.parametrize("path", ["/", "/metrics/", "/metrics2", "/favicon.ico", "/-/quit"])
def test_no_path_but_two_is_there(path: str) -> None:
    with serving() as port:
        assert scrape(port, path).status == 404
        assert scrape(port, f"{path}?x=/metrics").status == 404


def test_only_reading_is_answered() -> None:
    with serving() as port:
        assert scrape(port, method="HEAD").headers["content-length"] == str(len(PAGE))
        assert scrape(port, method="HEAD").body == b""
        assert scrape(port, method="POST").status == 501


def test_without_a_page_to_trust_a_scrape_fails_and_health_is_told_by_itself() -> None:
    with serving(lambda: None, lambda: False) as port:
        assert scrape(port).status == 503
        assert (scrape(port, "/healthz").status, scrape(port, "/healthz").body) == (503, b"stale\n")
    with serving() as port:
        assert (scrape(port, "/healthz").status, scrape(port, "/healthz").body) == (200, b"ok\n")


def test_a_page_that_cannot_be_rendered_is_that_scrapes_failure_alone(caplog: pytest.LogCaptureFixture) -> None:
    pages = iter([ValueError("secret"), Page(PAGE)])

    def page() -> Page:
        found = next(pages)
        if isinstance(found, Exception):
            raise found
        return found

    with serving(page) as port:
        failed = scrape(port)
        assert failed.status == 500
        assert scrape(port).status == 200
    assert caplog.messages == ["The metrics cannot be rendered (ValueError): this scrape has none."]
    assert b"secret" not in failed.body


def test_a_connection_serves_many_scrapes_and_pages_are_rendered_one_at_a_time() -> None:
    at_once, most, lock = [0], [0], threading.Lock()

    def page() -> Page:
        with lock:
            at_once[0] += 1
            most[0] = max(most[0], at_once[0])
        threading.Event().wait(0.005)
        with lock:
            at_once[0] -= 1
        return Page(PAGE)

    def ask(port: int, answers: list[bytes]) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        for _ in range(5):
            connection.request("GET", "/metrics")
            answers.append(connection.getresponse().read())
        connection.close()

    answers: list[bytes] = []
    with serving(page) as port:
        threads = [threading.Thread(target=ask, args=(port, answers)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
    assert answers == [PAGE] * 20
    assert most == [1]


def test_more_connections_than_it_keeps_are_closed_and_the_others_go_on() -> None:
    with serving() as port:
        kept = [socket.create_connection(("127.0.0.1", port), timeout=10) for _ in range(64)]
        try:
            for connection in kept:
                connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
                assert connection.recv(12) == b"HTTP/1.1 200"
            with socket.create_connection(("127.0.0.1", port), timeout=10) as refused:
                assert refused.recv(1) == b""
        finally:
            for connection in kept:
                connection.close()


def test_what_is_no_http_disturbs_nobody(capfd: pytest.CaptureFixture[str]) -> None:
    with serving() as port:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            connection.sendall(b"\x16\x03\x01<script>\r\n\r\n")
            assert b"<script>" not in connection.recv(4096)
        assert scrape(port).status == 200
    assert capfd.readouterr() == ("", "")
