"""ClickHouse over the spans of a fleet, through the views that `retrospan engines ddl clickhouse` prints.

    with ClickHouse.open("clickhouse://reader@host:8123/otel") as server:
        server.rows("SELECT COUNT(*) FROM http_events WHERE status = 429")

Nothing is made on the server: what a name is bound to goes before each query as a common table expression of that name. The
server reads on; a query sees what was there when it began.
"""

import re
from collections.abc import Callable
from typing import Any, Final, Self
from urllib.parse import unquote, urlsplit

from retrospan.engines.scanning import Scanning
from retrospan.record import RecordError, Row
from retrospan.text import printable
from retrospan_exporters.tables import EVENT_TABLES, RUN_INFO

_PORTS: Final = {"clickhouse": 8123, "clickhouses": 8443}
_SECONDS: Final = 300
_WORD: Final = re.compile(r"\b[a-z_]+\b")


class ClickHouse(Scanning):
    """One connection to a server."""

    _text = "unhex('{}')"

    def __init__(self, client: Any, name: str, database: str) -> None:
        self.name = name
        self._client = client
        self._close = client.close
        self._database = database
        # A summary says that a run is over, and nobody tells a collector so.
        self.tables = {table.name: table.names() for table in (*EVENT_TABLES, RUN_INFO)}
        self._bound: dict[str, str] = {}

    @classmethod
    def open(cls, url: str) -> Self:
        """Connect. Raises RecordError when the URL is none, nobody answers, or the views are not there."""
        try:
            import clickhouse_connect
        except ImportError as error:
            raise RecordError("ClickHouse needs an extra: pip install 'retrospan[clickhouse]'") from error
        name, options = _options(url)
        try:
            client = clickhouse_connect.get_client(**options, query_limit=0, send_receive_timeout=_SECONDS)
        except Exception as error:  # of several libraries, and their texts may quote the URL
            raise RecordError(
                f"{name}: ClickHouse does not answer ({type(error).__name__}): look at its address, user and password"
            ) from error
        server = cls(client, name, options["database"])
        present = {
            name
            for (name,) in server.rows(
                f"SELECT name FROM system.tables WHERE database = {server.literal(server._database)}"
            )
        }
        missing = [table for table in server.tables if table not in present]
        if missing:
            raise RecordError(
                f"{name}: has no view {missing[0]}: run what `retrospan engines ddl clickhouse --database"
                f" {printable(server._database)}` prints"
            )
        server.bind_where(lambda _: "1")
        return server

    def rows(self, sql: str) -> list[Row]:
        """All rows of one SELECT. Raises RecordError when the server does not give them."""
        try:
            rows: list[Row] = [tuple(row) for row in self._client.query(self._with(sql)).result_rows]
            return rows
        except Exception as error:
            raise RecordError(f"{self.name}: ClickHouse does not answer as it should: {_code(error)}") from error

    def columns(self, select: str) -> list[str]:
        """The names of a SELECT's columns."""
        return [str(row[0]) for row in self.rows(f"DESCRIBE ({self._with(select)})")]

    def bind_where(self, condition: Callable[[str], str]) -> None:
        """Let each event table's name mean its rows that meet a condition."""
        self._bound = {
            table.name: f"SELECT * FROM {self.base(table.name)} WHERE {condition(table.name)}" for table in EVENT_TABLES
        }

    def keep(self, select: str) -> str:
        """The SELECT itself: a server that is only read keeps nothing."""
        return f"(\n{select}\n)"

    def base(self, table: str) -> str:
        """The view of all rows of a table."""
        return f"`{self._database}`.{table}"

    def within(self, first: float | None, last: float | None) -> str:
        """The condition on `ts`."""
        bounds = [f"ts >= {first!r}"] * (first is not None) + [f"ts < {last!r}"] * (last is not None)
        return " AND ".join(bounds) or "1"

    def floor(self, number: str) -> str:
        """A whole number, as integers go over the wire."""
        return f"toInt64(floor({number}))"

    def _with(self, sql: str) -> str:
        """A query after what the names in it are bound to; what is qualified by the database is not."""
        if sql.startswith(("DESCRIBE", "WITH")):
            return sql
        named = set(_WORD.findall(sql.replace(f"`{self._database}`.", "`.")))
        bound = ", ".join(f"{name} AS ({select})" for name, select in self._bound.items() if name in named)
        return f"WITH {bound} {sql}" if bound else sql


def _options(url: str) -> tuple[str, dict[str, Any]]:
    """What a server is called, without credentials, and how to connect. Raises RecordError for what is no such URL."""
    try:
        parts = urlsplit(url)
        port = parts.port or _PORTS[parts.scheme]
        host = parts.hostname
    except (ValueError, KeyError):
        host = None
    if not host:
        raise RecordError("the URL is none of ClickHouse's: say clickhouse://USER:PASSWORD@HOST:8123/DATABASE")
    database = unquote(parts.path.strip("/")) or "otel"
    if "`" in database or "\\" in database:
        raise RecordError("the URL names no database: say clickhouse://HOST/DATABASE")
    options: dict[str, Any] = {
        "host": host,
        "port": port,
        "secure": parts.scheme == "clickhouses",
        "database": database,
    }
    if parts.username:
        options |= {"username": unquote(parts.username), "password": unquote(parts.password or "")}
    return printable(f"{parts.scheme}://{host}:{port}/{database}"), options


def _code(error: Exception) -> str:
    """ClickHouse's code and name of an error, since its text quotes the query; else its class."""
    found = re.search(r"[Cc]ode: (\d+).*?\(([A-Z_]+)\)", str(error), re.DOTALL)
    return f"code {found[1]}, {found[2]}" if found else type(error).__name__
