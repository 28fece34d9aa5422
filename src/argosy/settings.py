"""Every setting, once: the home's argosy.toml (or the file that ARGOSY_CONFIG names), overridden by ARGOSY_* in the environment.

Each process's main reads it and hands values down; nothing else looks a setting up. A nested setting is
ARGOSY_<GROUP>__<NAME>, such as ARGOSY_LOCAL__NETWORK.
"""

from __future__ import annotations

import hashlib
import os
import tomllib
from ipaddress import IPv4Network
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, Field, IPvAnyNetwork, ValidationError, field_validator, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from argosy.domain.errors import Invalid


class FlavorSetting(BaseModel):
    id: str
    name: str
    memory_mb: int = Field(ge=64)
    vcpus: int = Field(ge=1)


FLAVORS = [
    FlavorSetting(id="1", name="db.tiny", memory_mb=256, vcpus=1),
    FlavorSetting(id="2", name="db.small", memory_mb=512, vcpus=1),
    FlavorSetting(id="3", name="db.medium", memory_mb=1024, vcpus=1),
    FlavorSetting(id="4", name="db.large", memory_mb=2048, vcpus=2),
    FlavorSetting(id="5", name="db.xlarge", memory_mb=4096, vcpus=4),
]


class ApiSettings(BaseModel):
    """`public_endpoint` is what clients are told; unset, it is what each request was sent to.

    Who asks is who connects, unless that is one of `trusted_proxies`: then it is whom X-Forwarded-For names. When it is
    told to end, the API says so for `drain_s` at /healthcheck while it goes on serving, so that balancers turn away.
    """

    listen: str = "127.0.0.1:8779"
    public_endpoint: str | None = None
    region: str = "RegionOne"
    max_volume_gb: int = Field(default=1000, ge=1)
    default_datastore: str = "postgresql"
    max_streams: int = Field(default=200, ge=0)
    max_streams_per_project: int = Field(default=20, ge=0)
    stream_heartbeat_s: float = Field(default=10, gt=0)
    trusted_proxies: list[IPvAnyNetwork] = []
    drain_s: float = Field(default=0, ge=0, le=300)


class ConductorSettings(BaseModel):
    """`listen` unset is port 8778 of the first address of the local network.

    `endpoint` is where guests reach it, as HOST:PORT: a load balancer's, the name of several, or several with commas
    between, of which guests ask the next when one is away; unset, where it listens. `health_listen` answers balancers.
    """

    listen: str | None = None
    endpoint: str | None = None
    health_listen: str | None = None

    @field_validator("endpoint")
    @classmethod
    def _names_ports(cls, endpoint: str | None) -> str | None:
        for one in (endpoint or "").split(",") if endpoint else ():
            host, _, port = one.strip().rpartition(":")
            if not host or not port.isdigit() or "/" in host:
                raise ValueError(
                    f"conductor.endpoint must be HOST:PORT, or several with commas between, not {one!r}"
                )
        return endpoint


class TaskManagerSettings(BaseModel):
    """What one that was not heard of for `silent_after_s` had begun is taken up by another."""

    workers: int = Field(default=16, ge=1)
    poll_s: float = Field(default=0.1, gt=0)
    silent_after_s: float = Field(default=15, ge=1)
    health_listen: str | None = None


class RetentionSettings(BaseModel):
    """For how many days it is known what was: deleted instances, operations that ended, events."""

    deleted_instances_days: float = Field(default=30, ge=0)
    operations_days: float = Field(default=90, ge=1)
    events_days: float = Field(default=90, ge=1)


class ObjectSettings(BaseModel):
    """The object store: where it is (unset, `objects` in the home), and what one project may hold; unset, no bound."""

    directory: Path | None = None
    max_gb_per_project: float | None = Field(default=10, gt=0)


class S3Settings(BaseModel):
    """A bucket; without `endpoint` it is Amazon's, without `access_key` boto3 looks where it usually does."""

    bucket: str = ""
    endpoint: str | None = None
    region: str | None = None
    access_key: str | None = None
    secret_key_file: Path | None = None


class SwiftSettings(BaseModel):
    """An account: by a cloud of a clouds.yaml (Keystone), or by `auth_url`, `user` and password (v1 auth)."""

    cloud: str | None = None
    clouds_file: Path | None = None
    auth_url: str | None = None
    user: str | None = None
    password_file: Path | None = None


