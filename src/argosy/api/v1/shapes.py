"""What answers look like, for the OpenAPI document alone: routes return plain dicts of these shapes."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, Field


def _parameter(name: str, description: str, **schema: Any) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "description": description, "schema": schema}


_PAGE = [
    _parameter("limit", "How many at most, from 1 up.", type="integer", minimum=1),
    _parameter("marker", "Where the page before ended, from its `next` link.", type="string"),
]
PAGED: dict[str, Any] = {"parameters": _PAGE}
_TEXTS = {"type": "array", "items": {"type": "string"}, "maxItems": 20}
_CHOICE = [
    _parameter("instance_id", "Those of this instance alone.", type="string"),
    _parameter("kind", "Those of this kind, such as instance.create; repeated, of any of these.", **_TEXTS),
    _parameter(
        "since",
        "Those since then; ISO 8601, in UTC unless it says otherwise.",
        type="string",
        format="date-time",
    ),
]
_STATE = _parameter(
    "state",
    "Those in this state; repeated, in any of these.",
    type="array",
    items={"type": "string", "enum": ["queued", "running", "succeeded", "failed"]},
    maxItems=20,
)
_LAST_SEEN = {
    "name": "Last-Event-ID",
    "in": "header",
    "required": False,
    "description": "The id that was sent last: what came since then is sent first.",
    "schema": {"type": "integer", "minimum": 0, "maximum": 2**31 - 1},
}
STREAM: dict[str, Any] = {
    "description": "Server-sent events.",
    "content": {"text/event-stream": {"schema": {"type": "string"}}},
}
PAGED_EVENTS: dict[str, Any] = {"parameters": [*_PAGE, *_CHOICE]}
PAGED_OPERATIONS: dict[str, Any] = {"parameters": [*_PAGE, *_CHOICE, _STATE]}
FOLLOWED_EVENTS: dict[str, Any] = {"parameters": [*_CHOICE, _LAST_SEEN]}
FOLLOWED_OPERATIONS: dict[str, Any] = {"parameters": [*_CHOICE, _STATE, _LAST_SEEN]}
PAGED_FINDINGS: dict[str, Any] = {
    "parameters": [
        *_PAGE,
        _CHOICE[0],
        _parameter("all", "`true` for those too that are over.", type="string", enum=["true", "false"]),
    ]
}
PAGED_SCHEDULES: dict[str, Any] = {"parameters": [*_PAGE, _CHOICE[0]]}
_DELETED = _parameter("deleted", "`true` for those that were deleted.", type="string", enum=["true", "false"])
PAGED_BACKUPS: dict[str, Any] = {
    "parameters": [
        *_PAGE,
        _parameter("instance_id", "Those of this instance, which may be gone.", type="string"),
        _parameter("datastore", "Those of this datastore, by its name or id.", type="string"),
        _parameter(
            "all_projects", "`true` for those of all projects.", type="string", enum=["true", "false"]
        ),
        _parameter("project_id", "Those of this project; for administrators.", type="string"),
    ]
}
OF_AN_INSTANCE_OR_PROJECT: dict[str, Any] = {
    "parameters": [
        _parameter("instance_id", "The one of this instance.", type="string"),
        _parameter(
            "project_id", "Of this project; another than one's own is for administrators.", type="string"
        ),
    ]
}
CASCADE: dict[str, Any] = {
    "parameters": [
        _parameter(
            "cascade",
            "`true` to delete the increments that build on it too.",
            type="string",
            enum=["true", "false"],
        )
    ]
}
PAGED_INSTANCES: dict[str, Any] = {
    "parameters": [
        *_PAGE,
        _parameter(
            "tag",
            "`key=value`, or `key` for any value; repeated, those that have all.",
            type="array",
            items={"type": "string"},
        ),
        _DELETED,
    ]
}
DELETED: dict[str, Any] = {"parameters": [_DELETED]}
IDEMPOTENT: dict[str, Any] = {
    "parameters": [
        {
            "name": "Idempotency-Key",
            "in": "header",
            "required": False,
            "description": "The same key with the same body within a day answers what the first request made.",
            "schema": {"type": "string", "minLength": 1, "maxLength": 255},
        }
    ]
}


class Link(BaseModel):
    rel: str
    href: str


class Page(BaseModel):
    links: list[Link] | None = Field(default=None, description="The next page; absent on the last one.")


class FlavorReference(BaseModel):
    id: str
    links: list[Link]


class DatastoreReference(BaseModel):
    type: str
    version: str
    version_number: str | None = None


class Volume(BaseModel):
    size: int = Field(description="GB, which are GiB.")
    used: float | None = None
    used_percent: float | None = None
    autogrow_limit: int | None = Field(default=None, description="GB up to which it grows by itself.")


class Address(BaseModel):
    address: str
    type: str
    network: str | None = None


class Access(BaseModel):
    is_public: bool
    allowed_cidrs: list[str] | None = None


class FaultOfInstance(BaseModel):
    message: str
    created: str
    details: str | None


class Operation(BaseModel):
    id: str
    instance_id: str | None
    instance_name: str | None = Field(description="As it was called then.")
    kind: str
    state: str
    step: int
    steps: int
    doing: str
    requested_by: str
    created: str
    started: str | None
    ended: str | None
    error_code: str | None
    error: str | None


class Tags(BaseModel):
    tags: dict[str, str]


class Protection(BaseModel):
    protected: bool


class Outcome(BaseModel):
    """How far an instance is with the configuration group it follows."""

    state: str = Field(
        description="applied, restart-required, applying, waiting, refused or given-up, as `meaning` says in words."
    )
    meaning: str
    revision: int | None = Field(description="Which revision was applied last.")
    newest: int | None
    error: str | None = Field(
        description="Why the newest one is not in force, in the database server's words."
    )


class Tls(BaseModel):
    mode: str = Field(description="allowed or required")
    enforced: str | None = Field(description="In the guest's words; null until it has told.")


class ShownTls(BaseModel):
    tls: Tls


class LogWindow(BaseModel):
    earliest: str
    latest: str
    position: str | None = Field(description="The last LSN or GTID in it, as far as it is known.")
    backups: list[str] = Field(description="The backups a restore to a moment of it begins at, oldest first.")


class LogGap(BaseModel):
    since: str | None
    until: str | None = Field(description="The next backup that log follows; null before it.")


class LogArchive(BaseModel):
    mode: str = Field(description="on, off, or auto: while there is a schedule of backups")
    archiving: bool
    since: str | None
    ended: str | None
    ended_because: str | None
    archived_until: str | None = Field(description="Everything committed until then is archived.")
    lag_seconds: int | None
    lag_bytes: int | None = Field(description="What waits in finished segments.")
    error: str | None = Field(description="Why it cannot be archived now.")
    segments: int
    size: float = Field(description="GB in the store.")
    windows: list[LogWindow] = Field(description="What the instance can be restored to, oldest first.")
    gaps: list[LogGap] = Field(description="Where log was lost.")


class ShownLogArchive(BaseModel):
    log_archive: LogArchive


class RecoveryWindow(BaseModel):
    archiving: bool
    earliest: str | None
    latest: str | None
    lag_seconds: int | None
    error: str | None


class Beyond(BaseModel):
    """What Trove never told."""

    port: int
    meaning: str
    protected: bool
    tags: dict[str, str]
    deleted: str | None = Field(default=None, description="When it was deleted.")
    operation: Operation | None = None
    name: str | None = Field(default=None, description="The platform.")
    limits: dict[str, str] | None = None
    configuration: Outcome | None = None
    access: dict[str, str] | None = Field(default=None, description="How clients are held off.")
    recovery: RecoveryWindow | None = Field(
        default=None,
        description="What it can be restored to by its newest archived log; of one instance alone.",
    )


class Instance(BaseModel):
    id: str
    name: str
    status: str
    operating_status: str
    links: list[Link]
    flavor: FlavorReference
    datastore: DatastoreReference
    region: str
    access: Access
    volume: Volume
    ip: list[str] | None = None
    addresses: list[Address] | None = None
    tenant_id: str | None = Field(default=None, description="For administrators.")


class ConfigurationReference(BaseModel):
    id: str
    name: str
    links: list[Link]


class DetailedInstance(Instance):
    created: str
    updated: str
    service_status_updated: str | None = None
    fault: FaultOfInstance | None = None
    configuration: ConfigurationReference | None = None
    server_id: str | None = Field(default=None, description="For administrators.")
    volume_id: str | None = Field(default=None, description="For administrators.")
    encrypted_rpc_messaging: bool | None = Field(default=None, description="For administrators.")
    argosy: Beyond


class GuestAgent(BaseModel):
    release: int
    code: str | None = Field(description="Its digest; null for agents of releases that did not tell it.")
    current: bool = Field(description="Whether that is the code of this control plane.")


class ManagedInstance(DetailedInstance):
    agent: GuestAgent | None
    server: dict[str, Any] | None
    service_status: str
    deleted: bool
    deleted_at: str | None
    task_description: str


class Instances(Page):
    instances: list[Instance]


class DetailedInstances(Page):
    instances: list[DetailedInstance]


class ManagedInstances(Page):
    instances: list[ManagedInstance]


class ShownInstance(BaseModel):
    instance: DetailedInstance


class ShownManagedInstance(BaseModel):
    instance: ManagedInstance


class RootHistory(BaseModel):
    id: str
    enabled: str
    user: str


class ShownRootHistory(BaseModel):
    root_history: RootHistory


class Figures(BaseModel):
    """Of a process, as proc_pid_status(5) has them; sizes in KiB."""

    threads: int
    fdSize: int  # noqa: N815 - Trove's
    vmSize: int  # noqa: N815 - Trove's
    vmPeak: int  # noqa: N815 - Trove's
    vmRss: int  # noqa: N815 - Trove's
    vmHwm: int  # noqa: N815 - Trove's


class ServerFigures(Figures):
    pid: int


class MoreDiagnostics(BaseModel):
    pid: int = Field(description="Of the agent.")
    server: ServerFigures | None = Field(
        description="The database server's main process; null while none runs."
    )


class Diagnostics(Figures):
    """Of the instance's agent; `argosy` is beyond Trove."""

    version: str
    argosy: MoreDiagnostics


