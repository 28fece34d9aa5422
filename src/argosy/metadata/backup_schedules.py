"""Schedules of backups in the metadata database."""

from __future__ import annotations

from dataclasses import fields
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from argosy.domain.backup_schedule import BackupSchedule
from argosy.domain.errors import ScheduleNotFound
from argosy.metadata.tables import backup_schedules, instances

_COLUMNS = tuple(field.name for field in fields(BackupSchedule))


class BackupSchedules:
    """The schedules of one project, or of all."""

    def __init__(self, connection: sa.Connection, project_id: str | None) -> None:
        self._connection = connection
        self._project_id = project_id

    def get(self, schedule_id: str) -> BackupSchedule:
        """Raises ScheduleNotFound, also for what is another project's."""
        row = self._connection.execute(
            sa.select(backup_schedules).where(backup_schedules.c.id == schedule_id, self._ours())
        ).first()
        if row is None:
            raise ScheduleNotFound(schedule_id=schedule_id)
        return _schedule(row)

    def of_instance(self, instance_id: str) -> list[BackupSchedule]:
        """Oldest first."""
        mine = backup_schedules.c.instance_id == instance_id
        return self._all(mine)

    def page(
        self, limit: int, after_id: str | None = None, instance_id: str | None = None
    ) -> tuple[list[BackupSchedule], bool]:
        """Up to `limit` of those whose id follows `after_id`, and whether there are more."""
        own = backup_schedules.c
        query = sa.select(backup_schedules).where(self._ours(), own.id > (after_id or ""))
        if instance_id is not None:
            query = query.where(own.instance_id == instance_id)
        rows = self._connection.execute(query.order_by(own.id).limit(limit + 1)).all()
        return [_schedule(row) for row in rows[:limit]], len(rows) > limit

    def add(self, schedule: BackupSchedule) -> None:
        values = {name: getattr(schedule, name) for name in _COLUMNS}
        self._connection.execute(sa.insert(backup_schedules).values(**values))

    def change(self, schedule_id: str, **values: Any) -> None:
        """What its owner changes, columns by name."""
        self.note(schedule_id, updated_at=datetime.now(UTC), **values)

    def note(self, schedule_id: str, **values: Any) -> None:
        """What comes of its runs, columns by name."""
        mine = sa.and_(backup_schedules.c.id == schedule_id, self._ours())
        self._connection.execute(sa.update(backup_schedules).where(mine).values(**values))

    def forget(self, schedule_id: str) -> None:
        """Its backups stay, and are kept until somebody deletes them."""
        mine = sa.and_(backup_schedules.c.id == schedule_id, self._ours())
        self._connection.execute(sa.delete(backup_schedules).where(mine))

    def forget_of_deleted(self) -> int:
        """Those of instances that are gone; how many there were."""
        there = sa.select(instances.c.id).where(instances.c.deleted_at.is_(None))
        gone = backup_schedules.c.instance_id.not_in(there)
        return self._connection.execute(sa.delete(backup_schedules).where(gone)).rowcount

    def due(self, now: datetime) -> list[BackupSchedule]:
        """Those whose time has come, the longest waiting first, of instances that are there."""
        own = backup_schedules.c
        there = sa.select(instances.c.id).where(instances.c.deleted_at.is_(None))
        query = sa.select(backup_schedules).where(
            own.enabled, own.next_run_at <= now, own.instance_id.in_(there), self._ours()
        )
        return [_schedule(row) for row in self._connection.execute(query.order_by(own.next_run_at))]

    def running(self) -> list[BackupSchedule]:
        """Those whose backup is being made, or was a moment ago."""
        return self._all(backup_schedules.c.running_id.is_not(None))

    def that_keep(self) -> list[BackupSchedule]:
        """Those that take backups away by themselves."""
        own = backup_schedules.c
        return self._all(sa.or_(own.keep_last.is_not(None), own.keep_days.is_not(None)))

    def that_verify(self) -> list[BackupSchedule]:
        """Those whose backups are proved by themselves."""
        own = backup_schedules.c
        return self._all(sa.and_(own.enabled, own.verify_every_days.is_not(None)))

    def _all(self, which: sa.ColumnElement[bool]) -> list[BackupSchedule]:
        own = backup_schedules.c
        query = sa.select(backup_schedules).where(which, self._ours()).order_by(own.created_at, own.id)
        return [_schedule(row) for row in self._connection.execute(query)]

    def _ours(self) -> sa.ColumnElement[bool]:
        own = backup_schedules.c
        return sa.true() if self._project_id is None else own.project_id == self._project_id


def _schedule(row: sa.Row[Any]) -> BackupSchedule:
    stored = row._mapping  # noqa: SLF001 - SQLAlchemy's public name for it
    return BackupSchedule(**{name: stored[name] for name in _COLUMNS})
