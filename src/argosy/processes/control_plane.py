"""The control plane's parts, put together from the settings of a home."""

from __future__ import annotations

import sys
import threading
from contextlib import suppress
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any

from argosy import catalog
from argosy.domain.datastore import Version
from argosy.domain.instance import Flavor
from argosy.domain.versions import Offer
from argosy.files import write_file
from argosy.metadata.accounts import Accounts
from argosy.metadata.locks import alone
from argosy.metadata.store import Store
from argosy.platforms.base import Platform
from argosy.platforms.local.images import LocalImages
from argosy.platforms.local.platform import LocalPlatform
from argosy.processes import clouds
from argosy.processes.shared import open_shared
from argosy.rpc import peers
from argosy.rpc.client import Guests
from argosy.rpc.tls import client_context, server_context
from argosy.settings import Settings

if TYPE_CHECKING:
    from argosy.identity.callers import Callers
    from argosy.identity.directory import Directory

_DATABASE_AWAY_S = 3600.0


class ControlPlane:
    """What every process of a home shares: its database, its secrets, its way to the guests."""

    def __init__(self, settings: Settings, *, migrates: bool) -> None:
        """Raises WrongRevision unless this release may work on the database, or it is to be brought to it."""
        self.settings = settings
        home = settings.home
        home.mkdir(mode=0o755, parents=True, exist_ok=True)
        self.store = Store(settings.database_url, settings.quotas.model_dump())
        self._secrets = open_shared(self.store, settings.secrets_directory, migrates=migrates)
        catalog.lay_over(self._offers)
        self.seal = self._secrets.seal
        self.control = self._secrets.control
        self.database = self._secrets.database
        write_file(home / "database-ca.crt", self.database.certificate, 0o644)
        self.streams: Any = None
        self.api_ending = threading.Event()
        self._backups: Any = None
        self._own = self._identity(peers.CONTROL_PLANE)
        self.guests = Guests(client_context(*self._own))

    def conductor_server(self) -> Any:
        """The conductor, listening where guests reach it once started."""
        from argosy.conductor.app import application
        from argosy.rpc.server import TlsServer

        host, port = self.settings.conductor_listen
        app = application(self.store, self.backups(), self.control, self.database)
        return TlsServer(app, host, port, server_context(*self._own))

    def api(self) -> Any:
        """The API's ASGI application, with the first accounts made when there are none and they are ours."""
        from argosy.api.app import application
        from argosy.api.parts import Parts
        from argosy.api.streams import Streams
        from argosy.identity.policy import Policy

        api = self.settings.api
        identity, directory = self._callers()
        policy = Policy(self.settings.home / "policy.yaml")
        self.streams = Streams(
            self.store,
            at_most=api.max_streams,
            per_project=api.max_streams_per_project,
            heartbeat_s=api.stream_heartbeat_s,
        )
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
                boots_from_images=self.settings.platform == "openstack",
                pulls_from_debian="debian" in self.settings.local.image_sources,
                rates=self._rates(),
                ending=self.api_ending,
            )
        )

    def _callers(self) -> tuple[Callers, Directory | None]:
        """Who knows the callers, and who keeps their accounts: nobody here, where Keystone has them."""
        if self.settings.identity == "keystone":
            return keystone(self.settings), None
        from argosy.identity.bootstrap import ensure_bootstrap
        from argosy.identity.directory import Directory
        from argosy.identity.service import Identity

        api, home = self.settings.api, self.settings.home
        accounts = Accounts(self.store.engine)
        identity = Identity(accounts)
        directory = Directory(accounts, identity)
        endpoint = self.settings.api_endpoint
        with alone(self.store.engine, "accounts"):
            ensure_bootstrap(directory, lambda passwords: clouds.write(home, endpoint, api.region, passwords))
        clouds.move(home, endpoint, api.region)
        return identity, directory

    def _rates(self) -> Any:
        limits = self.settings.rate_limits.model_dump(exclude={"unit"}, exclude_none=True)
        if not limits:
            return None
        # What counts requests is loaded where they are counted.
        from argosy.api.rates import Rates

        return Rates(limits, self.settings.rate_limits.unit)

    def task_manager(self, *, ran_before: bool) -> Any:
        """`ran_before` says whether this home ever had one."""
        from argosy.taskmanager.main import TaskManager
        from argosy.taskmanager.membership import Membership, place_of
        from argosy.taskmanager.parts import Parts, Retention

        kept = self.settings.retention
        platform = self.platform()
        platform.warm_up()
        # A step that does not find the database would fail its operation, and no user waits for a step.
        patient = Store(
            self.settings.database_url, self.settings.quotas.model_dump(), patience_s=_DATABASE_AWAY_S
        )
        parts = Parts(
            store=patient,
            platform=platform,
            guests=self.guests,
            control=self.control,
            database=self.database,
            seal=self.seal,
            conductor_url=self.settings.conductor_url,
            objects=self.objects(),
            backups=self.backups(),
            keys=self.keys(),
            backup_container=self.settings.backups.container,
            backup_limit_mb_s=self.settings.backups.limit_mb_s,
            archive_log_every_s=self.settings.backups.archive_log_every_s,
            backup_patience_s=self.settings.backups.patience_s,
            reserved_memory_mb=self.settings.openstack.reserved_memory_mb if platform.machines else 0,
            survey_every_s=self.settings.openstack.survey_every_s,
            retention=Retention(
                deleted_instances=timedelta(days=kept.deleted_instances_days),
                operations=timedelta(days=kept.operations_days),
                events=timedelta(days=kept.events_days),
            ),
        )
        own = self.settings.taskmanager
        place = place_of(self.settings.home, self.store, ran_before=ran_before)
        return TaskManager(
            parts,
            Membership(self.store, place, silent_after_s=own.silent_after_s),
            workers=own.workers,
            poll_s=own.poll_s,
        )

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

            self._backups = backup_store(self.settings, self._secrets.directory)
        return self._backups

    def keys(self) -> Any:
        return self._secrets.keys

    def platform(self) -> Platform:
        if self.settings.platform == "local":
            return local_platform(self.settings)
        return openstack_platform(self.settings)

    def end_streams(self) -> None:
        """Those who follow would keep the API from ending."""
        if self.streams is not None:
            self.streams.close()

    def close(self) -> None:
        self.guests.close()
        if self._backups is not None:
            self._backups.close()
        self.store.close()

    def _identity(self, name: str) -> tuple[Path, Path, Path]:
        """CA, certificate and key of the control plane itself, one file, made anew at every start.

        As a conductor it answers where it listens, and under every name that guests are told.
        """
        hosts = {host for host, _ in (self.settings.conductor_listen, *self.settings.conductor_endpoints)}
        addresses = {host for host in hosts if _is_address(host)}
        issued = self.control.issue(
            common_name=name,
            addresses=sorted(addresses),
            names=sorted(hosts - addresses),
            client=True,
            server=True,
        )
        # In the home, where it is this host's own: the secrets may be others' too, or not to be written.
        own = self.settings.home / "identity" / f"{name}.pem"
        own.parent.mkdir(mode=0o700, exist_ok=True)
        write_file(own, issued.key + issued.certificate, 0o600)
        with suppress(OSError):
            # Where the release before had it.
            (self._secrets.directory / f"{name}.pem").unlink()
        return self.control.path, own, own