class ShownDiagnostics(BaseModel):
    diagnostics: Diagnostics


class Hardware(BaseModel):
    mem_total: int = Field(description="KiB.")
    num_cpus: int


class ShownHardware(BaseModel):
    hwinfo: Hardware


class DatabaseName(BaseModel):
    name: str


class Databases(Page):
    databases: list[DatabaseName]


class User(BaseModel):
    name: str
    host: str
    databases: list[DatabaseName]


class Users(Page):
    users: list[User]


class ShownUser(BaseModel):
    user: User


class RootEnabled(BaseModel):
    rootEnabled: bool  # noqa: N815 - Trove's


class RootUser(BaseModel):
    name: str
    password: str


class Root(BaseModel):
    user: RootUser


class Version(BaseModel):
    id: str
    name: str
    version: str
    links: list[Link]
    datastore: str | None = None


class Datastore(BaseModel):
    id: str
    name: str
    links: list[Link]
    versions: list[Version]
    default_version: str | None = None
    argosy: dict[str, Any]


class Datastores(BaseModel):
    datastores: list[Datastore]


class ShownDatastore(BaseModel):
    datastore: Datastore


class ManagedVersion(BaseModel):
    id: str
    name: str
    version: str
    datastore_id: str
    datastore_name: str
    datastore_manager: str
    image: None = None
    image_tags: list[str]
    packages: list[str]
    active: bool
    default: bool
    registry_ext: None = None
    repl_strategy: None = None