class BackupSettings(BaseModel):
    """Where backups are kept: `store` says in what, `directory` unset is `backups` in the home.

    `limit_mb_s` bounds what one backup reads, in MiB.

    `ca_file` (PEM) says who signed the store's certificate, if that is nobody whom the system knows.
    What is not archived of a log is at most `archive_log_every_s` old.
    A guest waits `patience_s` for a store that is away before its backup or restore fails.
    """

    store: Literal["directory", "s3", "swift"] = "directory"
    directory: Path | None = None
    s3: S3Settings = S3Settings()
    swift: SwiftSettings = SwiftSettings()
    ca_file: Path | None = None
    container: str = "database_backups"
    limit_mb_s: float | None = Field(default=None, gt=0)
    archive_log_every_s: float = Field(default=60, ge=1)
    patience_s: float = Field(default=600, gt=0)

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if self.store == "s3" and not self.s3.bucket:
            raise ValueError("backups.s3.bucket must be given when backups.store is s3")
        if (self.s3.access_key is None) != (self.s3.secret_key_file is None):
            raise ValueError("backups.s3 must have access_key and secret_key_file, or none of both")
        by_keystone = self.swift.cloud is not None and self.swift.clouds_file is not None
        by_name = None not in {self.swift.auth_url, self.swift.user, self.swift.password_file}
        if self.store == "swift" and not (by_keystone or by_name):
            raise ValueError(
                "backups.swift must have cloud and clouds_file, or auth_url, user and password_file"
            )
        return self


class LocalSettings(BaseModel):
    """The local platform. `network` unset is a /24 of 127.77.0.0/16 chosen by the directory's path.

    `directory` is where instances are; unset, the home. Homes of one machine may share one.
    """

    directory: Path | None = None
    network: IPv4Network | None = None
    volumes: Literal["auto", "real", "directory"] = "auto"
    limits: Literal["auto", "none"] = "auto"
    image_sources: list[Literal["debian", "wheel"]] = ["debian", "wheel"]
    images: Path | None = None
    debian_mirror: str | None = None


class OpenStackSettings(BaseModel):
    """The cloud that servers are made in, when `platform` is openstack.

    `cloud` names one of `clouds_file` (unset, where OpenStack's clients look), with the rights of a project that owns
    all servers and volumes. `installation` keeps what is made apart from that of another Argosy in that project.
    Agents are called on `management_network`, from `control_cidrs` (unset, from its own subnets); databases are on
    `network` where nothing else is asked (unset, on the management network). Where users are Keystone's, they may ask for
    networks of their own project and for `shared_networks`. `floating_network` is where public
    addresses come from. `flavors` is a pattern of their names; of a flavor's memory the operating system and the agent
    keep `reserved_memory_mb`. Servers of one group are kept apart by `spread`. What the cloud has is compared with what
    it should have every `survey_every_s`.
    """

    cloud: str = ""
    clouds_file: Path | None = None
    installation: str = Field(default="argosy", pattern=r"[a-z0-9][a-z0-9-]{0,30}")
    management_network: str = ""
    network: str | None = None
    shared_networks: list[str] = []
    control_cidrs: list[IPv4Network] = []
    floating_network: str | None = None
    volume_type: str | None = None
    availability_zone: str | None = None
    keypair: str | None = None
    flavors: str = "db.*"
    reserved_memory_mb: int = Field(default=192, ge=0)
    spread: Literal["anti-affinity", "soft-anti-affinity"] = "soft-anti-affinity"
    request_timeout_s: float = Field(default=60, gt=0)
    survey_every_s: float = Field(default=60, ge=5)


class KeystoneSettings(BaseModel):
    """The Keystone that knows the users, when `identity` is keystone, and the user that asks it about their tokens.

    It is asked at `auth_url`; with an `interface`, where the catalog has the identity service of the region. Users are
    told to log in at `public_url` (unset, `auth_url`). What it said of a token holds for `cache_s`. One try may take
    `timeout_s`. `admin_roles` make an administrator, `service_roles` let a service vouch for a user.
    """

    auth_url: str = ""
    public_url: str | None = None
    username: str = ""
    password_file: Path | None = None
    project_name: str = "service"
    user_domain: str = "Default"
    project_domain: str = "Default"
    region: str | None = None
    interface: Literal["public", "internal", "admin"] | None = None
    ca_file: Path | None = None
    cache_s: float = Field(default=30, ge=0, le=3600)
    timeout_s: float = Field(default=5, gt=0, le=60)
    admin_roles: list[str] = ["admin"]
    service_roles: list[str] = ["service"]


class QuotaSettings(BaseModel):
    """What a project may have that was given no quotas of its own: `ram` in MB, `volumes` in GB; -1 is unlimited."""

    instances: int = Field(default=10, ge=-1)
    ram: int = Field(default=-1, ge=-1)
    volumes: int = Field(default=40, ge=-1)
    backups: int = Field(default=50, ge=-1)


