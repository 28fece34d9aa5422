"""Requests that carried an Idempotency-Key: the same key again answers what the first one made."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from argosy.domain.errors import Conflict
from argosy.metadata.tables import idempotent_requests as table

KEPT_FOR = timedelta(days=1)


class IdempotentRequests:
    """The keys one project has used."""

    def __init__(self, connection: sa.Connection, project_id: str | None) -> None:
        self._connection = connection
        self._project_id = project_id

    def find(self, key: str, fingerprint: str) -> str | None:
        """The instance a request of this key made, None when the key is new (or older than a day).

        Raises Conflict when the key came with another body.
        """
        row = self._connection.execute(
            sa.select(table).where(table.c.project_id == self._project_id, table.c.key == key)
        ).first()
        if row is None or datetime.now(UTC) - row.created_at > KEPT_FOR:
            return None
        if row.fingerprint != fingerprint:
            raise Conflict(
                f"Idempotency-Key {key!r} was used before with another body: use a new key for a new request.",
                code="idempotency-key-reused",
            )
        return str(row.instance_id)

    def remember(self, key: str, fingerprint: str, instance_id: str) -> None:
        """Raises Conflict when another request with the key came first, which `find` could not see yet."""
        mine = sa.and_(table.c.project_id == self._project_id, table.c.key == key)
        self._connection.execute(
            sa.delete(table).where(sa.or_(mine, table.c.created_at < datetime.now(UTC) - KEPT_FOR))
        )
        try:
            self._connection.execute(
                sa.insert(table).values(
                    project_id=self._project_id,
                    key=key,
                    fingerprint=fingerprint,
                    instance_id=instance_id,
                    created_at=datetime.now(UTC),
                )
            )
        except sa.exc.IntegrityError as error:
            raise Conflict(
                f"A request with Idempotency-Key {key!r} is being answered at this moment: ask again for its answer.",
                code="idempotency-key-in-use",
            ) from error
