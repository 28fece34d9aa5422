"""What all processes of an installation must agree on, written down by the first."""

from __future__ import annotations

import sqlalchemy as sa

from argosy.metadata.tables import installation as table


class Installation:
    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def facts(self) -> dict[str, str]:
        """By name."""
        query = sa.select(table.c.name, table.c.value)
        return {row.name: row.value for row in self._connection.execute(query)}

    def note(self, name: str, value: str) -> None:
        """Write down one that is new."""
        self._connection.execute(sa.insert(table).values(name=name, value=value))