class ManagedVersions(BaseModel):
    versions: list[ManagedVersion]


class ShownManagedVersion(BaseModel):
    version: ManagedVersion


class Versions(BaseModel):
    versions: list[Version]


class ShownVersion(BaseModel):
    version: Version


class ParameterDetails(BaseModel):
    """What the server tells beyond Trove's own fields, and why Argosy keeps a parameter to itself."""

    default: str | None
    unit: str | None = Field(description="What a bare number counts, such as kB, 8kB or ms.")
    units: list[str] = Field(description="What may follow a number.")
    allowed: list[str] = Field(description="The only values there are; with `several`, a list of them.")
    several: bool
    description: str
    owned: str | None = Field(description="Why it cannot be set; null when it can.")


class Parameter(BaseModel):
    name: str
    datastore_version_id: str
    restart_required: bool
    type: str
    min: int | float | None = None
    max: int | float | None = None
    argosy: ParameterDetails


class Parameters(BaseModel):
    configuration_parameters: list[Parameter] = Field(alias="configuration-parameters")


class ManagedParameter(BaseModel):
    name: str
    datastore_version_id: str
    restart_required: bool
    type: str
    min_size: int | float | None = None
    max_size: int | float | None = None
    argosy: ParameterDetails


class ManagedParameters(BaseModel):
    configuration_parameters: list[ManagedParameter] = Field(alias="configuration-parameters")


