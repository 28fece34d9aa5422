"""The control plane's parts, put together from the settings of a home."""

from __future__ import annotations

import os
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

from argosy import catalog
from argosy.domain.datastore import Version
from argosy.domain.instance import Flavor
from argosy.domain.versions import Offer
from argosy.files import write_file
from argosy.metadata.accounts import Accounts
from argosy.metadata.migrations import migrate
from argosy.metadata.sealing import Seal
from argosy.metadata.store import Store
from argosy.platforms.local.platform import LocalPlatform
from argosy.processes import clouds
from argosy.rpc import peers
from argosy.rpc.certificates import Authority
from argosy.rpc.client import Guests
from argosy.rpc.tls import client_context, server_context
from argosy.settings import Settings


class ControlPlane:
    """What every process of a home shares: its database, its secrets, its way to the guests."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        home = settings.home
        home.mkdir(mode=0o755, parents=True, exist_ok=True)
        self._secrets = home / "secrets"
        self._secrets.mkdir(mode=0o700, exist_ok=True)
        if settings.metadata_url is None:
            # Made here, so that it is nobody else's from its first byte.
            os.close(os.open(home / "argosy.db", os.O_CREAT | os.O_RDWR, 0o600))
        self.store = Store(settings.database_url, settings.quotas.model_dump())
        migrate(self.store.engine, self.store.url)
        catalog.lay_over(self._offers)
        self.seal = Seal.open_file(self._secrets / "seal.key")
        self.control = Authority.open(self._secrets, "control")
        self.database = Authority.open(self._secrets, "database")
        write_file(home / "database-ca.crt", self.database.certificate, 0o644)
        host, _ = settings.conductor_listen
        self.streams: Any = None
        self._backups: Any = None
        self._own = self._identity(peers.CONTROL_PLANE, addresses=[host])
        self.guests = Guests(client_context(*self._own))

    def conductor_server(self) -> Any:
        """The conductor, listening where guests reach it once started."""
        from argosy.conductor.app import application
        from argosy.rpc.server import TlsServer

        host, port = self.settings.conductor_listen
        return TlsServer(application(self.store, self.backups()), host, port, server_context(*self._own))

    def api(self) -> Any:
        """The API's ASGI application, with the first accounts made when there are none."""
        from argosy.api.app import application
        from argosy.api.parts import Parts
        from argosy.api.streams import Streams
        from argosy.identity.bootstrap import ensure_bootstrap
        from argosy.identity.directory import Directory
        from argosy.identity.policy import Policy
        from argosy.identity.service import Identity

        api = self.settings.api
        accounts = Accounts(self.store.engine)
        identity = Identity(accounts)
        directory = Directory(accounts, identity)
        policy = Policy(self.settings.home / "policy.yaml")
        self.streams = Streams(
            self.store,
            at_most=api.max_streams,
            per_project=api.max_streams_per_project,
            heartbeat_s=api.stream_heartbeat_s,
        )
        endpoint = api.public_endpoint or f"http://{api.listen}"
        ensure_bootstrap(
            directory, lambda passwords: clouds.write(self.settings.home, endpoint, api.region, passwords)
        )
        clouds.move(self.settings.home, endpoint, api.region)
        return application(
            Parts(
                store=self.store,
                identity=identity,
                directory=directory,
                policy=policy,
                guests=self.guests,
                seal=self.seal,
                public_endpoint=api.public_endpoint,
                region=api.region,
                default_datastore=api.default_datastore,
                max_volume_gb=api.max_volume_gb,
                database_ca=self.database.certificate,
                streams=self.streams,
                objects=self.objects(),
                backups=self.backups(),
                keys=self.keys(),
                backup_container=self.settings.backups.container,
                pulls_from_debian="debian" in self.settings.local.image_sources,
                rates=self._rates(),
            )
        )

    def _rates(self) -> Any:
        limits = self.settings.rate_limits.model_dump(exclude={"unit"}, exclude_none=True)
        if not limits:
            return None
        # What counts requests is loaded where they are counted.
        from argosy.api.rates import Rates

        return Rates(limits, self.settings.rate_limits.unit)

    def task_manager(self) -> Any:
        from argosy.taskmanager.main import TaskManager
        from argosy.taskmanager.parts import Parts, Retention

        kept = self.settings.retention
        host, port = self.settings.conductor_listen
        platform = self.platform()
        platform.warm_up()
        parts = Parts(
            store=self.store,
            platform=platform,
            guests=self.guests,
            control=self.control,
            database=self.database,
            seal=self.seal,
            conductor_url=f"https://{host}:{port}",
            objects=self.objects(),
            backups=self.backups(),
            keys=self.keys(),
            backup_container=self.settings.backups.container,
            backup_limit_mb_s=self.settings.backups.limit_mb_s,
            archive_log_every_s=self.settings.backups.archive_log_every_s,
            backup_patience_s=self.settings.backups.patience_s,
            retention=Retention(
                deleted_instances=timedelta(days=kept.deleted_instances_days),
                operations=timedelta(days=kept.operations_days),
                events=timedelta(days=kept.events_days),
            ),
        )
        workers, poll_s = self.settings.taskmanager.workers, self.settings.taskmanager.poll_s
        return TaskManager(parts, workers=workers, poll_s=poll_s)

    def _offers(self) -> list[Offer]:
        with self.store.read() as tx:
            return tx.datastore_versions.all()

    def objects(self) -> Any:
        from argosy.storage.directory import DirectoryStore

        objects = self.settings.objects
        most = None if objects.max_gb_per_project is None else int(objects.max_gb_per_project * 2**30)
        return DirectoryStore(objects.directory or self.settings.home / "objects", most_bytes=most)

    def backups(self) -> Any:
        """Where backups are kept; one for all parts of this process."""
        if self._backups is None:
            from argosy.processes.backup_stores import backup_store

            self._backups = backup_store(self.settings, self._secrets)
        return self._backups

    def keys(self) -> Any:
        from argosy.storage.keys import KeyRing

        return KeyRing.open(self._secrets / "backup-keys")

    def platform(self) -> LocalPlatform:
        return local_platform(self.settings)

    def end_streams(self) -> None:
        """Those who follow would keep the API from ending."""
        if self.streams is not None:
            self.streams.close()

    def close(self) -> None:
        self.guests.close()
        if self._backups is not None:
            self._backups.close()
        self.store.close()

    def _identity(self, name: str, *, addresses: list[str]) -> tuple[Path, Path, Path]:
        """CA, certificate and key of the control plane itself, one file, made anew at every start."""
        issued = self.control.issue(common_name=name, addresses=addresses, client=True, server=True)
        own = self._secrets / f"{name}.pem"
        write_file(own, issued.key + issued.certificate, 0o600)
        return self.control.path, own, own


def local_platform(settings: Settings) -> LocalPlatform:
    """This machine as a platform, under the settings of a home."""
    from argosy.platforms.local.images import LocalImages
    from argosy.platforms.local.templates import template_builder, template_recipe

    local = settings.local
    images = LocalImages(
        settings.images_directory,
        build_template=template_builder(Path(sys.executable), _engine_of, _builder_account()),
        recipe=template_recipe(_engine_of),
        debian_mirror=local.debian_mirror,
        sources=local.image_sources,
    )
    return LocalPlatform(
        settings.home,
        network=settings.network,
        flavors=[Flavor(one.id, one.name, one.memory_mb, one.vcpus) for one in settings.flavors],
        images=images,
        volumes=local.volumes,
        limits=local.limits,
        ports=[datastore.port for datastore in catalog.datastores().values()],
    )


def _engine_of(version: Version) -> str:
    return catalog.datastores()[version.datastore].engine


def _builder_account() -> tuple[int, int] | None:
    """Templates are made under a named account as root, since PostgreSQL's initdb asks for the name."""
    from argosy.platforms.local import accounts

    if not accounts.separate():
        return None
    account = accounts.builder()
    return account.uid, account.gid