def keystone(settings: Settings) -> Callers:
    """Raises OSError when the file with its password cannot be read."""
    # Loaded where it is used: keystoneauth1 brings another HTTP client with it.
    from argosy.identity.keystone import Keystone, ServiceUser

    wanted = settings.keystone
    user = ServiceUser(
        auth_url=wanted.auth_url,
        username=wanted.username,
        password_file=wanted.password_file or Path(),
        project_name=wanted.project_name,
        user_domain=wanted.user_domain,
        project_domain=wanted.project_domain,
        region=wanted.region,
        interface=wanted.interface,
        ca_file=wanted.ca_file,
    )
    return Keystone(
        user,
        cache_s=wanted.cache_s,
        timeout_s=wanted.timeout_s,
        admin_roles=wanted.admin_roles,
        service_roles=wanted.service_roles,
        log_in_url=wanted.public_url,
    )


def local_images(settings: Settings) -> LocalImages:
    """The software of datastores, unpacked on this machine."""
    from argosy.platforms.local.templates import template_builder, template_recipe

    local = settings.local
    return LocalImages(
        settings.images_directory,
        build_template=template_builder(Path(sys.executable), _engine_of, _builder_account()),
        recipe=template_recipe(_engine_of),
        debian_mirror=local.debian_mirror,
        sources=local.image_sources,
    )


def local_platform(settings: Settings) -> LocalPlatform:
    """This machine as a platform, under the settings of a home."""
    local = settings.local
    return LocalPlatform(
        settings.local_directory,
        network=settings.network,
        flavors=[Flavor(one.id, one.name, one.memory_mb, one.vcpus) for one in settings.flavors],
        images=local_images(settings),
        volumes=local.volumes,
        limits=local.limits,
        ports=[datastore.port for datastore in catalog.datastores().values()],
    )


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def openstack_platform(settings: Settings) -> Platform:
    """A project of a cloud as a platform, under the settings of a home."""
    from argosy.platforms.openstack.platform import OpenStackPlatform

    given = settings.openstack
    return OpenStackPlatform(
        cloud=given.cloud,
        clouds_file=given.clouds_file,
        installation=given.installation,
        management_network=given.management_network,
        network=given.network,
        shared_networks=given.shared_networks if settings.identity == "keystone" else None,
        control_cidrs=given.control_cidrs,
        floating_network=given.floating_network,
        volume_type=given.volume_type,
        availability_zone=given.availability_zone,
        keypair=given.keypair,
        flavors=given.flavors,
        spread=given.spread,
        request_timeout_s=given.request_timeout_s,
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