class RateLimitSettings(BaseModel):
    """How many requests a project may make in a `unit`, by verb; unset is any number. `put` counts PATCH too."""

    unit: Literal["second", "minute", "hour", "day"] = "minute"
    get: int | None = Field(default=None, ge=1)
    post: int | None = Field(default=None, ge=1)
    put: int | None = Field(default=None, ge=1)
    delete: int | None = Field(default=None, ge=1)
    mgmt_post: int | None = Field(default=None, ge=1)


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="ARGOSY_", env_nested_delimiter="__", extra="ignore")

    """`secrets` is the directory of what all processes of an installation share; unset, `secrets` in the home.

    `metadata_password_file` is read where `metadata_url` has no password.
    """

    home: Path
    metadata_url: str | None = None
    metadata_password_file: Path | None = None
    secrets: Path | None = None
    platform: Literal["local", "openstack"] = "local"
    identity: Literal["built-in", "keystone"] = "built-in"
    api: ApiSettings = ApiSettings()
    conductor: ConductorSettings = ConductorSettings()
    taskmanager: TaskManagerSettings = TaskManagerSettings()
    local: LocalSettings = LocalSettings()
    openstack: OpenStackSettings = OpenStackSettings()
    keystone: KeystoneSettings = KeystoneSettings()
    objects: ObjectSettings = ObjectSettings()
    backups: BackupSettings = BackupSettings()
    retention: RetentionSettings = RetentionSettings()
    quotas: QuotaSettings = QuotaSettings()
    rate_limits: RateLimitSettings = RateLimitSettings()
    flavors: list[FlavorSetting] = FLAVORS

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if self.platform == "openstack" and not (self.openstack.cloud and self.openstack.management_network):
            raise ValueError(
                "openstack.cloud and openstack.management_network must be given when platform is openstack"
            )
        keystone = self.keystone
        if self.identity == "keystone" and not (
            keystone.auth_url and keystone.username and keystone.password_file
        ):
            raise ValueError(
                "keystone.auth_url, username and password_file must be given when identity is keystone"
            )
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - none are read
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - none are read
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        given = init_settings()
        return (
            init_settings,
            env_settings,
            TomlConfigSettingsSource(settings_cls, configuration_file(Path(given["home"]))),
        )

    @property
    def database_url(self) -> str:
        """With its password, if that is not libpq's to find. Raises OSError when the file of it cannot be read."""
        if self.metadata_url is None:
            return f"sqlite:///{self.home / 'argosy.db'}"
        if self.metadata_password_file is None:
            return self.metadata_url
        # What names a setting needs no SQL.
        from sqlalchemy.engine import make_url

        password = self.metadata_password_file.read_text().strip()
        return make_url(self.metadata_url).set(password=password).render_as_string(hide_password=False)

    @property
    def secrets_directory(self) -> Path:
        return self.secrets or self.home / "secrets"

    @property
    def local_directory(self) -> Path:
        return self.local.directory or self.home

    @property
    def network(self) -> IPv4Network:
        if self.local.network is not None:
            return self.local.network
        # Two homes on one machine almost never meet, and a home keeps its addresses.
        third = int.from_bytes(hashlib.sha256(os.fsencode(self.local_directory)).digest()[:2]) % 199
        return IPv4Network(f"127.77.{third}.0/24")

    @property
    def conductor_listen(self) -> tuple[str, int]:
        return split(self.conductor.listen or f"{self.network[1]}:8778")

    @property
    def conductor_endpoints(self) -> list[tuple[str, int]]:
        if self.conductor.endpoint is None:
            return [self.conductor_listen]
        return [split(one.strip()) for one in self.conductor.endpoint.split(",")]

    @property
    def conductor_url(self) -> str:
        """What guests are told: one address, or several with commas between."""
        return ",".join(f"https://{_joined(host, port)}" for host, port in self.conductor_endpoints)

    @property
    def api_listen(self) -> tuple[str, int]:
        return split(self.api.listen)

    @property
    def api_endpoint(self) -> str:
        """Where clients find the API, as far as is known here."""
        return self.api.public_endpoint or f"http://{self.api.listen}"

    @property
    def images_directory(self) -> Path:
        return self.local.images or self.home / "images"


def default_home() -> Path:
    """ARGOSY_HOME, else /var/lib/argosy for root and the user's data directory otherwise (XDG)."""
    named = os.environ.get("ARGOSY_HOME")
    if named:
        return Path(named).absolute()
    if os.geteuid() == 0:
        return Path("/var/lib/argosy")
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share") / "argosy"


def configuration_file(home: Path) -> Path:
    """ARGOSY_CONFIG, else argosy.toml in the home."""
    named = os.environ.get("ARGOSY_CONFIG")
    return Path(named) if named else home / "argosy.toml"


def read(home: Path) -> Settings:
    """Raises Invalid, which names each setting that is wrong and its bound, and no value: it may be a password."""
    file = configuration_file(home)
    try:
        return Settings(home=home)
    except tomllib.TOMLDecodeError as error:
        raise Invalid(f"{file} is no TOML: {error}.") from None
    except ValidationError as error:
        wrong = "; ".join(_told(one["loc"], one["msg"]) for one in error.errors())
        raise Invalid(f"The settings ({file}, ARGOSY_*) are wrong: {wrong}.") from None


def _told(place: tuple[int | str, ...], message: str) -> str:
    said = message.removeprefix("Value error, ")
    return f"{'.'.join(map(str, place))}: {said}" if place else said


def split(listen: str) -> tuple[str, int]:
    """HOST:PORT apart; IPv6 hosts in brackets. Raises ValueError."""
    host, _, port = listen.rpartition(":")
    return host.strip("[]") or "127.0.0.1", int(port)


def _joined(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
