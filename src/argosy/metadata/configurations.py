"""Configuration groups, their history, and who is behind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from argosy.domain.configuration import Configuration, Revision
from argosy.domain.errors import ConfigurationNotFound, NotFound
from argosy.metadata.tables import configuration_revisions as revisions
from argosy.metadata.tables import configurations as groups

LONGEST_NOTE = 255


@dataclass(frozen=True)
class Author:
    """Who makes a revision, and what for."""

    name: str
    note: str = ""


class Configurations:
    """The configuration groups of one project, or of all."""

    def __init__(self, connection: sa.Connection, project_id: str | None) -> None:
        self._connection = connection
        self._project_id = project_id

    def get(self, group_id: str, *, hold: bool = False) -> Configuration:
        """Raises ConfigurationNotFound, also for what is another project's.

        With `hold` nobody else changes, deletes or attaches it until the transaction ends.
        """
        query = sa.select(groups).where(groups.c.id == group_id, self._ours())
        row = self._connection.execute(query.with_for_update() if hold else query).first()
        if row is None:
            raise ConfigurationNotFound(configuration_id=group_id)
        return _configuration(row)

    def page(self, limit: int, after_id: str | None = None) -> tuple[list[Configuration], bool]:
        """Up to `limit` groups whose id follows `after_id`, by id, and whether there are more."""
        query = sa.select(groups).where(self._ours(), groups.c.id > (after_id or ""))
        rows = self._connection.execute(query.order_by(groups.c.id).limit(limit + 1)).all()
        return [_configuration(row) for row in rows[:limit]], len(rows) > limit

    def add(self, group: Configuration, author: Author) -> None:
        """A new group; its values are its first revision."""
        self._connection.execute(
            sa.insert(groups).values(
                id=group.id,
                project_id=group.project_id,
                name=group.name,
                description=group.description,
                datastore=group.datastore,
                version=group.version,
                values=group.values,
                revision=group.revision,
                created_at=group.created_at,
                updated_at=group.updated_at,
            )
        )
        self._remember(group, author)

    def describe(self, group_id: str, *, name: str | None, description: str | None) -> None:
        """None leaves it as it is."""
        told = {"name": name, "description": description}
        changed = {key: value for key, value in told.items() if value is not None}
        if changed:
            self._connection.execute(
                sa.update(groups)
                .where(groups.c.id == group_id, self._ours())
                .values(updated_at=datetime.now(UTC), **changed)
            )

    def revise(self, group: Configuration, values: Mapping[str, str], author: Author) -> Configuration:
        """Give a group that is held its next revision; values that it has make none."""
        if dict(values) == group.values:
            return group
        revised = replace(
            group, values=dict(values), revision=group.revision + 1, updated_at=datetime.now(UTC)
        )
        self._connection.execute(
            sa.update(groups)
            .where(groups.c.id == group.id, self._ours())
            .values(values=revised.values, revision=revised.revision, updated_at=revised.updated_at)
        )
        self._remember(revised, author)
        return revised

    def delete(self, group_id: str) -> None:
        self._connection.execute(sa.delete(revisions).where(revisions.c.configuration_id == group_id))
        self._connection.execute(sa.delete(groups).where(groups.c.id == group_id, self._ours()))

    def history(self, group_id: str, limit: int, *, before: int | None = None) -> tuple[list[Revision], bool]:
        """Newest first, those before revision `before`, and whether there are more."""
        query = sa.select(revisions).where(revisions.c.configuration_id == group_id)
        if before is not None:
            query = query.where(revisions.c.revision < before)
        rows = self._connection.execute(query.order_by(revisions.c.revision.desc()).limit(limit + 1)).all()
        return [_revision(row) for row in rows[:limit]], len(rows) > limit

    def revision(self, group_id: str, number: int) -> Revision:
        """Raises NotFound."""
        row = self._connection.execute(
            sa.select(revisions).where(
                revisions.c.configuration_id == group_id, revisions.c.revision == number
            )
        ).first()
        if row is None:
            raise NotFound(f"Configuration group {group_id} has no revision {number}.")
        return _revision(row)

    def _remember(self, group: Configuration, author: Author) -> None:
        self._connection.execute(
            sa.insert(revisions).values(
                configuration_id=group.id,
                revision=group.revision,
                values=group.values,
                at=group.updated_at,
                by=author.name,
                note=author.note[:LONGEST_NOTE],
            )
        )

    def _ours(self) -> sa.ColumnElement[bool]:
        return sa.true() if self._project_id is None else groups.c.project_id == self._project_id


def _configuration(row: sa.Row[Any]) -> Configuration:
    # By a mapping: a row's own `values` would be a method.
    stored = row._mapping  # noqa: SLF001 - SQLAlchemy's public name for it
    return Configuration(
        id=stored["id"],
        project_id=stored["project_id"],
        name=stored["name"],
        description=stored["description"],
        datastore=stored["datastore"],
        version=stored["version"],
        values=stored["values"],
        revision=stored["revision"],
        created_at=stored["created_at"],
        updated_at=stored["updated_at"],
    )


def _revision(row: sa.Row[Any]) -> Revision:
    stored = row._mapping  # noqa: SLF001 - as above
    return Revision(
        number=stored["revision"],
        values=stored["values"],
        at=stored["at"],
        by=stored["by"],
        note=stored["note"],
    )
