"""What happened to instances, kept after they are gone."""

from __future__ import annotations

from datetime import UTC, datetime

import sqlalchemy as sa

from argosy.domain.operations import Event
from argosy.metadata.tables import events


class Events:
    """The events of one project, or of all."""

    def __init__(self, connection: sa.Connection, project_id: str | None) -> None:
        self._connection = connection
        self._project_id = project_id

    def add(self, project_id: str, instance_id: str | None, kind: str, message: str, actor: str) -> None:
        self._connection.execute(
            sa.insert(events).values(
                project_id=project_id,
                instance_id=instance_id,
                at=datetime.now(UTC),
                kind=kind,
                message=message,
                actor=actor,
            )
        )

    def page(
        self, limit: int, *, instance_id: str | None = None, before: int | None = None
    ) -> tuple[list[Event], bool]:
        """Newest first, those before event number `before`, and whether there are more."""
        query = sa.select(events).order_by(events.c.id.desc()).limit(limit + 1)
        if self._project_id is not None:
            query = query.where(events.c.project_id == self._project_id)
        if instance_id is not None:
            query = query.where(events.c.instance_id == instance_id)
        if before is not None:
            query = query.where(events.c.id < before)
        rows = self._connection.execute(query).all()
        return [Event(*row) for row in rows[:limit]], len(rows) > limit
