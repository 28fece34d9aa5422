"""What guests on machines are told of themselves, and which key each identity was spent on."""

from __future__ import annotations

from dataclasses import asdict, replace
from datetime import UTC, datetime

import sqlalchemy as sa

from argosy.domain.guest import Told
from argosy.metadata.tables import guests


class Guests:
    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def tell(self, told: Told) -> None:
        """From now on; how many identities it was given stays as it is."""
        values = {"told": asdict(told)}
        mine = guests.c.instance_id == told.instance_id
        changed = self._connection.execute(sa.update(guests).where(mine).values(**values))
        if changed.rowcount == 0:
            row = {"instance_id": told.instance_id, "identity": 1, **values}
            self._connection.execute(sa.insert(guests).values(**row))

    def find(self, instance_id: str) -> Told | None:
        """None for one that is no machine's, or is gone."""
        query = sa.select(guests.c.told, guests.c.identity).where(guests.c.instance_id == instance_id)
        row = self._connection.execute(query).first()
        return None if row is None else replace(Told.of(row.told), identity=row.identity)

    def all(self) -> dict[str, Told]:
        """By instance."""
        query = sa.select(guests.c.instance_id, guests.c.told, guests.c.identity)
        return {
            row.instance_id: replace(Told.of(row.told), identity=row.identity)
            for row in self._connection.execute(query)
        }

    def renew(self, instance_id: str) -> int:
        """Void its identity, and return the number of the next one, which the first key to ask is given."""
        mine = guests.c.instance_id == instance_id
        self._connection.execute(
            sa.update(guests)
            .where(mine)
            .values(identity=guests.c.identity + 1, key_digest=None, enrolled_at=None)
        )
        return int(self._connection.execute(sa.select(guests.c.identity).where(mine)).scalar_one())

    def enrol(self, instance_id: str, identity: int, key_digest: str) -> bool:
        """Spend an identity on a key; False when it is not the last one, or spent on another key."""
        free = sa.or_(guests.c.key_digest.is_(None), guests.c.key_digest == key_digest)
        spent = self._connection.execute(
            sa.update(guests)
            .where(guests.c.instance_id == instance_id, guests.c.identity == identity, free)
            .values(key_digest=key_digest, enrolled_at=datetime.now(UTC))
        )
        return spent.rowcount == 1

    def forget(self, instance_id: str) -> None:
        self._connection.execute(sa.delete(guests).where(guests.c.instance_id == instance_id))
