"""What the steps work with. Set once by the process's main, before the first workflow runs."""

from __future__ import annotations

from collections.abc import Callable
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
    reserved_memory_mb: int = 0  # of a machine's, for what is not the database server
    survey_every_s: float = 60
    retention: Retention = Retention()


_installed: list[tuple[Parts, Callable[[], None]]] = []


def install(parts: Parts, may_act: Callable[[], None] = lambda: None) -> None:
    """`may_act` is asked before each step acts: see `membership.Membership.check`."""
    _installed[:] = [(parts, may_act)]


def parts() -> Parts:
    """For steps. Returns only while this process may act."""
    own, may_act = _installed[0]
    may_act()
    return own
