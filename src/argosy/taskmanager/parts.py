"""What the steps work with. Set once by the process's main, before the first workflow runs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from argosy.metadata.sealing import Seal
from argosy.metadata.store import Store
from argosy.platforms.base import Platform
from argosy.rpc.certificates import Authority
from argosy.rpc.client import Guests
from argosy.storage.backups import BackupStore
from argosy.storage.base import ObjectStore
from argosy.storage.keys import KeyRing


@dataclass(frozen=True)
class Retention:
    """For how long it is known what was."""

    deleted_instances: timedelta = timedelta(days=30)
    operations: timedelta = timedelta(days=90)
    events: timedelta = timedelta(days=90)


@dataclass(frozen=True)
class Parts:
    """`control` signs guests' identities, `database` the certificates users see."""

    store: Store
    platform: Platform
    guests: Guests
    control: Authority
    database: Authority
    seal: Seal
    conductor_url: str
    objects: ObjectStore
    backups: BackupStore
    keys: KeyRing
    backup_container: str = "database_backups"
    backup_limit_mb_s: float | None = None
    archive_log_every_s: float = 60
    backup_patience_s: float = 600
    retention: Retention = Retention()


_installed: list[Parts] = []


def install(parts: Parts) -> None:
    _installed[:] = [parts]


def parts() -> Parts:
    return _installed[0]
