"""Where projects, and single instances, have their backups kept."""

from __future__ import annotations

import sqlalchemy as sa

from argosy.domain.backup import Strategy
from argosy.metadata.tables import backup_strategies as table

PROJECT = ""  # in the place of an instance's id: the project's own


class BackupStrategies:
    """Those of the project that is named."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def set(self, strategy: Strategy) -> None:
        """Make it, or replace it."""
        mine = self._mine(strategy.project_id, strategy.instance_id)
        changed = self._connection.execute(sa.update(table).where(mine).values(container=strategy.container))
        if changed.rowcount == 0:
            self._connection.execute(
                sa.insert(table).values(
                    project_id=strategy.project_id,
                    instance_id=strategy.instance_id,
                    container=strategy.container,
                )
            )

    def of(self, project_id: str, instance_id: str | None = None) -> list[Strategy]:
        """All of a project, or the one of an instance."""
        query = sa.select(table).where(table.c.project_id == project_id)
        if instance_id is not None:
            query = query.where(table.c.instance_id == instance_id)
        rows = self._connection.execute(query.order_by(table.c.instance_id))
        return [Strategy(row.project_id, row.instance_id, row.container) for row in rows]

    def container(self, project_id: str, instance_id: str) -> str | None:
        """The instance's, else the project's, else None."""
        found = {one.instance_id: one.container for one in self.of(project_id)}
        return found.get(instance_id) or found.get(PROJECT)

    def delete(self, project_id: str, instance_id: str) -> None:
        """One that is not there is no error."""
        self._connection.execute(sa.delete(table).where(self._mine(project_id, instance_id)))

    def _mine(self, project_id: str, instance_id: str) -> sa.ColumnElement[bool]:
        return sa.and_(table.c.project_id == project_id, table.c.instance_id == instance_id)
