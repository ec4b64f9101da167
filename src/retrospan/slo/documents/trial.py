"""Trying the queries of definitions before there is a run: on an empty record, or on one that is named.

    try_queries(load(["slo.toml"]).slos, problems)

Finds what SQLite, the authorizer and the contract of the columns have to say; the contract of the rows shows on rows.
"""

import os
import sqlite3
from collections.abc import Iterable

from retrospan.record import Record, read
from retrospan.slo.definitions import SLO
from retrospan.slo.documents.places import Node, Place, Problems
from retrospan.slo.user_sql import QueryError, gather
from retrospan_exporters import tables

_BOUNDS = {"run_id": None, "date_from": None, "date_to": None}


def try_queries(slos: Iterable[SLO], problems: Problems, db: str | os.PathLike[str] | None = None) -> None:
    """Run the queries for no run, and tell what is wrong with them. Raises RecordError when `db` cannot be read."""
    own = [slo for slo in slos if slo.sli.queries]
    if not own:
        return
    if db is not None:
        read(db, lambda record: _try(record, own, problems))
        return
    connection = sqlite3.connect(":memory:", isolation_level=None)
    try:
        connection.executescript(tables.ddl())
        _try(Record(connection, ":memory:"), own, problems)
    finally:
        connection.close()


def _try(record: Record, slos: Iterable[SLO], problems: Problems) -> None:
    record.bind(None)
    for slo in slos:
        try:
            gather(record, slo.sli, _BOUNDS)
        except QueryError as error:
            query = error.query
            problems.error(Node(None, Place(query.file, query.line, query.column), query.path), error.said)
