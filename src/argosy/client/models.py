"""What the API shows, as plain frozen data. Times are aware, UTC; sizes in GB are GiB, as Trove means them."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import Any


def time_of(text: str | None) -> datetime | None:
    """A date of the API: naive in the database API's answers, always UTC."""
    if text is None:
        return None
    at = datetime.fromisoformat(text)
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)


@dataclass(frozen=True)
class Upgrade:
    """A version that an instance can be moved to; without `converts`, its data is read as it is."""

    id: str
    name: str
    datastore: str
    converts: bool

    @classmethod
    def read(cls, shown: dict[str, Any]) -> Upgrade:
        return cls(
            id=shown["id"], name=shown["name"], datastore=shown["datastore"], converts=shown["converts"]
        )


@dataclass(frozen=True)
class Operation:
    """One heavy request and how far it is: step `step` of `steps`, in words. A pull of an image has no instance."""

    id: str
    instance_id: str | None
    instance_name: str | None
    kind: str
    state: str
    step: int
    steps: int
    doing: str
    requested_by: str
    created: datetime | None
    started: datetime | None
    ended: datetime | None
    error_code: str | None = None
    error: str | None = None

    @property
    def has_ended(self) -> bool:
        return self.state in {"succeeded", "failed"}

    @classmethod
    def read(cls, shown: dict[str, Any]) -> Operation:
        return cls(
            **{
                key: shown[key]
                for key in ("id", "instance_id", "kind", "state", "step", "steps", "doing", "requested_by")
            },
            instance_name=shown.get("instance_name"),
            created=time_of(shown["created"]),
            started=time_of(shown["started"]),
            ended=time_of(shown["ended"]),
            error_code=shown.get("error_code"),
            error=shown.get("error"),
        )


@dataclass(frozen=True)
class Fault:
    """Why the last failed operation failed; `details` are for administrators."""

    message: str
    created: datetime | None
    details: str | None = None


@dataclass(frozen=True)
class Follows:
    """The configuration group that an instance follows, and how far it is with the newest revision."""

    id: str
    name: str
    state: str | None
    revision: int | None
    error: str | None

    @classmethod
    def read(cls, group: dict[str, Any], how: dict[str, Any]) -> Follows:
        return cls(group["id"], group["name"], how.get("state"), how.get("revision"), how.get("error"))


@dataclass(frozen=True)
class Recovery:
    """What an instance can be restored to by its newest archived log, and how that is."""

    archiving: bool
    earliest: datetime | None
    latest: datetime | None
    lag_seconds: int | None
    error: str | None

    @classmethod
    def read(cls, shown: dict[str, Any]) -> Recovery:
        return cls(
            shown["archiving"],
            time_of(shown["earliest"]),
            time_of(shown["latest"]),
            shown["lag_seconds"],
            shown["error"],
        )


