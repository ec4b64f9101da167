"""A real nginx on loopback, with a configuration of the tests and an access log that is the truth.

with Nginx(folder) as nginx:
    httpx2.get(nginx.url("/etag"))
nginx.log()[0]["status"]
"""

import json
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

BIG = json.dumps([{"number": number, "text": "x" * 50} for number in range(2000)])
ETAG_BODY = '{"kept": true}'

_CONFIGURATION = """
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
events {{ worker_connections 64; }}
http {{
    log_format truth escape=json '{{"status":$status,"traceparent":"$http_traceparent","path":"$request_uri",'
        '"method":"$request_method","cache":"$upstream_cache_status","protocol":"$server_protocol","bytes":$body_bytes_sent,'
        '"encoding":"$sent_http_content_encoding"}}';
    access_log {folder}/access.log truth;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    proxy_cache_path {folder}/cache keys_zone=kept:1m;
    limit_req_zone $server_addr zone=polite:1m rate=1r/s;
    default_type application/json;
    server {{
        listen 127.0.0.1:{port};
        listen 127.0.0.1:{tls_port} ssl http2;
        ssl_certificate {folder}/cert.pem;
        ssl_certificate_key {folder}/key.pem;
        root {folder}/files;
        location = /etag {{ add_header Cache-Control "max-age=0"; try_files /etag.json =404; }}
        location = /limited {{
            limit_req zone=polite; limit_req_status 429; error_page 429 = @busy; try_files /etag.json =404;
        }}
        location @busy {{ internal; add_header Retry-After 3 always; return 429 '{{"busy":true}}'; }}
        location = /zipped {{ gzip on; gzip_types application/json; gzip_min_length 1; try_files /big.json =404; }}
        location = /broken {{ error_page 500 502 503 /sorry.html; return 503; }}
        location = /sorry.html {{ internal; default_type text/html; return 503 '<p>sorry</p>'; }}
        location = /gone {{ return 444; }}
        location = /moved {{ return 302 /etag; }}
        location = /proxied {{
            proxy_cache kept; proxy_cache_valid 200 1m; proxy_set_header traceparent ""; proxy_pass http://127.0.0.1:{port}/etag;
            proxy_ignore_headers Cache-Control;
        }}
    }}
}}
"""


class Nginx:
    """The server, while it runs."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.port, self.tls_port = _free_port(), _free_port()

    def __enter__(self) -> "Nginx":
        files = self._folder / "files"
        files.mkdir(parents=True)
        (files / "etag.json").write_text(ETAG_BODY)
        (files / "big.json").write_text(BIG)
        self._folder.chmod(0o755)
        certificate = ["-keyout", self._folder / "key.pem", "-out", self._folder / "cert.pem"]
        made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"]
        subprocess.run([*made, "-addext", "subjectAltName=IP:127.0.0.1", *certificate], capture_output=True, check=True)
        configuration = self._folder / "nginx.conf"
        configuration.write_text(
            "user root;\n" + _CONFIGURATION.format(folder=self._folder, port=self.port, tls_port=self.tls_port)
        )
        self._server = subprocess.Popen(["/usr/sbin/nginx", "-e", self._folder / "error.log", "-c", configuration])
        deadline = time.monotonic() + 10
        while not _answers(self.port):
            assert self._server.poll() is None, (self._folder / "error.log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        return self

    def __exit__(self, *raised: object) -> None:
        self._server.terminate()
        self._server.wait(10)

    @property
    def certificate(self) -> str:
        return str(self._folder / "cert.pem")

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def tls_url(self, path: str) -> str:
        return f"https://127.0.0.1:{self.tls_port}{path}"

    def log(self, count: int) -> list[dict[str, Any]]:
        """The log, once it has so many lines of requests that bear a `traceparent`."""
        deadline = time.monotonic() + 10
        while True:
            lines = [json.loads(line) for line in (self._folder / "access.log").read_text().splitlines()]
            lines = [line for line in lines if line["traceparent"]]
            if len(lines) >= count:
                return lines
            assert time.monotonic() < deadline, lines
            time.sleep(0.02)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
