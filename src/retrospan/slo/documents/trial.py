"""Trying the queries of definitions before there is a run: on an empty record, or on one that is named.

    try_queries(compiled(["slo.toml"], problems), problems)

Finds what SQLite, the authorizer and the contract of the columns have to say; the contract of the rows shows on the rows
of the latest run of a record that is named.
"""

import os
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from retrospan.record import Record, read
from retrospan.runs import LATEST, Run, find
from retrospan.slo.definitions import SLI, SLO
from retrospan.slo.documents.places import Node, Place, Problems
from retrospan.slo.user_sql import QueryError, copied, gather
from retrospan.slo.windows import Scope
from retrospan_exporters import tables


def try_queries(slos: Iterable[SLO], problems: Problems, db: str | os.PathLike[str] | None = None) -> None:
    """Run the queries, for the latest run of `db` if there is one, and tell what is wrong with them.

    Those of objectives that are left out, since something else is wrong with them, are run as well. Raises RecordError
    when `db` cannot be read.
    """
    if not problems.queries:
        return
    pairs = [slo.sli for slo in slos if len(slo.sli.queries) > 1]
    if db is not None:
        read(db, lambda record: _try(record, find(record, LATEST), pairs, problems))
        return
    connection = sqlite3.connect(":memory:", isolation_level=None)
    try:
        connection.executescript(tables.ddl())
        _try(Record(connection, ":memory:"), None, pairs, problems)
    finally:
        connection.close()


def _try(record: Record, run: Run | None, pairs: Iterable[SLI], problems: Problems) -> None:
    bounds = Scope.of(run).bounds()
    record.bind(None if run is None else run.run_id)
    for query in problems.queries.values():
        with _told(problems):
            copied(record, query, bounds)
    # What is wrong with one of them alone is known by now, and told once.
    for sli in pairs:
        with _told(problems):
            gather(record, sli, bounds)


@contextmanager
def _told(problems: Problems) -> Iterator[None]:
    try:
        yield
    except QueryError as error:
        query = error.query
        problems.error(Node(None, Place(query.file, query.line, query.column), query.path), error.said)
