"""How much of each log of an instance is published, in whose account, and who is publishing it now."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from argosy.domain.logs import Published
from argosy.metadata.tables import instance_logs as table

# Whoever publishes says so again with each part; one that was silent for this long is dead.
ABANDONED = timedelta(seconds=60)


class Logs:
    """The published logs in one project's account."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def published(self, instance_id: str, account: str) -> dict[str, Published]:
        """By the log's name."""
        rows = self._connection.execute(
            sa.select(table).where(
                table.c.instance_id == instance_id, table.c.account == account, table.c.prefix != ""
            )
        )
        return {
            row.name: Published(row.begins, row.ends, row.rotated, row.parts, row.container, row.prefix)
            for row in rows
        }

    def claim(self, instance_id: str, account: str, name: str, claimant: str) -> tuple[bool, str | None]:
        """Whether the claimant alone may publish this log now; and the part that another died over, if any."""
        now = datetime.now(UTC)
        mine = self._mine(instance_id, account, name)
        row = self._connection.execute(sa.select(table).where(mine)).first()
        if row is None:
            try:
                self._connection.execute(
                    sa.insert(table).values(
                        instance_id=instance_id,
                        account=account,
                        name=name,
                        begins=0,
                        ends=0,
                        rotated=0,
                        parts=0,
                        container="",
                        prefix="",
                        claimant=claimant,
                        claimed_at=now,
                    )
                )
            except sa.exc.IntegrityError:
                return False, None
            return True, None
        free = sa.or_(table.c.claimant.is_(None), table.c.claimed_at < now - ABANDONED)
        taken = self._connection.execute(
            sa.update(table).where(mine, free).values(claimant=claimant, claimed_at=now)
        )
        return taken.rowcount == 1, row.writing

    def begin_part(self, instance_id: str, account: str, name: str, claimant: str, part: str) -> bool:
        """Before a part is written: should we die over it, it is written again under the same name."""
        return self._change(instance_id, account, name, claimant, writing=part)

    def note(self, instance_id: str, account: str, name: str, claimant: str, published: Published) -> bool:
        """What is published by now. False when the claim was lost."""
        return self._change(
            instance_id,
            account,
            name,
            claimant,
            writing=None,
            begins=published.begins,
            ends=published.ends,
            rotated=published.rotated,
            parts=published.parts,
            container=published.container,
            prefix=published.prefix,
        )

    def forget(self, instance_id: str, account: str, name: str, claimant: str) -> bool:
        """Nothing is published any more."""
        return self.note(instance_id, account, name, claimant, Published(0, 0, 0, 0, "", ""))

    def release(self, instance_id: str, account: str, name: str, claimant: str) -> None:
        self._connection.execute(
            sa.update(table)
            .where(self._mine(instance_id, account, name), table.c.claimant == claimant)
            .values(claimant=None, claimed_at=None)
        )

    def _change(self, instance_id: str, account: str, name: str, claimant: str, **values: object) -> bool:
        done = self._connection.execute(
            sa.update(table)
            .where(self._mine(instance_id, account, name), table.c.claimant == claimant)
            .values(claimed_at=datetime.now(UTC), **values)
        )
        return done.rowcount == 1

    def _mine(self, instance_id: str, account: str, name: str) -> sa.ColumnElement[bool]:
        return sa.and_(table.c.instance_id == instance_id, table.c.account == account, table.c.name == name)
