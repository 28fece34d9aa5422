"""What operators made of the catalog's versions: see domain.versions."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from argosy.domain.errors import Invalid
from argosy.domain.versions import Offer
from argosy.metadata import locks
from argosy.metadata.tables import configurations, datastore_versions, instances

_LOCK = "datastore versions"
_columns = datastore_versions.c


class DatastoreVersions:
    """They belong to nobody, so there is one list for all projects."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def all(self) -> list[Offer]:
        """In the order they were made; what was deleted too."""
        rows = self._connection.execute(
            sa.select(datastore_versions).order_by(_columns.created_at, _columns.id)
        )
        return [_offer(row) for row in rows]

    def hold(self) -> None:
        """Before anything is read on which a change will rest."""
        locks.hold(self._connection, _LOCK)

    def put(self, offer: Offer) -> None:
        """Write one down, in the place of what was known of it; the default of its datastore is the only one."""
        if offer.default:
            others = sa.and_(_columns.datastore == offer.datastore, _columns.is_default)
            self._connection.execute(sa.update(datastore_versions).where(others).values(is_default=None))
        values = {
            "datastore": offer.datastore,
            "name": offer.name,
            "manager": offer.manager,
            "series": offer.like,
            "number": offer.number,
            "suite": offer.suite,
            "packages": list(offer.packages),
            "image_tags": list(offer.tags),
            "image": offer.image,
            "active": offer.active,
            "is_default": offer.default,
            "deleted": offer.deleted,
        }
        mine = _columns.id == offer.id
        updated = self._connection.execute(sa.update(datastore_versions).where(mine).values(**values))
        if updated.rowcount == 0:
            self._connection.execute(
                sa.insert(datastore_versions).values(id=offer.id, created_at=datetime.now(UTC), **values)
            )

    def delete(self, offer: Offer) -> None:
        self.put(replace(offer, deleted=True, active=False, default=None))

    def users(self, datastore: str, version: str) -> list[str]:
        """What uses a version now, in words."""
        used = []
        for table, what, alive in (
            (instances, "instance", instances.c.deleted_at.is_(None)),
            (configurations, "configuration group", sa.true()),
        ):
            query = sa.select(sa.func.count()).where(
                table.c.datastore == datastore, table.c.version == version, alive
            )
            count = self._connection.execute(query).scalar_one()
            if count:
                used.append(f"{count} {what}{'' if count == 1 else 's'}")
        return used

    def check_offered(self, datastore: str, version: str) -> None:
        """Before an instance of it is written: raises Invalid for one that an operator has just taken away.

        What another process offers is known here a moment later only.
        """
        locks.share(self._connection, _LOCK)
        query = sa.select(_columns.active, _columns.deleted).where(
            _columns.datastore == datastore, _columns.name == version
        )
        rows = self._connection.execute(query).all()
        if rows and not any(row.active and not row.deleted for row in rows):
            raise Invalid(f"Version {version} of {datastore} is not offered any more.")


def _offer(row: sa.Row[Any]) -> Offer:
    return Offer(
        id=row.id,
        datastore=row.datastore,
        name=row.name,
        manager=row.manager,
        like=row.series,
        number=row.number,
        suite=row.suite,
        packages=tuple(row.packages),
        tags=tuple(row.image_tags),
        image=row.image,
        active=row.active,
        default=row.is_default,
        deleted=row.deleted,
    )
