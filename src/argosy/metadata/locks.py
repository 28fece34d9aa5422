"""Locks on what has no row to lock, held until the transaction ends.

SQLite has one writer at a time, who holds everything; these are for PostgreSQL, whose transactions overlap.
"""

from __future__ import annotations

import sqlalchemy as sa

# Keeps ours apart from anybody else's in the same database.
_HOLD = sa.text("SELECT pg_advisory_xact_lock(hashtextextended(:what, 7760))")
_SHARE = sa.text("SELECT pg_advisory_xact_lock_shared(hashtextextended(:what, 7760))")


def hold(connection: sa.Connection, what: str) -> None:
    """Wait until nobody else holds or shares it, and keep it."""
    if connection.dialect.name == "postgresql":
        connection.execute(_HOLD, {"what": what})


def share(connection: sa.Connection, what: str) -> None:
    """Wait until nobody holds it; others may share it meanwhile."""
    if connection.dialect.name == "postgresql":
        connection.execute(_SHARE, {"what": what})
