"""Every setting, once: the home's argosy.toml, overridden by ARGOSY_* in the environment.

Each process's main reads it and hands values down; nothing else looks a setting up. A nested setting is
ARGOSY_<GROUP>__<NAME>, such as ARGOSY_LOCAL__NETWORK.
"""

from __future__ import annotations

import hashlib
import os
from ipaddress import IPv4Network
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, Field, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)


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
    """`public_endpoint` is what clients are told; unset, it is what each request was sent to."""

    listen: str = "127.0.0.1:8779"
    public_endpoint: str | None = None
    region: str = "RegionOne"
    max_volume_gb: int = Field(default=1000, ge=1)
    default_datastore: str = "postgresql"
    max_streams: int = Field(default=200, ge=0)
    max_streams_per_project: int = Field(default=20, ge=0)
    stream_heartbeat_s: float = Field(default=10, gt=0)


class ConductorSettings(BaseModel):
    """`listen` is also where guests reach it; unset, it is port 8778 of the first address of the local network."""

    listen: str | None = None


class TaskManagerSettings(BaseModel):
    workers: int = Field(default=16, ge=1)
    poll_s: float = Field(default=0.1, gt=0)


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
    """The local platform. `network` unset is a /24 of 127.77.0.0/16 chosen by the home's path."""

    network: IPv4Network | None = None
    volumes: Literal["auto", "real", "directory"] = "auto"
    limits: Literal["auto", "none"] = "auto"
    image_sources: list[Literal["debian", "wheel"]] = ["debian", "wheel"]
    images: Path | None = None
    debian_mirror: str | None = None


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

    home: Path
    metadata_url: str | None = None
    api: ApiSettings = ApiSettings()
    conductor: ConductorSettings = ConductorSettings()
    taskmanager: TaskManagerSettings = TaskManagerSettings()
    local: LocalSettings = LocalSettings()
    objects: ObjectSettings = ObjectSettings()
    backups: BackupSettings = BackupSettings()
    retention: RetentionSettings = RetentionSettings()
    quotas: QuotaSettings = QuotaSettings()
    rate_limits: RateLimitSettings = RateLimitSettings()
    flavors: list[FlavorSetting] = FLAVORS

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
            TomlConfigSettingsSource(settings_cls, Path(given["home"]) / "argosy.toml"),
        )

    @property
    def database_url(self) -> str:
        return self.metadata_url or f"sqlite:///{self.home / 'argosy.db'}"

    @property
    def network(self) -> IPv4Network:
        if self.local.network is not None:
            return self.local.network
        # Two homes on one machine almost never meet, and a home keeps its addresses.
        third = int.from_bytes(hashlib.sha256(os.fsencode(self.home)).digest()[:2]) % 199
        return IPv4Network(f"127.77.{third}.0/24")

    @property
    def conductor_listen(self) -> tuple[str, int]:
        return split(self.conductor.listen or f"{self.network[1]}:8778")

    @property
    def api_listen(self) -> tuple[str, int]:
        return split(self.api.listen)

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


def read(home: Path) -> Settings:
    """Raises pydantic's ValidationError, naming the setting and its bound."""
    return Settings(home=home)


def split(listen: str) -> tuple[str, int]:
    """HOST:PORT apart; IPv6 hosts in brackets. Raises ValueError."""
    host, _, port = listen.rpartition(":")
    return host.strip("[]") or "127.0.0.1", int(port)