class DefaultSettings(BaseModel):
    configuration: dict[str, str]


class ShownDefaultSettings(BaseModel):
    instance: DefaultSettings


class EffectiveParameter(BaseModel):
    name: str
    value: str
    source: str = Field(
        description="default, flavor, log, group, argosy, or server: set in it by a statement."
    )
    pending: str | None = Field(description="The value that waits for a restart.")


class EffectiveParameters(BaseModel):
    parameters: list[EffectiveParameter]


class Flavor(BaseModel):
    id: int | None
    str_id: str
    name: str
    ram: int = Field(description="MiB.")
    vcpus: int
    disk: int
    ephemeral: int
    links: list[Link]


class Flavors(BaseModel):
    flavors: list[Flavor]


class ShownFlavor(BaseModel):
    flavor: Flavor


class VolumeType(BaseModel):
    id: str
    name: str
    is_public: bool
    description: str | None


class VolumeTypes(BaseModel):
    volume_types: list[VolumeType]


class ShownVolumeType(BaseModel):
    volume_type: VolumeType


class Limits(BaseModel):
    limits: list[dict[str, Any]]


class Quota(BaseModel):
    resource: str
    in_use: int
    reserved: int
    limit: int = Field(description="-1 is unlimited.")


class Quotas(BaseModel):
    quotas: list[Quota]


class ChangedQuotas(BaseModel):
    quotas: dict[str, int]


class Operations(Page):
    operations: list[Operation]


class ShownOperation(BaseModel):
    operation: Operation


class Event(BaseModel):
    id: int
    instance_id: str | None
    instance_name: str | None = Field(description="As it was called then.")
    at: str
    kind: str
    message: str
    actor: str


class Events(Page):
    events: list[Event]


class Image(BaseModel):
    datastore: str
    version: str
    phase: str = Field(description="absent, pulling, ready or failed")
    detail: str
    source: str | None
    updated: str


class Images(BaseModel):
    images: list[Image]


class BackupKey(BaseModel):
    id: str
    created: str | None
    active: bool = Field(description="Whether it wraps the keys of new backups.")
    present: bool = Field(
        description="Whether it is in the ring; without it, what it wraps cannot be restored."
    )
    backups: int
    log_archives: int


class BackupKeys(BaseModel):
    backup_keys: list[BackupKey]


class Finding(BaseModel):
    """A difference between what the cloud has and what it should have."""

    id: str
    kind: str
    resource: str = Field(description="What it is about, by type and name or id.")
    message: str
    instance_id: str | None
    instance_name: str | None
    tenant_id: str | None
    repaired: bool
    found: str
    seen: str
    gone: str | None = Field(description="Since when it is repaired or not seen any more.")


class Findings(Page):
    findings: list[Finding]


class Authority(BaseModel):
    pem: str


class ShownAuthority(BaseModel):
    certificate_authority: Authority


class Configuration(BaseModel):
    id: str
    name: str
    description: str | None
    created: str
    updated: str
    datastore_version_id: str
    datastore_name: str
    datastore_version_name: str


class DetailedConfiguration(Configuration):
    values: dict[str, str | int | float]
    instance_count: int
    datastore_version_number: str
    revision: int


class Configurations(Page):
    configurations: list[Configuration]


class ShownConfiguration(BaseModel):
    configuration: DetailedConfiguration


class Follower(BaseModel):
    id: str
    name: str
    argosy: Outcome


class Followers(Page):
    instances: list[Follower]


class Revision(BaseModel):
    revision: int
    at: str
    by: str
    note: str
    values: dict[str, str | int | float]


class Revisions(Page):
    revisions: list[Revision]


class ShownRevision(BaseModel):
    revision: Revision


class Change(BaseModel):
    """A parameter whose value differs; null where it is not set."""

    name: str
    old: str | None
    new: str | None
    restart_required: bool


