"""How many rows there are in which table, as of one moment, to compare a restored server with."""

from __future__ import annotations

import time

from argosy.engines.backups import Facts
from argosy.engines.mariadb import sql
from argosy.engines.mariadb.management import Refused, Session

# What a fingerprint may take of a backup, and of the room for what a backup remembers.
_WITHIN_S = 10.0
_TABLES = 500
# The statement ran out of time; the table was altered after the snapshot was taken, or is gone.
_NOT_COUNTED = frozenset({1969, 1412, 1146, 1932})

NOTHING: Facts = {"tables": {}, "left_out": None}


def take_snapshot(session: Session) -> tuple[object, ...]:
    """See from now on what is committed now; returns file and position in the binary log (manual, binlog_snapshot)."""
    session.run("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
    session.run("START TRANSACTION WITH CONSISTENT SNAPSHOT")
    rows = session.run("SHOW STATUS LIKE 'binlog_snapshot_%'")
    told = {str(name).lower(): value for name, value in rows}
    return told.get("binlog_snapshot_file"), int(str(told.get("binlog_snapshot_position") or 0))


def take(session: Session) -> Facts:
    """Tables of InnoDB's with their numbers of rows, smallest first, as many as can be counted in ten seconds.

    `left_out` is how many there are beyond those.
    """
    deadline = time.monotonic() + _WITHIN_S
    rows = session.run(
        "SELECT TABLE_SCHEMA, TABLE_NAME FROM information_schema.TABLES"
        " WHERE TABLE_TYPE = 'BASE TABLE' AND ENGINE = 'InnoDB' ORDER BY DATA_LENGTH, TABLE_SCHEMA, TABLE_NAME"
    )
    tables = [
        (str(database), str(table)) for database, table in rows if not sql.is_reserved_database(str(database))
    ]
    counted: dict[str, dict[str, int]] = {}
    number = 0
    for database, table in tables[:_TABLES]:
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            break
        there = count(session, database, table, left_s)
        if there is not None:
            counted.setdefault(database, {})[table] = there
            number += 1
    return {"tables": counted, "left_out": len(tables) - number}


def count(session: Session, database: str, table: str, within_s: float) -> int | None:
    """None when it cannot be told, or not in time."""
    try:
        limit = f"SET STATEMENT max_statement_time = {max(within_s, 0.001):.3f} FOR "
        name = f"{sql.identifier(database)}.{sql.identifier(table)}"
        ((rows,),) = session.run(f"{limit}SELECT COUNT(*) FROM {name}")  # noqa: S608 - quoted
    except Refused as error:
        if error.number not in _NOT_COUNTED:
            raise
        return None
    return int(str(rows))
