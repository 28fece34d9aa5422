"""A server's API as one object, with a part for each kind of thing."""

from __future__ import annotations

from types import TracebackType
from typing import Self

import httpx

from argosy.client.accounts import Accounts
from argosy.client.backup_keys import BackupKeys
from argosy.client.backup_schedules import BackupSchedules
from argosy.client.backups import Backups, BackupStrategies
from argosy.client.catalog import Datastores, Flavors, Images, certificate_authority
from argosy.client.clouds import Cloud
from argosy.client.configurations import Configurations
from argosy.client.databases import Databases, RootAccess, Users
from argosy.client.drift import Drift
from argosy.client.dumps import Dumps
from argosy.client.history import Events, Operations
from argosy.client.instances import Instances
from argosy.client.log_archives import LogArchives
from argosy.client.logs import Logs
from argosy.client.management import DatastoreVersions, ManagedInstances
from argosy.client.parameters import ManagedParameters, Parameters
from argosy.client.quotas import Quotas
from argosy.client.session import Session


class Argosy:
    """Everything a user may ask of a server. Logs in when first asked something. Not for several threads."""

    def __init__(
        self, cloud: Cloud, *, timeout_s: float = 60, transport: httpx.BaseTransport | None = None
    ) -> None:
        self.session = Session(cloud, timeout_s=timeout_s, transport=transport)
        self.instances = Instances(self.session)
        self.backups = Backups(self.session)
        self.backup_strategies = BackupStrategies(self.session)
        self.backup_schedules = BackupSchedules(self.session)
        self.configurations = Configurations(self.session)
        self.databases = Databases(self.session)
        self.users = Users(self.session)
        self.root = RootAccess(self.session)
        self.log_archives = LogArchives(self.session)
        self.drift = Drift(self.session)
        self.dumps = Dumps(self.session)
        self.logs = Logs(self.session)
        self.operations = Operations(self.session)
        self.events = Events(self.session)
        self.datastores = Datastores(self.session)
        self.flavors = Flavors(self.session)
        self.images = Images(self.session)
        self.parameters = Parameters(self.session)
        self.managed_parameters = ManagedParameters(self.session)
        self.accounts = Accounts(self.session)
        self.backup_keys = BackupKeys(self.session)
        self.quotas = Quotas(self.session)
        self.managed_instances = ManagedInstances(self.session)
        self.datastore_versions = DatastoreVersions(self.session)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self.session.close()

    def certificate_authority(self) -> str:
        """The certificate, as PEM, that signs those of all databases."""
        return certificate_authority(self.session)
