"""Trying the queries of definitions before there is a run: on an empty record, or on one that is named.

    try_queries(load(["slo.toml"]).slos, problems)

Finds what SQLite, the authorizer and the contract of the columns have to say; the contract of the rows shows on the rows
of the latest run of a record that is named.
"""

import os
import sqlite3
from collections.abc import Iterable

from retrospan.record import Record, read
from retrospan.runs import LATEST, Run, find
from retrospan.slo.definitions import SLO
from retrospan.slo.documents.places import Node, Place, Problems
from retrospan.slo.user_sql import QueryError, gather
from retrospan.slo.windows import Scope
from retrospan_exporters import tables


def try_queries(slos: Iterable[SLO], problems: Problems, db: str | os.PathLike[str] | None = None) -> None:
    """Run the queries, for the latest run of `db` if there is one, and tell what is wrong with them.

    Raises RecordError when `db` cannot be read.
    """
    own = [slo for slo in slos if slo.sli.queries]
    if not own:
        return
    if db is not None:
        read(db, lambda record: _try(record, find(record, LATEST), own, problems))
        return
    connection = sqlite3.connect(":memory:", isolation_level=None)
    try:
        connection.executescript(tables.ddl())
        _try(Record(connection, ":memory:"), None, own, problems)
    finally:
        connection.close()


def _try(record: Record, run: Run | None, slos: Iterable[SLO], problems: Problems) -> None:
    scope = Scope.of(run)
    record.bind(None if run is None else run.run_id)
    for slo in slos:
        try:
            gather(record, slo.sli, scope.bounds())
        except QueryError as error:
            query = error.query
            problems.error(Node(None, Place(query.file, query.line, query.column), query.path), error.said)
