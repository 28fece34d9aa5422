"""How many rows there are in which table, to compare a restored server with.

No snapshot of the server is exactly a backup's state, so rows are counted before and after, and only tables that
nothing changed in between are told.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import psycopg
from psycopg import sql

from argosy.domain.errors import ArgosyError
from argosy.engines.backups import Facts
from argosy.engines.postgresql.session import Connection, Sessions

# What counting may take, each time, and of the room for what a backup remembers.
_WITHIN_S = 5.0
_TABLES = 500
_LISTED = """
SELECT n.nspname, c.relname, c.relfilenode,
       pg_stat_get_tuples_inserted(c.oid) + pg_stat_get_tuples_updated(c.oid) + pg_stat_get_tuples_deleted(c.oid)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'm') AND c.relpersistence = 'p' AND n.nspname <> 'information_schema'
  AND n.nspname NOT LIKE 'pg\\_%' AND (c.relkind = 'r' OR c.relispopulated)
ORDER BY c.relpages, 1, 2
"""
Table = tuple[str, str, str]  # database, schema, name


@dataclass(frozen=True)
class Counted:
    """`changes` counts all that ever happened to it; None for `rows` that were not counted in time."""

    rows: int | None
    changes: int
    file: int


def count(sessions: Sessions) -> dict[Table, Counted]:
    """All tables of users, of which the smallest are counted, as many as can be in time."""
    deadline = time.monotonic() + _WITHIN_S
    found: dict[Table, Counted] = {}
    for database in _databases(sessions):
        try:
            with sessions.open(database) as session:
                for schema, table, file, changes in session.execute(_LISTED.encode()).fetchall():
                    rows = None
                    if len(found) < _TABLES and time.monotonic() < deadline:
                        rows = count_rows(session, schema, table, deadline - time.monotonic())
                    found[database, schema, table] = Counted(rows, int(changes), int(file))
        except ArgosyError:
            continue  # it was dropped, or lets nobody in
    return found


def unchanged(before: Mapping[Table, Counted], after: Mapping[Table, Counted]) -> Facts:
    """Tables with as many rows, and as much that ever happened to them, at both times; the others are left out."""
    tables: dict[str, dict[str, int]] = {}
    for table, counted in after.items():
        if counted.rows is not None and before.get(table) == counted:
            database, schema, name = table
            tables.setdefault(database, {})[f"{schema}.{name}"] = counted.rows
    told = sum(map(len, tables.values()))
    return {"tables": tables, "left_out": len(after) - told}


def count_rows(session: Connection, schema: str, table: str, within_s: float) -> int | None:
    """None when it cannot be told, or not in time."""
    try:
        with session.transaction():
            session.execute(
                sql.SQL("SET LOCAL statement_timeout = {}").format(sql.Literal(max(1, int(within_s * 1000))))
            )
            row = session.execute(
                sql.SQL("SELECT count(*) FROM ONLY {}").format(sql.Identifier(schema, table))
            ).fetchone()
    except psycopg.Error:
        return None
    return None if row is None else int(row[0])


def _databases(sessions: Sessions) -> list[str]:
    with sessions.open() as session:
        rows = session.execute(
            "SELECT datname FROM pg_database WHERE datallowconn AND NOT datistemplate AND datconnlimit <> -2 ORDER BY 1"
        ).fetchall()
    return [str(name) for (name,) in rows]