@dataclass(frozen=True)
class Instance:
    """A database server. From a list, what only `show` tells is empty: times, fault, operation, limits.

    `limits` says what holds it to its size (`memory`, `cpu`, `volume`), `access` what holds clients off
    (`reach`, `networks`, `tls`), each in words.
    """

    id: str
    name: str
    status: str
    operating_status: str
    meaning: str
    datastore: str
    version: str
    version_number: str
    flavor_id: str
    volume_gb: int
    volume_used_gb: float | None
    volume_used_percent: float | None
    address: str | None
    port: int | None
    region: str | None
    platform: str | None
    limits: dict[str, str] = field(default_factory=dict)
    is_public: bool = False
    allowed_cidrs: tuple[str, ...] = ()
    access: dict[str, str] = field(default_factory=dict)
    operation: Operation | None = None
    fault: Fault | None = None
    created: datetime | None = None
    updated: datetime | None = None
    project_id: str | None = None
    configuration: Follows | None = None
    protected: bool = False
    tags: dict[str, str] = field(default_factory=dict)
    deleted: datetime | None = None
    autogrow_limit_gb: int | None = None
    recovery: Recovery | None = None
    public_address: str | None = None

    @property
    def state(self) -> str:
        """The two statuses in a word or two: ACTIVE alone hides that the database server is down."""
        quiet = {"", "HEALTHY", "ACTIVE", self.status}
        return self.status if self.operating_status in quiet else f"{self.status} {self.operating_status}"

    @property
    def serves(self) -> bool:
        return self.status in {"ACTIVE", "RESTART_REQUIRED"} and self.operating_status in {
            "",
            "HEALTHY",
            "ACTIVE",
            "BLOCKED",
        }

    @classmethod
    def read(cls, shown: dict[str, Any]) -> Instance:
        addresses = shown.get("addresses") or []
        ours = shown.get("argosy") or {}
        fault = shown.get("fault")
        operation = ours.get("operation")
        public = next((one["address"] for one in addresses if one.get("type") == "public"), None)
        datastore, volume = shown["datastore"], shown.get("volume") or {}
        return cls(
            id=shown["id"],
            name=shown["name"],
            status=shown["status"],
            operating_status=shown.get("operating_status") or "",
            meaning=ours.get("meaning") or "",
            datastore=datastore["type"],
            version=datastore["version"],
            version_number=datastore.get("version_number") or datastore["version"],
            flavor_id=str(shown["flavor"]["id"]),
            volume_gb=volume.get("size") or 0,
            volume_used_gb=volume.get("used"),
            volume_used_percent=volume.get("used_percent"),
            autogrow_limit_gb=volume.get("autogrow_limit"),
            address=addresses[0]["address"] if addresses else next(iter(shown.get("ip") or []), None),
            port=ours.get("port") or (addresses[0].get("port") if addresses else None),
            region=shown.get("region"),
            platform=ours.get("name"),
            limits=dict(ours.get("limits") or {}),
            is_public=bool((shown.get("access") or {}).get("is_public")),
            allowed_cidrs=tuple((shown.get("access") or {}).get("allowed_cidrs") or ()),
            access=dict(ours.get("access") or {}),
            operation=None if operation is None else Operation.read(operation),
            fault=None
            if fault is None
            else Fault(fault["message"], time_of(fault.get("created")), fault.get("details")),
            created=time_of(shown.get("created")),
            updated=time_of(shown.get("updated")),
            project_id=shown.get("tenant_id"),
            configuration=None
            if not shown.get("configuration")
            else Follows.read(shown["configuration"], ours.get("configuration") or {}),
            protected=bool(ours.get("protected")),
            tags=dict(ours.get("tags") or {}),
            deleted=time_of(ours.get("deleted")),
            public_address=public,
            recovery=Recovery.read(ours["recovery"]) if ours.get("recovery") else None,
        )


@dataclass(frozen=True)
class Event:
    """Something that happened to an instance; `actor` is a user's name or the part of Argosy."""

    id: int
    instance_id: str | None
    instance_name: str | None
    at: datetime | None
    kind: str
    message: str
    actor: str

    @classmethod
    def read(cls, shown: dict[str, Any]) -> Event:
        return cls(
            shown["id"],
            shown["instance_id"],
            shown.get("instance_name"),
            time_of(shown["at"]),
            shown["kind"],
            shown["message"],
            shown["actor"],
        )


@dataclass(frozen=True)
class User:
    """A database user; `host` is from where it may come, `%` for anywhere."""

    name: str
    host: str
    databases: tuple[str, ...]

    @classmethod
    def read(cls, shown: dict[str, Any]) -> User:
        databases = tuple(each["name"] for each in shown.get("databases") or [])
        return cls(shown["name"], shown.get("host") or "%", databases)


@dataclass(frozen=True)
class Root:
    """The account that `root enable` opens, with the password it has now."""

    name: str
    password: str = field(repr=False)


