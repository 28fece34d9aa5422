"""Flavors as the platform offers them; the task manager publishes them, the API reads them."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from argosy.domain.errors import NotFound
from argosy.domain.instance import Flavor
from argosy.metadata.locks import hold
from argosy.metadata.tables import flavors, instances


class Flavors:
    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def all(self) -> list[Flavor]:
        """By memory, then processors."""
        query = sa.select(flavors).order_by(flavors.c.memory_mb, flavors.c.vcpus, flavors.c.id)
        return [Flavor(*row) for row in self._connection.execute(query)]

    def get(self, flavor_id: str) -> Flavor:
        row = self._connection.execute(sa.select(flavors).where(flavors.c.id == flavor_id)).first()
        if row is None:
            raise NotFound(f"Flavor {flavor_id} cannot be found.")
        return Flavor(*row)

    def publish(self, offered: Sequence[Flavor]) -> None:
        """Make the table say what the platform offers. A flavor in use that is offered no longer stays."""
        hold(self._connection, "flavors")
        in_use = sa.select(instances.c.flavor_id).where(instances.c.deleted_at.is_(None))
        gone = flavors.c.id.not_in([flavor.id for flavor in offered])
        self._connection.execute(sa.delete(flavors).where(gone, flavors.c.id.not_in(in_use)))
        for flavor in offered:
            values = {"name": flavor.name, "memory_mb": flavor.memory_mb, "vcpus": flavor.vcpus}
            updated = self._connection.execute(
                sa.update(flavors).where(flavors.c.id == flavor.id).values(**values)
            )
            if updated.rowcount == 0:
                self._connection.execute(sa.insert(flavors).values(id=flavor.id, **values))
