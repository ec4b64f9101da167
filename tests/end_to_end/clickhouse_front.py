"""ClickHouse's HTTP interface, as much of it as a Collector's INSERTs and clickhouse-connect's SELECTs use, over chDB.

    python clickhouse_front.py DIRECTORY        # tells its port on stdout, serves until stdin ends

For tests alone: the engine is the real one, in process, and what stands before it is this. One request at a time.
"""

import json
import os
import re
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import chdb
from chdb import session


class Front(BaseHTTPRequestHandler):
    """Each request is one query: that of the URL, before that of the body."""

    engine: session.Session
    folder: Path

    def do_GET(self) -> None:
        self.answer()

    def do_POST(self) -> None:
        self.answer()

    def log_message(self, *_: Any) -> None:
        pass

    def answer(self) -> None:
        asked = {name: values[-1] for name, values in parse_qs(urlsplit(self.path).query).items()}
        body = self.body()
        try:
            self.engine.query(f"USE `{asked.get('database', 'default')}`")
            said = self.insert(asked, body) if "INSERT" in asked.get("query", "") else self.select(asked, body)
            status = 200
        except Exception as error:  # chDB raises RuntimeError, with ClickHouse's text
            said, status = str(error).encode(), 500
        self.send_response(status)
        if status != 200:
            code = re.search(rb"Code: (\d+)", said)
            self.send_header("X-ClickHouse-Exception-Code", code[1].decode() if code else "1002")
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def body(self) -> bytes:
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            parts = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def insert(self, asked: dict[str, str], body: bytes) -> bytes:
        if asked.get("decompress") == "1":
            body = decompressed(body)
        with tempfile.NamedTemporaryFile(dir=self.folder) as file:
            file.write(body)
            file.flush()
            found = re.fullmatch(r"\s*(INSERT INTO .*?)\s+FORMAT\s+(\w+)\s*", asked["query"], re.DOTALL)
            assert found is not None, asked["query"]
            self.engine.query(f"{found[1]} FROM INFILE '{file.name}' FORMAT {found[2]}")
        return b""

    def select(self, asked: dict[str, str], body: bytes) -> bytes:
        query = asked.get("query") or body.decode()
        if not query:
            return b"Ok.\n"
        form = re.search(r"\bFORMAT\s+(\w+)\s*;?\s*$", query)
        text = query[: form.start()] if form else query
        return bytes(self.engine.query(text, form[1] if form else asked.get("default_format", "TabSeparated")).bytes())


def decompressed(body: bytes) -> bytes:
    """ClickHouse's compressed blocks: 16 bytes of checksum, 0x82 (LZ4), both sizes, the block; one after the other."""
    blocks, at = [], 0
    while at < len(body):
        assert body[at + 16] == 0x82, "LZ4 blocks only"
        size, raw = (int.from_bytes(body[at + n : at + n + 4], "little") for n in (17, 21))
        blocks.append(lz4(body[at + 25 : at + 16 + size], raw))
        at += 16 + size
    return b"".join(blocks)


def lz4(block: bytes, size: int) -> bytes:
    """One LZ4 block, by its description: literals, then a copy of what was there before, again and again."""
    made, at = bytearray(), 0
    while at < len(block):
        token = block[at]
        literals, at = length(block, at + 1, token >> 4)
        made += block[at : at + literals]
        at += literals
        if at >= len(block):
            break
        back = int.from_bytes(block[at : at + 2], "little")
        copied, at = length(block, at + 2, token & 15)
        for _ in range(copied + 4):
            made.append(made[-back])
    assert len(made) == size
    return bytes(made)


def length(block: bytes, at: int, nibble: int) -> tuple[int, int]:
    """A length that goes on while its bytes are 255, and where it ends."""
    if nibble == 15:
        while block[at] == 255:
            nibble, at = nibble + 255, at + 1
        nibble, at = nibble + block[at], at + 1
    return nibble, at


def main() -> None:
    folder = Path(sys.argv[1])
    Front.engine, Front.folder = session.Session(str(folder / "chdb")), folder
    server = HTTPServer(("127.0.0.1", 0), Front)
    # At once: what chDB does when its process ends in order is of no use here.
    threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
    print(json.dumps({"port": server.server_port, "version": chdb.engine_version}), flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