@dataclass(frozen=True)
class Datastore:
    """What a user picks; `versions` by name, `default_version` among them."""

    id: str
    name: str
    versions: tuple[str, ...]
    default_version: str | None

    @classmethod
    def read(cls, shown: dict[str, Any]) -> Datastore:
        names = {version["id"]: version["name"] for version in shown["versions"]}
        default = shown.get("default_version")
        return cls(shown["id"], shown["name"], tuple(names.values()), names.get(default, default))


@dataclass(frozen=True)
class Flavor:
    """A size of server: memory in MiB, processors."""

    id: str
    name: str
    memory_mb: int
    vcpus: int

    @classmethod
    def read(cls, shown: dict[str, Any]) -> Flavor:
        return cls(shown["str_id"], shown["name"], shown["ram"], shown["vcpus"])


@dataclass(frozen=True)
class BackupKey:
    """A key of the ring, never the key itself: how many backups' and log archives' own keys it wraps."""

    id: str
    active: bool
    present: bool
    backups: int
    log_archives: int
    created: datetime | None = None

    @classmethod
    def read(cls, shown: dict[str, Any]) -> BackupKey:
        return cls(
            shown["id"],
            shown["active"],
            shown["present"],
            shown["backups"],
            shown["log_archives"],
            time_of(shown.get("created")),
        )


@dataclass(frozen=True)
class Finding:
    """A difference between what the cloud has and what it should have; over since `gone`, `repaired` or not seen any more."""

    id: str
    kind: str
    resource: str
    message: str
    repaired: bool
    instance_id: str | None = None
    instance_name: str | None = None
    project_id: str | None = None
    found: datetime | None = None
    seen: datetime | None = None
    gone: datetime | None = None

    @classmethod
    def read(cls, shown: dict[str, Any]) -> Finding:
        return cls(
            shown["id"],
            shown["kind"],
            shown["resource"],
            shown["message"],
            shown["repaired"],
            shown.get("instance_id"),
            shown.get("instance_name"),
            shown.get("tenant_id"),
            time_of(shown.get("found")),
            time_of(shown.get("seen")),
            time_of(shown.get("gone")),
        )


@dataclass(frozen=True)
class Image:
    """The software of a datastore version: absent, pulling, ready or failed, and what it was made from."""

    datastore: str
    version: str
    phase: str
    detail: str | None
    source: str | None
    updated: datetime | None

    @property
    def has_tls(self) -> bool:
        """The wheels' servers were built without."""
        return not (self.source or "").startswith("wheel")

    @classmethod
    def read(cls, shown: dict[str, Any]) -> Image:
        return cls(
            shown["datastore"],
            shown["version"],
            shown["phase"],
            shown.get("detail"),
            shown.get("source"),
            time_of(shown.get("updated")),
        )


@dataclass(frozen=True)
class GuestAgent:
    """The program of ours on a server: `code` is its digest, `is_current` whether that is the control plane's."""

    release: int
    code: str | None
    is_current: bool

    @classmethod
    def read(cls, shown: dict[str, Any]) -> GuestAgent:
        return cls(shown["release"], shown["code"], shown["current"])


@dataclass(frozen=True)
class ManagedInstance(Instance):
    """An instance as administrators see it; `task` says what holds it, None for nothing.

    `agent` is None before it has reported.
    """

    task: str | None = None
    root_enabled_by: str | None = None
    agent: GuestAgent | None = None

    @classmethod
    def read(cls, shown: dict[str, Any]) -> ManagedInstance:
        operation = (shown.get("argosy") or {}).get("operation")
        known = vars(Instance.read(shown))
        return cls(
            **{**known, "deleted": time_of(shown.get("deleted_at"))},
            task=operation["kind"] if operation else None,
            root_enabled_by=shown.get("root_enabled_by"),
            agent=GuestAgent.read(shown["agent"]) if shown.get("agent") else None,
        )


@dataclass(frozen=True)
class RootHistory:
    """When root was last enabled, and the id of the user who did it; None for never."""

    instance_id: str
    enabled: datetime | None
    user_id: str | None

    @classmethod
    def read(cls, shown: dict[str, Any]) -> RootHistory:
        never = shown["enabled"] == "Never"
        return cls(
            shown["id"], None if never else time_of(shown["enabled"]), None if never else shown["user"]
        )


