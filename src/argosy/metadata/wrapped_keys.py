"""The data keys of backups and log archives, as the metadata database has them: wrapped by keys of the ring."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Literal

import sqlalchemy as sa

from argosy.domain.backup import BackupStatus
from argosy.metadata.tables import backups, log_archives

Kind = Literal["backup", "log"]


@dataclass(frozen=True)
class WrappedKey:
    """One of them. A copy of ours lies beside the archive in the store, unless nothing of it is there or it is another's."""

    kind: Kind
    id: str
    container: str
    prefix: str
    wrapped: str = field(repr=False)
    in_store: bool
    store: str


class WrappedKeys:
    """Those of all projects."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def uses(self) -> dict[tuple[str, Kind], int]:
        """How many are wrapped by each key of the ring, by its id, of each kind."""
        found: Counter[tuple[str, Kind]] = Counter()
        kinds: tuple[tuple[Kind, sa.Column[str]], ...] = (
            ("backup", backups.c.wrapped_key),
            ("log", log_archives.c.wrapped_key),
        )
        for kind, column in kinds:
            for wrapped in self._connection.execute(sa.select(column).where(column != "")).scalars():
                found[wrapped.partition(":")[0], kind] += 1
        return dict(found)

    def to_rewrap(self, active: str) -> list[WrappedKey]:
        """Those that another key than the active one wraps, but for backups that an operation is busy with."""
        by_others = sa.not_(backups.c.wrapped_key.startswith(f"{active}:", autoescape=True))
        free = sa.select(backups).where(
            by_others, backups.c.wrapped_key != "", backups.c.operation_id.is_(None)
        )
        logs = sa.select(log_archives).where(
            sa.not_(log_archives.c.wrapped_key.startswith(f"{active}:", autoescape=True))
        )
        return [
            *(
                WrappedKey(
                    "backup",
                    row.id,
                    row.container,
                    row.prefix,
                    row.wrapped_key,
                    store=row.store,
                    in_store=row.status != BackupStatus.FAILED and not row.elsewhere,
                )
                for row in self._connection.execute(free)
            ),
            *(
                WrappedKey(
                    "log", row.id, row.container, row.prefix, row.wrapped_key, in_store=True, store=row.store
                )
                for row in self._connection.execute(logs)
            ),
        ]

    def replace(self, key: WrappedKey, wrapped: str) -> bool:
        """False when its backup or archive is gone."""
        table = backups if key.kind == "backup" else log_archives
        changed = self._connection.execute(
            sa.update(table).where(table.c.id == key.id).values(wrapped_key=wrapped)
        )
        return changed.rowcount == 1