class Diff(BaseModel):
    """From one revision of a group to another."""

    old: int
    new: int
    changes: list[Change]


class ShownDiff(BaseModel):
    diff: Diff


class Trial(BaseModel):
    """What would come of it in one instance."""

    id: str
    name: str
    when: str = Field(description="now, restart (some wait for one), later (it is busy or down), or nothing.")
    at_once: list[str]
    after_restart: list[str]


class DryRun(BaseModel):
    """What would happen; nothing has."""

    valid: bool
    errors: list[str]
    changes: list[Change]
    instances: list[Trial]


class ShownDryRun(BaseModel):
    dry_run: DryRun


class Upgrade(BaseModel):
    """A version that an instance can be moved to."""

    id: str
    name: str
    datastore: str
    converts: bool = Field(
        description="Whether a copy of the data is converted; else it runs on it as it is."
    )


class Upgrades(BaseModel):
    upgrades: list[Upgrade]


class BegunRehearsal(BaseModel):
    operation_id: str


class Rehearsal(BaseModel):
    rehearsal: BegunRehearsal


class BackupSchedule(BaseModel):
    """When an instance is backed up by itself, in UTC, and what is kept; `state` is waiting, running, failing or off."""

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
    state: Literal["waiting", "running", "failing", "off"]
    next_run: str | None
    last_run: str | None
    last_backup_id: str | None
    last_error: str | None
    attempts: int
    created: str
    updated: str


class BackupSchedules(Page):
    backup_schedules: list[BackupSchedule]


class ShownBackupSchedule(BaseModel):
    backup_schedule: BackupSchedule


class BegunVerification(BaseModel):
    operation_id: str


class ShownVerification(BaseModel):
    verification: BegunVerification


class Log(BaseModel):
    """A log of an instance; `published` and `pending` in bytes, "None" for what is not there yet."""

    name: str
    type: Literal["USER", "SYS"]
    status: str
    published: int
    pending: int
    container: str
    prefix: str
    metafile: str


class Logs(BaseModel):
    logs: list[Log]


class ShownLog(BaseModel):
    log: Log


class LinesOfLog(BaseModel):
    text: str
    position: int
    next: int
    end: int
    missed: bool


class LogLines(BaseModel):
    lines: LinesOfLog


OF_A_LOG = {
    "parameters": [
        {
            "name": "position",
            "in": "query",
            "required": False,
            "description": "where to go on, by an earlier answer's `next`",
            "schema": {"type": "integer", "minimum": 0},
        },
        {
            "name": "lines",
            "in": "query",
            "required": False,
            "description": "without a position: so many of the last lines, 100 unless said otherwise",
            "schema": {"type": "integer", "minimum": 0},
        },
    ]
}


class BackupDatastore(BaseModel):
    type: str
    version: str
    version_id: str


class BeyondBackup(BaseModel):
    """`data_size` (GB) is what was read of the server; `consistent_at` the moment whose state it has."""

    instance_name: str | None
    kind: Literal["full", "incremental"]
    data_size: float | None
    consistent_at: str | None
    completed: str | None
    error: str | None
    schedule_id: str | None
    last_verified: str | None
    verified: bool | None
    verification: dict[str, Any]
    restore_seconds: float | None


class Backup(BaseModel):
    """`size` (GB) is what it takes in the store, null until it is done."""

    id: str
    name: str
    description: str | None
    instance_id: str
    project_id: str
    parent_id: str | None
    status: Literal["NEW", "BUILDING", "SAVING", "COMPLETED", "FAILED", "RESTORED", "DELETE_FAILED"]
    size: float | None
    location_ref: str | None = Field(alias="locationRef")
    created: str
    updated: str
    datastore: BackupDatastore
    argosy: BeyondBackup


class Backups(Page):
    backups: list[Backup]


class ShownBackup(BaseModel):
    backup: Backup


class BackupStrategy(BaseModel):
    """`instance_id` is empty for the project's own."""

    project_id: str
    instance_id: str
    backend: str
    swift_container: str


class BackupStrategies(BaseModel):
    backup_strategies: list[BackupStrategy]


class ShownBackupStrategy(BaseModel):
    backup_strategy: BackupStrategy
