"""Which task managers there are, which of them went silent, and which one leads.

All times are the database's, so that hosts whose clocks differ agree on who is silent.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa

from argosy.metadata.locks import clock, hold
from argosy.metadata.tables import leases
from argosy.metadata.tables import task_managers as table


@dataclass(frozen=True)
class TaskManager:
    id: str
    release: str
    started_at: datetime
    seen_at: datetime
    lost_at: datetime | None


class TaskManagers:
    """A row each, from its start until another has taken over what it had begun."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def all(self) -> list[TaskManager]:
        rows = self._connection.execute(sa.select(table).order_by(table.c.started_at))
        return [TaskManager(*row) for row in rows]

    def releases(self) -> set[str]:
        """Of those that live."""
        query = sa.select(table.c.release).where(table.c.lost_at.is_(None)).distinct()
        return set(self._connection.execute(query).scalars())

    def join(self, manager_id: str, release: str) -> None:
        now = clock(self._connection)
        self._connection.execute(
            sa.insert(table).values(id=manager_id, release=release, started_at=now, seen_at=now)
        )

    def inherit(self, executor: str) -> None:
        """One of a release that has no rows here is known to have ended."""
        now = clock(self._connection)
        there = self._connection.execute(sa.select(table.c.id).where(table.c.id == executor)).first()
        if there is None:
            self._connection.execute(
                sa.insert(table).values(id=executor, release="", started_at=now, seen_at=now, lost_at=now)
            )

    def seen(self, manager_id: str) -> bool:
        """Tell that it lives; False when others have declared it lost, so that it must not go on."""
        mine = sa.and_(table.c.id == manager_id, table.c.lost_at.is_(None))
        now = clock(self._connection)
        return self._connection.execute(sa.update(table).where(mine).values(seen_at=now)).rowcount > 0

    def lose(self, silent_for: timedelta) -> list[str]:
        """Declare lost who was silent for so long; the ids of those lost now."""
        now = clock(self._connection)
        silent = sa.and_(table.c.lost_at.is_(None), table.c.seen_at < now - silent_for)
        lost = sa.update(table).where(silent).values(lost_at=now).returning(table.c.id)
        return list(self._connection.execute(lost).scalars())

    def lose_these(self, ids: list[str]) -> None:
        """Declare lost who is known to have ended."""
        gone = sa.and_(table.c.lost_at.is_(None), table.c.id.in_(ids))
        self._connection.execute(sa.update(table).where(gone).values(lost_at=clock(self._connection)))

    def lost(self) -> list[str]:
        """Whose work nobody has taken over yet."""
        return list(
            self._connection.execute(sa.select(table.c.id).where(table.c.lost_at.is_not(None))).scalars()
        )

    def forget(self, manager_id: str) -> None:
        """What it had begun is in others' hands."""
        self._connection.execute(sa.delete(table).where(table.c.id == manager_id))


class Leases:
    """What only one process does at a time: whoever took it last, until it runs out."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def take(self, name: str, holder: str, duration: timedelta) -> bool:
        """Take it, or keep it; False while another has it."""
        hold(self._connection, f"lease {name}")
        now = clock(self._connection)
        row = self._connection.execute(sa.select(leases).where(leases.c.name == name)).first()
        until = now + duration
        if row is None:
            self._connection.execute(sa.insert(leases).values(name=name, holder=holder, until=until))
            return True
        if row.holder != holder and row.until > now:
            return False
        self._connection.execute(
            sa.update(leases).where(leases.c.name == name).values(holder=holder, until=until)
        )
        return True

    def holder(self, name: str) -> str | None:
        """Who has it now."""
        current = sa.and_(leases.c.name == name, leases.c.until > clock(self._connection))
        return self._connection.execute(sa.select(leases.c.holder).where(current)).scalar()

    def give_back(self, name: str, holder: str) -> None:
        mine = sa.and_(leases.c.name == name, leases.c.holder == holder)
        self._connection.execute(sa.delete(leases).where(mine))
