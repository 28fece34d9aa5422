"""Differences between the platform and the metadata, as looks at the platform found them."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from argosy.domain.drift import Change, Finding, NotedFinding
from argosy.metadata.events import Events
from argosy.metadata.locks import hold
from argosy.metadata.tables import findings as table
from argosy.metadata.tables import instances

ACTOR = "reconciler"
_ROWS = sa.select(
    table, instances.c.name.label("instance_name"), instances.c.project_id.label("project_id")
).select_from(table.outerjoin(instances, instances.c.id == table.c.instance_id))
_OPEN = table.c.gone_at.is_(None)


class Findings:
    """A row for each difference, from the look that found it; open until a later one does not see it any more."""

    def __init__(self, connection: sa.Connection, events: Events) -> None:
        self._connection = connection
        self._events = events

    def note(
        self, found: Sequence[Finding], unsure: Collection[str], now: datetime
    ) -> list[tuple[Change, Finding]]:
        """Write down what a look found, and what it did not see any more; returns what is news, which instances are told.

        Of instances that it is `unsure` of, what is open stays open.
        """
        # Two processes may have looked at once.
        hold(self._connection, "findings")
        known = {(one.kind, one.resource): one for one in self._all(_OPEN)}
        changes: list[tuple[Change, Finding]] = []
        for finding in found:
            before = known.pop((finding.kind, finding.resource), None)
            if before is None:
                self._add(finding, now)
            else:
                self._see(before, finding, now)
            if finding.repaired:
                changes.append((Change.REPAIRED, finding))
            elif before is None:
                changes.append((Change.FOUND, finding))
        for gone in known.values():
            if gone.instance_id is None or gone.instance_id not in unsure:
                mine = table.c.id == gone.id
                self._connection.execute(sa.update(table).where(mine).values(gone_at=now))
                changes.append((Change.GONE, gone))
        for change, finding in changes:
            self._tell(change, finding)
        return changes

    def page(
        self, limit: int, *, skip: int = 0, instance_id: str | None = None, gone: bool = False
    ) -> tuple[list[NotedFinding], bool]:
        """Those that are open, found last first, and whether there are more; with `gone` those that are over too."""
        chosen: list[sa.ColumnElement[bool]] = [] if gone else [_OPEN]
        if instance_id is not None:
            chosen.append(table.c.instance_id == instance_id)
        ordered = _ROWS.where(*chosen).order_by(table.c.found_at.desc(), table.c.id)
        rows = self._connection.execute(ordered.offset(skip).limit(limit + 1)).all()
        return [_noted(row) for row in rows[:limit]], len(rows) > limit

    def repairs(self, kind: str, resource: str, since: datetime) -> int:
        """How often it was repaired since then."""
        repaired = sa.and_(table.c.repaired, table.c.gone_at >= since)
        same = sa.and_(table.c.kind == kind, table.c.resource == resource)
        query = sa.select(sa.func.count()).select_from(table).where(repaired, same)
        return int(self._connection.execute(query).scalar_one())

    def purge(self, before: datetime, at_most: int) -> int:
        """Forget up to so many that were over earlier; how many there were."""
        old = sa.select(table.c.id).where(table.c.gone_at < before).limit(at_most)
        return self._connection.execute(sa.delete(table).where(table.c.id.in_(old))).rowcount

    def _all(self, which: sa.ColumnElement[bool]) -> list[NotedFinding]:
        return [_noted(row) for row in self._connection.execute(_ROWS.where(which))]

    def _add(self, finding: Finding, now: datetime) -> None:
        self._connection.execute(
            sa.insert(table).values(
                id=str(uuid.uuid4()),
                kind=finding.kind,
                resource=finding.resource,
                instance_id=finding.instance_id,
                message=finding.message,
                repaired=finding.repaired,
                found_at=now,
                seen_at=now,
                gone_at=now if finding.repaired else None,
            )
        )

    def _see(self, before: NotedFinding, finding: Finding, now: datetime) -> None:
        self._connection.execute(
            sa.update(table)
            .where(table.c.id == before.id)
            .values(
                message=finding.message,
                repaired=finding.repaired,
                seen_at=now,
                gone_at=now if finding.repaired else None,
            )
        )

    def _tell(self, change: Change, finding: Finding) -> None:
        """What is of no instance is in nobody's project: it is told by the list alone."""
        mine = sa.select(instances.c.project_id).where(
            instances.c.id == finding.instance_id, instances.c.deleted_at.is_(None)
        )
        project_id = self._connection.execute(mine).scalar()
        if project_id is not None:
            message = f"It is so no longer: {finding.message}" if change is Change.GONE else finding.message
            self._events.add(project_id, finding.instance_id, f"drift.{change}", message, ACTOR)


def _noted(row: sa.Row[Any]) -> NotedFinding:
    return NotedFinding(
        id=row.id,
        kind=row.kind,
        resource=row.resource,
        message=row.message,
        instance_id=row.instance_id,
        repaired=row.repaired,
        found_at=row.found_at,
        seen_at=row.seen_at,
        gone_at=row.gone_at,
        instance_name=row.instance_name,
        project_id=row.project_id,
    )
