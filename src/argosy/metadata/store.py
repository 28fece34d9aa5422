"""Opening the metadata database: engines, transactions, and the queue that commits with them."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
import structlog

from argosy.domain import quotas
from argosy.files import keep_database
from argosy.metadata.backup_schedules import BackupSchedules
from argosy.metadata.backup_strategies import BackupStrategies
from argosy.metadata.backups import Backups
from argosy.metadata.configurations import Configurations
from argosy.metadata.datastore_versions import DatastoreVersions
from argosy.metadata.events import Events
from argosy.metadata.findings import Findings
from argosy.metadata.flavors import Flavors
from argosy.metadata.grants import Grants
from argosy.metadata.guests import Guests
from argosy.metadata.idempotency import IdempotentRequests
from argosy.metadata.images import Images
from argosy.metadata.installation import Installation
from argosy.metadata.instances import Instances
from argosy.metadata.log_archives import LogArchives
from argosy.metadata.logs import Logs
from argosy.metadata.operations import Operations
from argosy.metadata.parameters import Parameters
from argosy.metadata.queue import Queue
from argosy.metadata.quotas import Quotas
from argosy.metadata.task_managers import Leases, TaskManagers
from argosy.metadata.wrapped_keys import WrappedKeys

log = structlog.get_logger()

_AGAIN_S = 1.0


class Transaction:
    """One transaction: a repository per noun, each query scoped to `project_id` (None sees every project)."""

    def __init__(
        self, connection: sa.Connection, project_id: str | None, queue: Queue, limits: Mapping[str, int]
    ) -> None:
        self.connection = connection
        self.backups = Backups(connection, project_id)
        self.backup_strategies = BackupStrategies(connection)
        self.backup_schedules = BackupSchedules(connection, project_id)
        self.configurations = Configurations(connection, project_id)
        self.datastore_versions = DatastoreVersions(connection)
        self.events = Events(connection, project_id)
        self.findings = Findings(connection, self.events)
        self.flavors = Flavors(connection)
        self.grants = Grants(connection)
        self.guests = Guests(connection)
        self.idempotent_requests = IdempotentRequests(connection, project_id)
        self.images = Images(connection)
        self.installation = Installation(connection)
        self.instances = Instances(connection, project_id)
        self.leases = Leases(connection)
        self.log_archives = LogArchives(connection, project_id)
        self.logs = Logs(connection)
        self.operations = Operations(connection, project_id, queue, self.events, self._ended)
        self.parameters = Parameters(connection)
        self.quotas = Quotas(connection, limits)
        self.task_managers = TaskManagers(connection)
        self.wrapped_keys = WrappedKeys(connection)

    def _ended(self, operation_id: str, error: str | None) -> None:
        """What else an operation held is free with it, in the same transaction."""
        self.backups.release(operation_id, error)
        self.grants.take_with(operation_id)


class Store:
    """The metadata database. One per process; safe to share between threads.

    `limits` are the quotas, by resource, of projects that were given none of their own. Where it is for what nobody
    waits for, a database that is away is waited for at the beginning of a transaction, up to `patience_s`.
    """

    def __init__(
        self, url: str, limits: Mapping[str, int] = quotas.DEFAULTS, *, patience_s: float = 0
    ) -> None:
        self.url = url
        self._patience_s = patience_s
        self._limits = limits
        self.engine = create_engine(url)
        self.queue = Queue(url)

    @contextmanager
    def read(self, project_id: str | None = None) -> Iterator[Transaction]:
        """A transaction that changes nothing."""
        with self._connect() as connection:
            yield Transaction(connection, project_id, self.queue, self._limits)

    @contextmanager
    def write(self, project_id: str | None = None) -> Iterator[Transaction]:
        """A transaction that commits at its end, or not at all when anything is raised."""
        with self._connect() as connection:
            if self.engine.dialect.name == "sqlite":
                # The write lock first: what is read here is still true when it is written on.
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            yield Transaction(connection, project_id, self.queue, self._limits)
            connection.commit()

    def _connect(self) -> sa.Connection:
        deadline = time.monotonic() + self._patience_s
        while True:
            try:
                return self.engine.connect()
            except sa.exc.OperationalError:
                if time.monotonic() > deadline:
                    raise
                log.warning("the metadata database does not answer: waiting for it")
                time.sleep(_AGAIN_S)

    def answers(self) -> bool:
        """Whether the database does, now."""
        try:
            with self.engine.connect() as connection:
                connection.execute(sa.text("SELECT 1"))
        except (sa.exc.DBAPIError, sa.exc.TimeoutError):
            return False
        return True

    def close(self) -> None:
        self.queue.close()
        self.engine.dispose()


def create_engine(url: str) -> sa.Engine:
    """An engine whose SQLite connections wait for one another and check foreign keys."""
    if not url.startswith("sqlite"):
        # A host that is gone answers nothing, and libpq would wait for the kernel to give up.
        patience = {} if "connect_timeout" in sa.make_url(url).query else {"connect_timeout": 5}
        return sa.create_engine(url, pool_size=10, max_overflow=20, pool_pre_ping=True, connect_args=patience)
    engine = sa.create_engine(url, pool_size=10, max_overflow=30)
    if engine.url.database and engine.url.database != ":memory:":
        keep_database(Path(engine.url.database))

    @sa.event.listens_for(engine, "connect")
    def _prepare(connection: Any, _record: Any) -> None:
        connection.execute("PRAGMA busy_timeout = 30000")
        connection.execute("PRAGMA foreign_keys = ON")

    return engine
