"""What guests may read and write of the store that backups are in."""

from __future__ import annotations

from datetime import UTC, datetime

import sqlalchemy as sa

from argosy.metadata.tables import grants


class Grants:
    """Each is for one guest, one prefix and one method, and ends with its operation."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def give(
        self, instance_id: str, container: str, prefix: str, method: str, operation_id: str | None
    ) -> None:
        """One that is there already is the new operation's from now on; without an operation it stays until taken."""
        mine = sa.and_(
            grants.c.instance_id == instance_id,
            grants.c.container == container,
            grants.c.prefix == prefix,
            grants.c.method == method,
        )
        changed = self._connection.execute(sa.update(grants).where(mine).values(operation_id=operation_id))
        if changed.rowcount == 0:
            self._connection.execute(
                sa.insert(grants).values(
                    instance_id=instance_id,
                    container=container,
                    prefix=prefix,
                    method=method,
                    operation_id=operation_id,
                    created_at=datetime.now(UTC),
                )
            )

    def prefixes(self, instance_id: str, container: str, method: str) -> list[str]:
        """Below which this guest may do this."""
        query = sa.select(grants.c.prefix).where(
            grants.c.instance_id == instance_id,
            grants.c.container == container,
            grants.c.method == method,
        )
        return list(self._connection.execute(query).scalars())

    def is_read(self, container: str, prefix: str) -> bool:
        """Whether some guest is reading there now."""
        query = sa.select(sa.func.count()).where(
            grants.c.container == container, grants.c.prefix == prefix, grants.c.method == "GET"
        )
        return self._connection.execute(query).scalar_one() > 0

    def take_with(self, operation_id: str) -> None:
        """Its operation has ended."""
        self._connection.execute(sa.delete(grants).where(grants.c.operation_id == operation_id))

    def take(self, instance_id: str, prefix: str | None = None) -> None:
        """Below a prefix, or all of a guest's."""
        mine = [grants.c.instance_id == instance_id]
        if prefix is not None:
            mine.append(grants.c.prefix == prefix)
        self._connection.execute(sa.delete(grants).where(*mine))
