"""Locks on what has no row to lock, held until the transaction ends.

SQLite has one writer at a time, who holds everything; these are for PostgreSQL, whose transactions overlap.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

_AGAIN_S = 0.1
# Keeps ours apart from anybody else's in the same database.
_HOLD = sa.text("SELECT pg_advisory_xact_lock(hashtextextended(:what, 7760))")
_ALONE = sa.text("SELECT pg_try_advisory_lock(hashtextextended(:what, 7760))")
_END_WHEN_IDLE = sa.text("SELECT set_config('idle_in_transaction_session_timeout', :ms, true)")
_SHARE = sa.text("SELECT pg_advisory_xact_lock_shared(hashtextextended(:what, 7760))")


def hold(connection: sa.Connection, what: str) -> None:
    """Wait until nobody else holds or shares it, and keep it."""
    if connection.dialect.name == "postgresql":
        connection.execute(_HOLD, {"what": what})


def share(connection: sa.Connection, what: str) -> None:
    """Wait until nobody holds it; others may share it meanwhile."""
    if connection.dialect.name == "postgresql":
        connection.execute(_SHARE, {"what": what})


def end_when_idle(connection: sa.Connection, after: timedelta) -> None:
    """Have this transaction end, and what it holds be free, when its process is silent in it for so long.

    One that is frozen, or cut off, would hold it for as long as the database takes its connection for a living one.
    """
    if connection.dialect.name == "postgresql":
        connection.execute(_END_WHEN_IDLE, {"ms": str(int(after.total_seconds() * 1000))})


@contextmanager
def alone(engine: sa.Engine, what: str) -> Iterator[None]:
    """Keep other processes from doing the same with this database meanwhile, over any number of transactions.

    Ends with the process, whatever ends that.
    """
    if engine.dialect.name == "postgresql":
        with engine.connect() as connection:
            connection.execution_options(isolation_level="AUTOCOMMIT")
            # Asked again and again: who waits inside a statement has a snapshot, and an index that is made meanwhile
            # (CONCURRENTLY, as DBOS does) waits for all of those, and so for ever.
            while not connection.execute(_ALONE, {"what": what}).scalar():
                time.sleep(_AGAIN_S)
            try:
                yield
            finally:
                # Its session had the lock, and no other user of the pool is to inherit it.
                connection.invalidate()
        return
    lock = os.open(f"{engine.url.database}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def clock(connection: sa.Connection) -> datetime:
    """The time that all processes of a database agree on, whatever their hosts' clocks say."""
    if connection.dialect.name == "postgresql":
        return connection.execute(sa.text("SELECT clock_timestamp()")).scalar_one().astimezone(UTC)  # type: ignore[no-any-return]
    return datetime.now(UTC)