@dataclass(frozen=True)
class ProcessFigures:
    """What the kernel says of a process; sizes in KiB."""

    pid: int
    threads: int
    memory_kb: int
    memory_at_most_kb: int
    address_space_kb: int
    address_space_at_most_kb: int
    file_slots: int

    @classmethod
    def read(cls, shown: dict[str, Any], pid: int) -> ProcessFigures:
        return cls(
            pid=pid,
            threads=shown["threads"],
            memory_kb=shown["vmRss"],
            memory_at_most_kb=shown["vmHwm"],
            address_space_kb=shown["vmSize"],
            address_space_at_most_kb=shown["vmPeak"],
            file_slots=shown["fdSize"],
        )


@dataclass(frozen=True)
class Diagnostics:
    """The agent's release and figures, and those of the database server, None while none runs."""

    agent_version: str
    agent: ProcessFigures
    server: ProcessFigures | None

    @classmethod
    def read(cls, shown: dict[str, Any]) -> Diagnostics:
        ours = shown["argosy"]
        server = ours["server"]
        return cls(
            shown["version"],
            ProcessFigures.read(shown, ours["pid"]),
            None if server is None else ProcessFigures.read(server, server["pid"]),
        )


@dataclass(frozen=True)
class Hardware:
    """What an instance's guest was given for its database server."""

    memory_mb: int
    vcpus: int

    @classmethod
    def read(cls, shown: dict[str, Any]) -> Hardware:
        return cls(shown["mem_total"] // 1024, shown["num_cpus"])


@dataclass(frozen=True)
class Quota:
    """A limit of a project's, -1 for none; `reserved` is what its running operations may still take."""

    resource: str
    in_use: int
    reserved: int
    limit: int

    @classmethod
    def read(cls, shown: dict[str, Any]) -> Quota:
        return cls(shown["resource"], shown["in_use"], shown["reserved"], shown["limit"])


@dataclass(frozen=True)
class Rate:
    """How many requests of a verb may be made in a unit of time, and how many still may now."""

    verb: str
    uri: str
    limit: int
    remaining: int
    unit: str
    next_at: datetime | None

    @classmethod
    def read(cls, shown: dict[str, Any]) -> Rate:
        return cls(
            shown["verb"],
            shown["uri"],
            shown["value"],
            shown["remaining"],
            shown["unit"],
            time_of(shown["nextAvailable"]),
        )


@dataclass(frozen=True)
class ManagedVersion:
    """A version as administrators see it; `packages` and `tags` say what its software is made from."""

    id: str
    datastore: str
    name: str
    number: str
    manager: str
    active: bool
    default: bool
    tags: tuple[str, ...]
    packages: tuple[str, ...]

    @classmethod
    def read(cls, shown: dict[str, Any]) -> ManagedVersion:
        return cls(
            id=shown["id"],
            datastore=shown["datastore_name"],
            name=shown["name"],
            number=shown["version"],
            manager=shown["datastore_manager"],
            active=shown["active"],
            default=shown["default"],
            tags=tuple(shown["image_tags"]),
            packages=tuple(shown["packages"]),
        )


@dataclass(frozen=True)
class Configuration:
    """A configuration group; from a list, without values, revision and how many instances follow it."""

    id: str
    name: str
    description: str | None
    datastore: str
    version: str
    created: datetime | None
    updated: datetime | None
    values: dict[str, Any] = field(default_factory=dict)
    revision: int | None = None
    instances: int | None = None

    @classmethod
    def read(cls, shown: dict[str, Any]) -> Configuration:
        return cls(
            id=shown["id"],
            name=shown["name"],
            description=shown.get("description"),
            datastore=shown["datastore_name"],
            version=shown["datastore_version_name"],
            created=time_of(shown["created"]),
            updated=time_of(shown["updated"]),
            values=dict(shown.get("values") or {}),
            revision=shown.get("revision"),
            instances=shown.get("instance_count"),
        )


@dataclass(frozen=True)
class Follower:
    """An instance that follows a group, and how far it is with the newest revision: `state` in words is `meaning`."""

    id: str
    name: str
    state: str
    meaning: str
    revision: int | None
    newest: int | None
    error: str | None

    @property
    def failed(self) -> bool:
        return self.state in {"refused", "given-up"}

    @classmethod
    def read(cls, shown: dict[str, Any]) -> Follower:
        how = shown["argosy"]
        told = {key: how[key] for key in ("state", "meaning", "revision", "newest", "error")}
        return cls(shown["id"], shown["name"], **told)


@dataclass(frozen=True)
class Revision:
    """What a group's values were: since when, by whom, what for."""

    number: int
    at: datetime | None
    by: str
    note: str
    values: dict[str, Any]

    @classmethod
    def read(cls, shown: dict[str, Any]) -> Revision:
        return cls(shown["revision"], time_of(shown["at"]), shown["by"], shown["note"], dict(shown["values"]))


@dataclass(frozen=True)
class Difference:
    """A parameter whose value differs; None where it is not set."""

    name: str
    old: str | None
    new: str | None
    restart_required: bool

    @classmethod
    def read(cls, shown: dict[str, Any]) -> Difference:
        return cls(shown["name"], shown["old"], shown["new"], shown["restart_required"])


@dataclass(frozen=True)
class InstanceTrial:
    """What would come of a change in one instance: `when` is now, restart, later or nothing."""

    id: str
    name: str
    when: str
    at_once: tuple[str, ...]
    after_restart: tuple[str, ...]


@dataclass(frozen=True)
class Trial:
    """What a change of a group would do."""

    valid: bool
    errors: tuple[str, ...]
    changes: tuple[Difference, ...]
    instances: tuple[InstanceTrial, ...]

    @classmethod
    def read(cls, shown: dict[str, Any]) -> Trial:
        return cls(
            shown["valid"],
            tuple(shown["errors"]),
            tuple(Difference.read(each) for each in shown["changes"]),
            tuple(
                InstanceTrial(
                    each["id"],
                    each["name"],
                    each["when"],
                    tuple(each["at_once"]),
                    tuple(each["after_restart"]),
                )
                for each in shown["instances"]
            ),
        )


@dataclass(frozen=True)
class Parameter:
    """What can be set in a version; `owned` says why it cannot. `units` may follow a number; bare it counts `unit`."""

    name: str
    type: str
    restart_required: bool
    min: float | None
    max: float | None
    default: str | None
    unit: str | None
    units: list[str]
    allowed: list[str]
    several: bool
    description: str
    owned: str | None

    @classmethod
    def read(cls, shown: dict[str, Any]) -> Parameter:
        details = shown["argosy"]
        return cls(
            name=shown["name"],
            type=shown["type"],
            restart_required=shown["restart_required"],
            min=shown.get("min"),
            max=shown.get("max"),
            **{
                key: details[key]
                for key in ("default", "unit", "units", "allowed", "several", "description", "owned")
            },
        )


@dataclass(frozen=True)
class EffectiveParameter:
    """What a running server has; `pending` is in force after a restart."""

    name: str
    value: str
    source: str
    pending: str | None = None


@dataclass(frozen=True)
class BackupSchedule:
    """When an instance is backed up by itself (a cron expression in UTC), and what of that is kept.

    `last_error` says why the last run came to nothing, and is None after one that succeeded.
    """

    id: str
    project_id: str
    instance_id: str
    instance_name: str | None
    cron: str
    full_every: int
    keep_last: int | None
    keep_days: int | None
    verify_every_days: int | None
    enabled: bool
    state: str
    last_backup_id: str | None
    last_error: str | None
    attempts: int
    next_run: datetime | None
    last_run: datetime | None
    created: datetime | None
    updated: datetime | None

    @classmethod
    def read(cls, shown: dict[str, Any]) -> BackupSchedule:
        times = ("next_run", "last_run", "created", "updated")
        read = {each.name: shown[each.name] for each in fields(cls)}
        return cls(**read | {name: time_of(shown[name]) for name in times})


@dataclass(frozen=True)
class Backup:
    """What an instance's data was; `size_gb` is what it takes in the store, `data_gb` what was read of the server.

    `consistent_at` is the moment whose state it has. `verified` is None until a restore of it was tried, which took
    `restore_seconds`. One that is RESTORED was made elsewhere.
    """

    id: str
    name: str
    description: str | None
    instance_id: str
    instance_name: str | None
    project_id: str
    datastore: str
    version: str
    kind: str
    parent_id: str | None
    status: str
    error: str | None
    size_gb: float | None
    data_gb: float | None
    consistent_at: datetime | None
    created: datetime | None
    completed: datetime | None
    updated: datetime | None
    location: str | None
    schedule_id: str | None
    verified: bool | None
    last_verified: datetime | None
    restore_seconds: float | None
    verification: dict[str, Any] = field(default_factory=dict)

    @property
    def is_usable(self) -> bool:
        return self.status in {"COMPLETED", "RESTORED"}

    @classmethod
    def read(cls, shown: dict[str, Any]) -> Backup:
        more = shown["argosy"]
        own = ("id", "name", "description", "instance_id", "project_id", "parent_id", "status")
        beyond = (
            "instance_name",
            "kind",
            "error",
            "schedule_id",
            "verified",
            "restore_seconds",
            "verification",
        )
        return cls(
            **{key: shown[key] for key in own},
            **{key: more[key] for key in beyond},
            datastore=shown["datastore"]["type"],
            version=shown["datastore"]["version"],
            size_gb=shown["size"],
            data_gb=more["data_size"],
            consistent_at=time_of(more["consistent_at"]),
            created=time_of(shown["created"]),
            completed=time_of(more["completed"]),
            updated=time_of(shown["updated"]),
            location=shown["locationRef"],
            last_verified=time_of(more["last_verified"]),
        )


@dataclass(frozen=True)
class BackupStrategy:
    """In which container an instance's backups are kept; with an empty `instance_id`, the project's."""

    instance_id: str
    container: str

    @classmethod
    def read(cls, shown: dict[str, Any]) -> BackupStrategy:
        return cls(shown["instance_id"], shown["swift_container"])


@dataclass(frozen=True)
class LogWindow:
    """The moments an instance can be restored to by one stretch of its archived log, from its oldest backup on."""

    earliest: datetime | None
    latest: datetime | None
    position: str | None
    backups: tuple[str, ...]


@dataclass(frozen=True)
class LogGap:
    """Log that was lost; `until` is None before the next backup."""

    since: datetime | None
    until: datetime | None


@dataclass(frozen=True)
class LogArchive:
    """`mode` is on, off or auto; `lag_seconds` says how old the oldest of what is not archived can be."""

    mode: str
    archiving: bool
    since: datetime | None
    ended: datetime | None
    ended_because: str | None
    archived_until: datetime | None
    lag_seconds: int | None
    lag_bytes: int | None
    error: str | None
    segments: int
    size_gb: float
    windows: tuple[LogWindow, ...]
    gaps: tuple[LogGap, ...]

    @classmethod
    def read(cls, shown: dict[str, Any]) -> LogArchive:
        own = ("mode", "archiving", "ended_because", "lag_seconds", "lag_bytes", "error", "segments")
        return cls(
            **{key: shown[key] for key in own},
            since=time_of(shown["since"]),
            ended=time_of(shown["ended"]),
            archived_until=time_of(shown["archived_until"]),
            size_gb=shown["size"],
            windows=tuple(
                LogWindow(
                    time_of(one["earliest"]),
                    time_of(one["latest"]),
                    one["position"],
                    tuple(one["backups"]),
                )
                for one in shown["windows"]
            ),
            gaps=tuple(LogGap(time_of(one["since"]), time_of(one["until"])) for one in shown["gaps"]),
        )
