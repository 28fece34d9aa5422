"""Tables that are only added to, read in the order of their ids, while they grow.

On SQLite one transaction writes at a time, so ids become visible in their order. On PostgreSQL a transaction
may take a number, and commit after another has committed a higher one. A reader that went on from the highest
number it saw would never see the lower one. So a missing number is waited for until every transaction that
may have taken it has ended, which the server knows (its manual, pg_current_snapshot).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa

from argosy.domain.operations import Choice, JournalEntry

AT_ONCE = 500
# A transaction of another database in the same server may hold the horizon back; nobody waits for ever.
PATIENCE_S = 30.0
_XMIN = sa.text("select pg_snapshot_xmin(pg_current_snapshot())::text")
_XMAX = sa.text("select pg_snapshot_xmax(pg_current_snapshot())::text")


class Journal:
    """One such table, read through a connection. `entry` makes an entry of a row."""

    def __init__(
        self,
        connection: sa.Connection,
        table: sa.Table,
        entry: Callable[[sa.Row[Any]], JournalEntry],
        state: sa.Column[Any] | None = None,
    ) -> None:
        self._connection = connection
        self._table = table
        self._entry = entry
        self._state = state

    def bounds(self) -> tuple[int, int]:
        """The first and the last id there is; 0 and 0 for none."""
        ids = self._table.c.id
        first, last = self._connection.execute(sa.select(sa.func.min(ids), sa.func.max(ids))).one()
        return first or 0, last or 0

    def after(
        self, entry_id: int, *, up_to: int | None = None, choice: Choice | None = None, limit: int = AT_ONCE
    ) -> list[JournalEntry]:
        """Up to `limit` entries in order, from behind an id up to one."""
        ids = self._table.c.id
        query = sa.select(self._table).where(ids > entry_id).order_by(ids).limit(limit)
        if up_to is not None:
            query = query.where(ids <= up_to)
        if choice is not None:
            query = query.where(*chosen(self._table, choice, self._state))
        return [self._entry(row) for row in self._connection.execute(query)]

    @property
    def is_in_order(self) -> bool:
        """Whether entries become visible in the order of their ids."""
        return self._connection.dialect.name != "postgresql"

    def begun(self) -> int:
        """PostgreSQL's number above that of every transaction which has begun to write by now."""
        return int(self._connection.execute(_XMAX).scalar_one())

    def ended(self) -> int:
        """PostgreSQL's number below which every transaction has ended."""
        return int(self._connection.execute(_XMIN).scalar_one())


def chosen(
    table: sa.Table, choice: Choice, state: sa.Column[Any] | None, at: sa.Column[Any] | None = None
) -> list[sa.ColumnElement[bool]]:
    """A choice as conditions on the rows of a table of history; `at` is its time, unless that is called so."""
    conditions: list[sa.ColumnElement[bool]] = []
    if choice.project_id is not None:
        conditions.append(table.c.project_id == choice.project_id)
    if choice.instance_id is not None:
        conditions.append(table.c.instance_id == choice.instance_id)
    if choice.kinds:
        conditions.append(table.c.kind.in_(sorted(choice.kinds)))
    if choice.states and state is not None:
        conditions.append(state.in_(sorted(choice.states)))
    if choice.since is not None:
        conditions.append((table.c.at if at is None else at) >= choice.since)
    return conditions


class Follower:
    """Reads a journal as it grows: each entry once, in the order of their ids, none left out.

    `position` is the id up to which everything was read, None until it is known where the journal ends.
    """

    def __init__(self) -> None:
        self.position: int | None = None
        self._end: int | None = None
        # Ids up to `_top` that are missing will never be there once all below `_horizon` have ended.
        self._top = self._horizon = 0
        self._waits_since = 0.0

    def read(self, journal: Journal) -> list[JournalEntry]:
        """What has come since the last call, as far as nothing can come before it any more."""
        if journal.is_in_order:
            if self.position is None:
                self.position = journal.bounds()[1]
            entries = journal.after(self.position)
            self.position = entries[-1].id if entries else self.position
            return entries
        # Asked before the rows are read, which then hold all that such a transaction wrote.
        passed = journal.ended() >= self._horizon or time.monotonic() - self._waits_since > PATIENCE_S
        if self.position is None:
            if self._end is None:
                self._end = journal.bounds()[1]
                self._wait_for(journal, self._end)
                return []
            if not passed:
                return []
            self.position = self._end
        entries = journal.after(self.position)
        for number, entry in enumerate(entries):
            decided = passed and entry.id <= self._top
            if entry.id > self.position + 1 and not decided:
                if entry.id > self._top:
                    self._wait_for(journal, entries[-1].id)
                return entries[:number]
            self.position = entry.id
        return entries

    def _wait_for(self, journal: Journal, top: int) -> None:
        # Asked after the rows were read: whoever has taken a number below them had begun by then.
        self._top, self._horizon, self._waits_since = top, journal.begun(), time.monotonic()
