"""Backups: what they are, when one may be used or deleted, and what a restore is to bring back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal

from argosy.domain.errors import BackupIncomplete, BackupOutOfReach, Busy, Invalid, VolumeTooSmall

Users = Literal["current", "backup"]


class BackupStatus(StrEnum):
    """As the API names them (contract 3.4)."""

    NEW = "NEW"
    BUILDING = "BUILDING"
    SAVING = "SAVING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    RESTORED = "RESTORED"  # made elsewhere and registered here
    DELETE_FAILED = "DELETE_FAILED"


RUNNING = frozenset({BackupStatus.NEW, BackupStatus.BUILDING, BackupStatus.SAVING})
USABLE = frozenset({BackupStatus.COMPLETED, BackupStatus.RESTORED})


@dataclass(frozen=True)
class Backup:
    """A row of the metadata database. It outlives its instance.

    `store`, `container` and `prefix` say where its archive is; `size_bytes` is what it takes there, `data_bytes` what
    was read of the server. `wrapped_key` is the archive's data key, encrypted by the installation's key ring.
    `facts` are the engine's own (positions, program versions, checksums), as its manifest has them; `service` is
    what its instance was besides the data (flavor, volume, configuration group, access rules), by names of
    `taskmanager/steps/backups.py`. `operation_id` is of the operation that holds it now, whose kind is beside it.
    With `leftovers` objects of a failed one may lie in the store. One that is `elsewhere` was made by another
    installation, whose archive it is: it is read here and never changed or deleted. `verified` is None until it was tried.
    """

    id: str
    project_id: str
    name: str
    instance_id: str
    datastore: str
    version: str
    status: BackupStatus
    store: str
    container: str
    prefix: str
    created_at: datetime
    updated_at: datetime
    wrapped_key: str = field(default="", repr=False)
    description: str | None = None
    instance_name: str | None = None
    parent_id: str | None = None
    size_bytes: int | None = None
    data_bytes: int | None = None
    volume_gb: int | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    service: Mapping[str, Any] = field(default_factory=dict)
    operation_id: str | None = None
    operation_kind: str | None = None
    error: str | None = None
    schedule_id: str | None = None
    completed_at: datetime | None = None
    leftovers: bool = False
    elsewhere: bool = False
    verified: bool | None = None
    verified_at: datetime | None = None
    verification: Mapping[str, Any] = field(default_factory=dict)
    restore_s: float | None = None

    @property
    def shown(self) -> BackupStatus:
        """What users are told: COMPLETED only when its operation has let go of it and of its instance, too.

        Whoever waits for that goes on with both at once.
        """
        held = self.status is BackupStatus.COMPLETED and self.operation_kind == "backup.create"
        return BackupStatus.SAVING if held else self.status

    @property
    def is_usable(self) -> bool:
        return self.status in USABLE

    @property
    def is_good(self) -> bool:
        """Usable, as far as is known: no restore of it was tried in vain."""
        return self.is_usable and self.verified is not False

    def check_usable(self) -> None:
        """Raises BackupIncomplete unless it can be restored, or built on."""
        if not self.is_usable:
            raise BackupIncomplete(backup_id=self.id, status=self.status.value)

    def check_is_in(self, store: str) -> None:
        """Raises BackupOutOfReach when it is not in this kind of store, which is the one in use."""
        if self.store != store:
            raise BackupOutOfReach(backup_id=self.id, store=self.store, now=store)

    def check_can_delete(self) -> None:
        """Raises Busy while it is being made, verified, or deleted already."""
        if self.operation_id is not None or self.status in RUNNING:
            raise Busy(
                f"Backup {self.id} is {self.shown.value} and an operation holds it: wait until that ends.",
                code="backup-busy",
            )

    def check_restores_to(self, datastore: str, version: str) -> None:
        """Raises Invalid unless a server of that version reads its data."""
        if datastore != self.datastore:
            raise Invalid(
                f"Backup {self.id} is of {self.datastore}: it cannot be restored to {datastore}.",
                code="other-datastore",
            )
        if version != self.version:
            raise Invalid(
                f"Backup {self.id} is of version {self.version}, whose data {version} does not take over: restore it to "
                f"{self.version} or a version that can be upgraded to from there.",
                code="other-version",
            )


@dataclass(frozen=True)
class Strategy:
    """In which container the backups of an instance are kept, or with an empty `instance_id` those of the project."""

    project_id: str
    instance_id: str
    container: str


@dataclass(frozen=True)
class Recovery:
    """What a restore brings back: a backup with its parents, and with `archive_id` the log from there on.

    Up to `to_time` (aware, UTC), or `to_position` (an LSN of PostgreSQL, a GTID of MariaDB), or, without both, the end
    of the log. `users` says whether they are as their server has them now, or as they were then.
    """

    backup_id: str
    archive_id: str | None = None
    to_time: datetime | None = None
    to_position: str | None = None
    users: Users = "current"


def room_for(sizes: Sequence[int]) -> int:
    """About what archives of these sizes, the full one first, take of a volume while they are restored, in bytes.

    An increment is unpacked beside the full one, and both are merged into a third.
    """
    return sum(sizes) + (sizes[0] if len(sizes) > 1 else 0)


def needed_bytes(chain: Sequence[Backup]) -> int:
    """The same of a chain of backups."""
    return room_for([backup.data_bytes or 0 for backup in chain])


def check_fits(chain: Sequence[Backup], volume_gb: int) -> None:
    """Raises VolumeTooSmall, with the numbers."""
    needed = needed_bytes(chain)
    if needed > volume_gb * 2**30:
        raise VolumeTooSmall(needed_gb=needed / 2**30, volume_gb=volume_gb)


def newest_parent(backups: Sequence[Backup], version: str) -> Backup | None:
    """What an increment is made on when no parent was named: the newest backup of that version that is whole.

    None also when that one was found to be no good, as what it builds on may be the reason.
    """
    usable = [one for one in backups if one.status is BackupStatus.COMPLETED and one.version == version]
    newest = max(usable, key=lambda one: one.created_at, default=None)
    return newest if newest is not None and newest.is_good else None


def chain_of(backup: Backup, by_id: Mapping[str, Backup]) -> list[Backup]:
    """The backup with all its parents, the full one first. Raises KeyError when a parent is missing."""
    chain = [backup]
    while chain[0].parent_id is not None:
        chain.insert(0, by_id[chain[0].parent_id])
    return chain


def descendants_of(backup_id: str, backups: Sequence[Backup]) -> list[Backup]:
    """Its children and theirs, each after its own children: the order in which they can be deleted."""
    found: list[Backup] = []
    for one in backups:
        if one.parent_id == backup_id:
            found += [*descendants_of(one.id, backups), one]
    return found
