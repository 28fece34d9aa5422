"""What the routes work with, handed to the application by the process's main."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from argosy.api.streams import Streams
from argosy.identity.callers import Callers
from argosy.identity.directory import Directory
from argosy.identity.policy import Policy
from argosy.metadata.sealing import Seal
from argosy.metadata.store import Store
from argosy.rpc.client import Guests
from argosy.storage.backups import BackupStore
from argosy.storage.base import ObjectStore
from argosy.storage.keys import KeyRing

if TYPE_CHECKING:
    from argosy.api.rates import Rates


@dataclass(frozen=True)
class Parts:
    """`public_endpoint` is what clients are told, None for what each request was sent to; sizes in GB.

    `ending` is set when the process is about to end. `directory` keeps the built-in accounts; None where Keystone has
    them. `rates` is None where nobody's requests are counted. `backup_container` is where backups go unless told
    otherwise. `pulls_from_debian` says whether versions that operators make can be had at all, `boots_from_images`
    whether a version may name a cloud's image.
    """

    store: Store
    identity: Callers
    directory: Directory | None
    policy: Policy
    guests: Guests
    seal: Seal
    public_endpoint: str | None
    region: str
    default_datastore: str
    max_volume_gb: int
    database_ca: str
    streams: Streams
    objects: ObjectStore
    backups: BackupStore
    keys: KeyRing
    backup_container: str
    pulls_from_debian: bool
    boots_from_images: bool = False
    rates: Rates | None = None
    ending: threading.Event = field(default_factory=threading.Event)
