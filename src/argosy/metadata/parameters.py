"""The parameters of each version: what a live server told, and what operators say instead."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime

import sqlalchemy as sa

from argosy.domain.parameters import Catalogue, Override, Parameter, from_json, merged, to_json
from argosy.metadata.locks import hold
from argosy.metadata.tables import parameter_overrides, parameters


class Parameters:
    """They belong to nobody, so there is one list for all projects."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def of(self, datastore: str, version: str) -> list[Parameter]:
        """By name, with what operators changed; none until the version's software was pulled once."""
        return merged(self.read(datastore, version), self.overrides(datastore, version))

    def read(self, datastore: str, version: str) -> list[Parameter]:
        """What the live server told."""
        query = sa.select(parameters.c.catalogue).where(
            parameters.c.datastore == datastore, parameters.c.version == version
        )
        return [from_json(one) for one in self._connection.execute(query).scalar() or []]

    def digests(self) -> dict[tuple[str, str], str]:
        """Of what was published last, by datastore and version."""
        query = sa.select(parameters.c.datastore, parameters.c.version, parameters.c.digest)
        return {(row.datastore, row.version): row.digest for row in self._connection.execute(query)}

    def publish(self, datastore: str, version: str, told: Catalogue) -> None:
        """Take the place of what was read earlier."""
        hold(self._connection, f"parameters {datastore} {version}")
        mine = sa.and_(parameters.c.datastore == datastore, parameters.c.version == version)
        self._connection.execute(sa.delete(parameters).where(mine))
        self._connection.execute(
            sa.insert(parameters).values(
                datastore=datastore,
                version=version,
                server_version=told.server_version,
                catalogue=[to_json(one) for one in told.parameters],
                digest=told.digest,
                read_at=datetime.now(UTC),
            )
        )

    def overrides(self, datastore: str, version: str) -> list[Override]:
        table = parameter_overrides
        query = sa.select(table.c.definition).where(
            table.c.datastore == datastore, table.c.version == version
        )
        return [Override(**one) for (one,) in self._connection.execute(query.order_by(table.c.name))]

    def override(self, datastore: str, version: str, override: Override) -> None:
        """Take the place of an earlier one of that name."""
        table = parameter_overrides
        mine = sa.and_(
            table.c.datastore == datastore, table.c.version == version, table.c.name == override.name
        )
        self._connection.execute(sa.delete(table).where(mine))
        self._connection.execute(
            sa.insert(table).values(
                datastore=datastore, version=version, name=override.name, definition=asdict(override)
            )
        )
