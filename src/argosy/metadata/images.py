"""How far the software of each version is; the task manager publishes it, the API reads it."""

from __future__ import annotations

from datetime import UTC, datetime

import sqlalchemy as sa

from argosy.domain.datastore import Image
from argosy.metadata.locks import hold
from argosy.metadata.tables import images


class Images:
    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def all(self) -> list[Image]:
        query = sa.select(images).order_by(images.c.datastore, images.c.version)
        return [Image(*row) for row in self._connection.execute(query)]

    def publish(self, datastore: str, version: str, *, phase: str, detail: str, source: str | None) -> None:
        """Make the table say how far a version is now."""
        hold(self._connection, f"image {datastore} {version}")
        values = {"phase": phase, "detail": detail, "source": source, "updated_at": datetime.now(UTC)}
        mine = sa.and_(images.c.datastore == datastore, images.c.version == version)
        updated = self._connection.execute(sa.update(images).where(mine).values(**values))
        if updated.rowcount == 0:
            self._connection.execute(sa.insert(images).values(datastore=datastore, version=version, **values))

    def forget(self, datastore: str, version: str) -> None:
        """Of a version that is not there any more, or not under this name."""
        mine = sa.and_(images.c.datastore == datastore, images.c.version == version)
        self._connection.execute(sa.delete(images).where(mine))
