"""What happened to instances, kept after they are gone."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from argosy.domain.operations import Choice, Event, JournalEntry
from argosy.metadata.journals import Journal, chosen
from argosy.metadata.tables import events, instances


class Events:
    """The events of one project, or of all."""

    def __init__(self, connection: sa.Connection, project_id: str | None) -> None:
        self._connection = connection
        self._project_id = project_id

    @property
    def journal(self) -> Journal:
        """Those of all projects, in order."""
        return Journal(self._connection, events, _entry)

    def add(self, project_id: str, instance_id: str | None, kind: str, message: str, actor: str) -> None:
        self._connection.execute(
            sa.insert(events).values(
                project_id=project_id,
                instance_id=instance_id,
                instance_name=name_of(instance_id),
                at=datetime.now(UTC),
                kind=kind,
                message=message,
                actor=actor,
            )
        )

    def page(
        self,
        limit: int,
        *,
        instance_id: str | None = None,
        before: int | None = None,
        choice: Choice | None = None,
    ) -> tuple[list[Event], bool]:
        """Newest first, those before event number `before`, and whether there are more."""
        asked = choice or Choice(self._project_id, instance_id)
        query = sa.select(events).where(*chosen(events, asked, None)).order_by(events.c.id.desc())
        if before is not None:
            query = query.where(events.c.id < before)
        rows = self._connection.execute(query.limit(limit + 1)).all()
        return [_event(row) for row in rows[:limit]], len(rows) > limit

    def purge(self, before: datetime, at_most: int) -> int:
        """Remove up to so many that are older; how many there were. The newest stays, so that no id comes twice."""
        newest = sa.select(sa.func.max(events.c.id)).scalar_subquery()
        old = sa.select(events.c.id).where(events.c.at < before, events.c.id < newest)
        removed = self._connection.execute(
            sa.delete(events).where(events.c.id.in_(old.order_by(events.c.id).limit(at_most)))
        )
        return removed.rowcount


def name_of(instance_id: str | None) -> Any:
    """What an instance is called at this moment, to be written with what is told of it."""
    if instance_id is None:
        return None
    return sa.select(instances.c.name).where(instances.c.id == instance_id).scalar_subquery()


def _event(row: sa.Row[Any]) -> Event:
    return Event(
        id=row.id,
        project_id=row.project_id,
        instance_id=row.instance_id,
        at=row.at,
        kind=row.kind,
        message=row.message,
        actor=row.actor,
        instance_name=row.instance_name,
    )


def _entry(row: sa.Row[Any]) -> JournalEntry:
    return JournalEntry(row.id, row.project_id, row.instance_id, row.at, row.kind, None, _event(row))
