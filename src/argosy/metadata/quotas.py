"""Quotas of projects. What a project uses is counted from its instances and backups, so nothing can leak.

A count and what is written on the strength of it must be one transaction that no other of the project
overlaps: `Store.write` sees to it on SQLite, and on PostgreSQL the lock taken here.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from argosy.domain.backup import BackupStatus
from argosy.domain.instance import Instance
from argosy.domain.quotas import Quota, check
from argosy.metadata import locks
from argosy.metadata.tables import backups, flavors, instances, quotas


def _larger(stored: sa.Column[Any], growing_to: sa.Column[Any]) -> sa.ColumnElement[Any]:
    return sa.case((growing_to > stored, growing_to), else_=stored)


_SIZES = (
    (instances.c.volume_gb, instances.c.growing_to_gb),
    (flavors.c.memory_mb, instances.c.growing_to_memory_mb),
)
_USED = (
    sa.select(
        sa.func.count(),
        *(sa.func.coalesce(sa.func.sum(stored), 0) for stored, _ in _SIZES),
        *(sa.func.coalesce(sa.func.sum(_larger(stored, growing)), 0) for stored, growing in _SIZES),
    )
    .select_from(instances.outerjoin(flavors, flavors.c.id == instances.c.flavor_id))
    .where(instances.c.project_id == sa.bindparam("project_id"), instances.c.deleted_at.is_(None))
)
# One that failed takes nothing, and is not counted.
_BACKUPS = (
    sa.select(sa.func.count())
    .select_from(backups)
    .where(backups.c.project_id == sa.bindparam("project_id"), backups.c.status != BackupStatus.FAILED.value)
)


class Quotas:
    """`defaults` are the limits, by resource, of projects that were given none of their own."""

    def __init__(self, connection: sa.Connection, defaults: Mapping[str, int]) -> None:
        self._connection = connection
        self._defaults = defaults

    def of(self, project_id: str) -> dict[str, Quota]:
        """A project's quotas by resource."""
        own = self._connection.execute(
            sa.select(quotas.c.resource, quotas.c.hard_limit).where(quotas.c.project_id == project_id)
        )
        limits = {**self._defaults, **{row.resource: row.hard_limit for row in own}}
        used = self._connection.execute(_USED, {"project_id": project_id}).one()
        count, volumes_gb, memory_mb, volumes_gb_at_most, memory_mb_at_most = map(int, used)
        has = {
            "instances": (count, 0),
            "ram": (memory_mb, memory_mb_at_most - memory_mb),
            "volumes": (volumes_gb, volumes_gb_at_most - volumes_gb),
            "backups": (int(self._connection.execute(_BACKUPS, {"project_id": project_id}).scalar_one()), 0),
        }
        return {resource: Quota(resource, limits[resource], *has.get(resource, ())) for resource in limits}

    def set(self, project_id: str, limits: Mapping[str, int]) -> None:
        """Give a project limits of its own. What it has already stays, above the limit too."""
        locks.hold(self._connection, f"quotas of {project_id}")
        for resource, limit in limits.items():
            mine = sa.and_(quotas.c.project_id == project_id, quotas.c.resource == resource)
            updated = self._connection.execute(sa.update(quotas).where(mine).values(hard_limit=limit))
            if updated.rowcount == 0:
                self._connection.execute(
                    sa.insert(quotas).values(project_id=project_id, resource=resource, hard_limit=limit)
                )

    def take(self, project_id: str, **wanted: int) -> None:
        """Before what takes them is written: raises QuotaExceeded unless the project may have so much more.

        `wanted` is by resource, such as `instances=1, ram=512, volumes=5`. Nothing is ever given back: what is
        deleted is not counted any more.
        """
        locks.hold(self._connection, f"quotas of {project_id}")
        check(self.of(project_id), wanted)

    def grow(self, instance: Instance, *, memory_mb: int | None = None, volume_gb: int | None = None) -> None:
        """Before a resize begins: raises QuotaExceeded unless the instance may become so large.

        It is counted at the larger of both sizes until its operation ends, however that ends.
        """
        locks.hold(self._connection, f"quotas of {instance.project_id}")
        stored = self._connection.execute(
            sa.select(instances.c.volume_gb, flavors.c.memory_mb)
            .select_from(instances.outerjoin(flavors, flavors.c.id == instances.c.flavor_id))
            .where(instances.c.id == instance.id)
        ).one()
        wanted, growing_to = {}, {}
        if memory_mb is not None:
            wanted["ram"] = memory_mb - (stored.memory_mb or 0)
            growing_to["growing_to_memory_mb"] = memory_mb
        if volume_gb is not None:
            wanted["volumes"] = volume_gb - stored.volume_gb
            growing_to["growing_to_gb"] = volume_gb
        check(self.of(instance.project_id), wanted)
        self._connection.execute(
            sa.update(instances).where(instances.c.id == instance.id).values(**growing_to)
        )
