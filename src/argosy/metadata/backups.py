"""Backups in the metadata database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from argosy.domain.backup import RUNNING, Backup, BackupStatus, chain_of
from argosy.domain.errors import BackupNotFound, BackupUnusable
from argosy.metadata.tables import backups

_COLUMNS = tuple(field.name for field in fields(Backup))


class Backups:
    """The backups of one project, or of all."""

    def __init__(self, connection: sa.Connection, project_id: str | None) -> None:
        self._connection = connection
        self._project_id = project_id

    def get(self, backup_id: str) -> Backup:
        """Raises BackupNotFound, also for what is another project's."""
        row = self._connection.execute(
            sa.select(backups).where(backups.c.id == backup_id, self._ours())
        ).first()
        if row is None:
            raise BackupNotFound(backup_id=backup_id)
        return _backup(row)

    def is_known(self, backup_id: str) -> bool:
        """Whether there is one, be it of another project."""
        query = sa.select(sa.func.count()).where(backups.c.id == backup_id)
        return self._connection.execute(query).scalar_one() > 0

    def find(self, backup_id: str) -> Backup | None:
        """None when it is gone."""
        try:
            return self.get(backup_id)
        except BackupNotFound:
            return None

    def latest(
        self, limit: int, *, skip: int, instance_id: str | None = None, datastore: str | None = None
    ) -> tuple[list[Backup], bool]:
        """Up to `limit` after the first `skip`, changed last first, and whether there are more."""
        query = sa.select(backups).where(self._ours())
        if instance_id is not None:
            query = query.where(backups.c.instance_id == instance_id)
        if datastore is not None:
            query = query.where(backups.c.datastore == datastore)
        query = query.order_by(backups.c.updated_at.desc(), backups.c.id).offset(skip).limit(limit + 1)
        rows = self._connection.execute(query).all()
        return [_backup(row) for row in rows[:limit]], len(rows) > limit

    def chain(self, backup: Backup) -> list[Backup]:
        """With its parents, the full one first. Raises BackupUnusable when one is gone."""
        by_id = {one.id: one for one in self.of_instance(backup.instance_id)}
        try:
            return chain_of(backup, by_id)
        except KeyError as missing:
            raise BackupUnusable(
                f"Backup {backup.id} cannot be restored: its parent {missing.args[0]} is gone."
            ) from missing

    def with_leftovers(self) -> list[Backup]:
        """Those that failed, of which the store may still hold something."""
        query = sa.select(backups).where(backups.c.leftovers, self._ours())
        return [_backup(row) for row in self._connection.execute(query)]

    def of_instance(self, instance_id: str) -> list[Backup]:
        """All of an instance, oldest first."""
        query = sa.select(backups).where(backups.c.instance_id == instance_id, self._ours())
        return [_backup(row) for row in self._connection.execute(query.order_by(backups.c.created_at))]

    def add(self, backup: Backup) -> None:
        values = {name: getattr(backup, name) for name in _COLUMNS}
        self._connection.execute(sa.insert(backups).values(**{**values, "status": backup.status.value}))

    def change(self, backup_id: str, **values: Any) -> None:
        """Columns by name; the caller may change this row."""
        self._connection.execute(
            sa.update(backups).where(backups.c.id == backup_id).values(updated_at=datetime.now(UTC), **values)
        )

    def note(self, backup_id: str, **values: Any) -> None:
        """What was found out about it, columns by name; that does not change it."""
        self._connection.execute(sa.update(backups).where(backups.c.id == backup_id).values(**values))

    def claim(self, backup_ids: Sequence[str], operation_id: str, kind: str) -> bool:
        """Hold them all for an operation; False, and then nothing has changed for good, when one is held already.

        The caller ends the transaction with an error then.
        """
        free = sa.and_(backups.c.id.in_(backup_ids), backups.c.operation_id.is_(None))
        held = self._connection.execute(
            sa.update(backups).where(free).values(operation_id=operation_id, operation_kind=kind)
        )
        return held.rowcount == len(backup_ids)

    def release(self, operation_id: str, error: str | None = None) -> None:
        """Its operation has ended, with an error or without: see `Operations`. One that was being made has failed."""
        mine = backups.c.operation_id == operation_id
        if error is not None:
            running = backups.c.status.in_([one.value for one in RUNNING])
            self._connection.execute(
                sa.update(backups)
                .where(mine, running)
                .values(
                    status=BackupStatus.FAILED.value,
                    error=error,
                    leftovers=True,
                    updated_at=datetime.now(UTC),
                )
            )
            deleting = backups.c.operation_kind == "backup.delete"
            self._connection.execute(
                sa.update(backups)
                .where(mine, deleting)
                .values(status=BackupStatus.DELETE_FAILED.value, error=error, updated_at=datetime.now(UTC))
            )
        self._connection.execute(
            sa.update(backups).where(mine).values(operation_id=None, operation_kind=None)
        )

    def forget(self, backup_id: str) -> None:
        self._connection.execute(sa.delete(backups).where(backups.c.id == backup_id))

    def _ours(self) -> sa.ColumnElement[bool]:
        return sa.true() if self._project_id is None else backups.c.project_id == self._project_id


def _backup(row: sa.Row[Any]) -> Backup:
    stored = row._mapping  # noqa: SLF001 - SQLAlchemy's public name for it
    return Backup(**{**{name: stored[name] for name in _COLUMNS}, "status": BackupStatus(stored["status"])})
