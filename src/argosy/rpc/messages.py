"""The calls a guest agent answers: POST /rpc/v1/<method>, a call's fields as JSON, its reply as JSON.

A new field needs a default, and unknown ones are left out, so that agents and control planes of
neighbouring releases understand each other; a changed meaning is a new method.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from argosy.domain import databases as domain

PATH = "/rpc/v1/"


class Message(BaseModel):
    # An agent hears few of the calls: each model is built when it is first used.
    model_config = ConfigDict(extra="ignore", frozen=True, defer_build=True)


class Nothing(Message):
    """The reply of a call that only acts."""


Reply = TypeVar("Reply", bound=Message)


class Call(Message, Generic[Reply]):
    """A call; its class names the method and the reply."""

    method: ClassVar[str]
    reply: ClassVar[type[Message]] = Nothing

    if not TYPE_CHECKING:

        def __class_getitem__(cls, _reply: Any) -> type[Call]:
            # Pydantic would make a model of its own for each reply: half the time that loading this takes.
            return cls


class Database(Message):
    name: str
    character_set: str | None = None
    collate: str | None = None

    def to_domain(self) -> domain.Database:
        return domain.Database(self.name, self.character_set, self.collate)


class User(Message):
    name: str
    host: str = domain.ANY_HOST
    databases: tuple[str, ...] = ()

    @classmethod
    def of(cls, user: domain.User) -> User:
        return cls(name=user.id.name, host=user.id.host, databases=user.databases)


class NewUser(Message):
    name: str
    password: str = Field(repr=False)
    host: str = domain.ANY_HOST
    databases: tuple[str, ...] = ()

    def to_domain(self) -> domain.NewUser:
        return domain.NewUser(domain.UserId(self.name, self.host), self.password, self.databases)


class UserId(Message):
    name: str
    host: str = domain.ANY_HOST

    def to_domain(self) -> domain.UserId:
        return domain.UserId(self.name, self.host)


class DatabaseList(Message):
    databases: tuple[Database, ...]


class UserList(Message):
    users: tuple[User, ...]


class ListDatabases(Call[DatabaseList]):
    method: ClassVar[str] = "databases.list"
    reply: ClassVar[type[Message]] = DatabaseList


class CreateDatabases(Call[Nothing]):
    method: ClassVar[str] = "databases.create"
    databases: tuple[Database, ...]


class DeleteDatabase(Call[Nothing]):
    method: ClassVar[str] = "databases.delete"
    name: str


class ListUsers(Call[UserList]):
    method: ClassVar[str] = "users.list"
    reply: ClassVar[type[Message]] = UserList


class GetUser(Call[User]):
    method: ClassVar[str] = "users.get"
    reply: ClassVar[type[Message]] = User
    user: UserId


class CreateUsers(Call[Nothing]):
    method: ClassVar[str] = "users.create"
    users: tuple[NewUser, ...]


class UpdateUser(Call[Nothing]):
    """None leaves a property as it is."""

    method: ClassVar[str] = "users.update"
    user: UserId
    name: str | None = None
    host: str | None = None
    password: str | None = Field(default=None, repr=False)


class NewPassword(Message):
    user: UserId
    password: str = Field(repr=False)


class ChangePasswords(Call[Nothing]):
    """Raises UserNotFound before any is changed."""

    method: ClassVar[str] = "users.change_passwords"
    changes: tuple[NewPassword, ...]


class DeleteUser(Call[Nothing]):
    method: ClassVar[str] = "users.delete"
    user: UserId


class GrantAccess(Call[Nothing]):
    method: ClassVar[str] = "access.grant"
    user: UserId
    databases: tuple[str, ...]


class RevokeAccess(Call[Nothing]):
    method: ClassVar[str] = "access.revoke"
    user: UserId
    database: str


class RootName(Message):
    name: str


class EnableRoot(Call[RootName]):
    method: ClassVar[str] = "root.enable"
    reply: ClassVar[type[Message]] = RootName
    password: str = Field(repr=False)


class DisableRoot(Call[Nothing]):
    method: ClassVar[str] = "root.disable"


class Guard(Message):
    """How a guest keeps clients out, in words for `show`."""

    networks: str
    tls: str


class TellGuard(Call[Guard]):
    method: ClassVar[str] = "access.tell"
    reply: ClassVar[type[Message]] = Guard


class Ping(Call[Nothing]):
    """Whether the agent answers."""

    method: ClassVar[str] = "guest.ping"


class Look(Call[Nothing]):
    """Look at the database server at once, start it if it has died, and report."""

    method: ClassVar[str] = "guest.look"


class ProcessFigures(Message):
    """What the kernel says of a process (proc_pid_status(5)); sizes in KiB."""

    pid: int
    threads: int = 0
    fd_size: int = 0
    vm_size_kb: int = 0
    vm_peak_kb: int = 0
    vm_rss_kb: int = 0
    vm_hwm_kb: int = 0


class Diagnosis(Message):
    """`server` is the database server's main process, None while none runs."""

    agent_version: str
    agent: ProcessFigures
    server: ProcessFigures | None = None


class Diagnose(Call[Diagnosis]):
    method: ClassVar[str] = "guest.diagnose"
    reply: ClassVar[type[Message]] = Diagnosis


class Hardware(Message):
    """What the guest was given for its database server: memory in MiB, processors."""

    memory_mb: int
    vcpus: int


class TellHardware(Call[Hardware]):
    method: ClassVar[str] = "guest.hardware"
    reply: ClassVar[type[Message]] = Hardware


class Log(Message):
    """A log of the guest's; positions count the bytes ever written to it (domain.logs.GuestLog)."""

    name: str
    is_on: bool
    waits: bool
    begins: int
    ends: int
    rotated: int
    digest: str
    file: str


class LogList(Message):
    logs: tuple[Log, ...]


class LogPart(Message):
    """Whole lines from `position` up to `next`; `missed` when what was asked for is not there any more."""

    text: str
    position: int
    next: int
    missed: bool
    log: Log


class ListLogs(Call[LogList]):
    method: ClassVar[str] = "logs.list"
    reply: ClassVar[type[Message]] = LogList


class ReadLog(Call[LogPart]):
    """From a position, or without one the last `last` lines; at most `limit` bytes of the file at a time."""

    method: ClassVar[str] = "logs.read"
    reply: ClassVar[type[Message]] = LogPart
    name: str
    position: int | None = None
    last: int = 0
    limit: int = 1_000_000


class SwitchLog(Call[Nothing]):
    """Also for a server that is stopped: it takes the switch when it starts."""

    method: ClassVar[str] = "logs.switch"
    name: str
    on: bool


class Phase(StrEnum):
    """How a job is. UNREACHABLE is the caller's word for an agent that did not answer.

    FORGOTTEN is said of a job that this life of the agent was never given.
    """

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    UNREACHABLE = "unreachable"
    FORGOTTEN = "forgotten"


class JobState(Message):
    phase: Phase
    doing: str = ""
    told: str = ""  # what a job that succeeded found
    error_kind: str | None = None
    error_code: str | None = None
    error: str | None = None


class Job(Call[JobState]):
    """Long work: started under its id unless the agent knows it already, then waited for up to `wait_s` seconds.

    An agent that was restarted in the middle has forgotten the job and starts it again; jobs are safe to repeat.
    """

    reply: ClassVar[type[Message]] = JobState
    job_id: str
    wait_s: float = 2.0


class Await(Job):
    """Wait for a job of any kind without saying again what it is about, which may be long, or secret."""

    method: ClassVar[str] = "jobs.await"


class Prepare(Job):
    """Make the database server, start it, and make its first databases and users."""

    method: ClassVar[str] = "jobs.prepare"
    databases: tuple[Database, ...] = ()
    users: tuple[NewUser, ...] = ()
    parameters: dict[str, str] = {}  # of its configuration group, for its first start
    allowed_cidrs: tuple[str, ...] = ()
    require_tls: bool = False


class UpdateAccess(Job):
    """Let clients in from these networks alone (from anywhere, without any), and without TLS or not.

    What held before is given too: a guest that fails goes back to it, also one that has died in between.
    """

    method: ClassVar[str] = "jobs.update_access"
    allowed_cidrs: tuple[str, ...] = ()
    require_tls: bool = False
    former_cidrs: tuple[str, ...] = ()
    former_tls: bool = False


class RotatePassword(Job):
    """Give the agent's account in the database server another password."""

    method: ClassVar[str] = "jobs.rotate_password"


class Restart(Job):
    """Stop the database server cleanly and start it."""

    method: ClassVar[str] = "jobs.restart"


class Stop(Job):
    """Stop the database server cleanly: until it is asked to start, or, to `pause`, until the agent starts again."""

    method: ClassVar[str] = "jobs.stop"
    pause: bool = False


class Start(Job):
    """Start the database server; one that runs is left alone."""

    method: ClassVar[str] = "jobs.start"


class ApplyParameters(Job):
    """Have the server follow the whole of a configuration group; without values, none.

    What can be changed at run time is changed at once, the rest waits for a restart, and the guest's reports say
    so. When the server refuses a value, everything is as it was before.
    """

    method: ClassVar[str] = "jobs.apply_parameters"
    values: dict[str, str]


class Software(Message):
    """Of another version, where the guest finds it. `version` is what the engine knows it by."""

    version: str
    bundle: str
    template: str


class RehearseUpgrade(Job):
    """Do all of an upgrade on a copy of the data while the server serves, and throw it away."""

    method: ClassVar[str] = "jobs.rehearse_upgrade"
    software: Software


class PrepareUpgrade(Job):
    """Look whether an upgrade can be done, stop the server, and make a copy of the data ready for the other version.

    The server then stays stopped until the agent's next life. If it fails the server runs as before.
    """

    method: ClassVar[str] = "jobs.prepare_upgrade"
    software: Software


class AbandonUpgrade(Job):
    """The version this agent is told to run does not come up: leave its data alone from now on.

    Refused with the code `served` when it has served already.
    """

    method: ClassVar[str] = "jobs.abandon_upgrade"


class FinishUpgrade(Job):
    """What is good to do after an upgrade while the server serves."""

    method: ClassVar[str] = "jobs.finish_upgrade"


class Archive(Message):
    """An archive in the store, of a backup or of a log: where it is, and its data key (hex).

    Its objects are below `prefix`; URLs for them are had of the conductor (`rpc.urls`). Store and conductor may be away
    for `patience_s` before the guest gives up.
    """

    id: str
    container: str
    prefix: str
    key: str = Field(repr=False)
    patience_s: float = 600


class BackUp(Job):
    """Back the server up into an archive; with the facts of a parent, what has changed since.

    Tells a JSON object: `facts`, `size_bytes` of the archive, `data_bytes` read.
    """

    method: ClassVar[str] = "jobs.back_up"
    archive: Archive
    parent: dict[str, Any] | None = None
    limit_mb_s: float | None = None


class LogSegment(Message):
    name: str
    starts: int
    ends: int
    size_bytes: int
    first_at: datetime | None = None
    last_at: datetime | None = None
    facts: dict[str, Any] = {}


class LogStretch(Message):
    """Archived log to replay: see `engines.backups.Log`."""

    archive: Archive
    segments: tuple[LogSegment, ...]
    to_time: datetime | None = None
    to_position: str | None = None


class Restore(Prepare):
    """Make the data directory of a chain of archives, the full one first, and start the server on it.

    With `in_place` there is a server with data, which is kept until the restored one serves. `accounts` is what
    `DumpAccounts` told, for users as they are now. Databases and users are made in addition. Tells a JSON object: the
    engine's facts, and `remarks` in sentences.
    """

    method: ClassVar[str] = "jobs.restore"
    chain: tuple[Archive, ...]
    log: LogStretch | None = None
    accounts: str | None = Field(default=None, repr=False)
    in_place: bool = False


class Accounts(Message):
    dump: str = Field(repr=False)


class DumpAccounts(Call[Accounts]):
    """Users, their hashed passwords and their grants, in the engine's own words."""

    method: ClassVar[str] = "accounts.dump"
    reply: ClassVar[type[Message]] = Accounts


class Check(Job):
    """Have the server's data checked, and compared with a fingerprint. Tells a JSON list of what is wrong."""

    method: ClassVar[str] = "jobs.check"
    fingerprint: dict[str, Any] | None = None


class ArchiveLog(Job):
    """Archive the server's log continuously from now on, also in later lives of the agent; without `archive`, no more.

    What is not archived is at most `every_s` seconds old. The last of the log is archived before it ends; tells why
    not when that did not work.
    """

    method: ClassVar[str] = "jobs.archive_log"
    archive: Archive | None = None
    every_s: float = 60


class CheckSize(Call[Nothing]):
    """Whether what the database server holds fits into a smaller size. Raises what does not."""

    method: ClassVar[str] = "size.check"
    memory_mb: int


class Resize(Job):
    """Have the server take the settings of the size its agent was booted with; restart it where that is needed.

    With `restart` in any case, so that it gives back memory it keeps. Says how it went.
    """

    method: ClassVar[str] = "jobs.resize"
    restart: bool = False


class Renew(Job):
    """Ask the conductor what this machine is, and live anew as that; the database server goes on.

    Done when the agent's life began with this job. With `agent`, the code of that digest is taken from the conductor
    first, and tried.
    """

    method: ClassVar[str] = "jobs.renew"
    agent: str | None = None


class GrowVolume(Job):
    """Make the volume's file system as large as its device has become; done once that has `size_gb`."""

    method: ClassVar[str] = "jobs.grow_volume"
    size_gb: int


class EffectiveParameter(Message):
    """`source` is one of domain.parameters.Effective's; `pending` waits for a restart."""

    name: str
    value: str
    source: str
    pending: str | None = None


class EffectiveParameters(Message):
    parameters: tuple[EffectiveParameter, ...]


class ListEffectiveParameters(Call[EffectiveParameters]):
    """Every parameter of the running server and where its value is from."""

    method: ClassVar[str] = "parameters.effective"
    reply: ClassVar[type[Message]] = EffectiveParameters


class DefaultSettings(Message):
    settings: dict[str, str]


class ShowDefaultSettings(Call[DefaultSettings]):
    """What Argosy sets for an instance of this size, without logs and configuration group."""

    method: ClassVar[str] = "parameters.defaults"
    reply: ClassVar[type[Message]] = DefaultSettings


class ErrorReply(Message):
    """What a call answers, with status 400, when it raised one of our errors."""

    kind: str
    code: str
    sentence: str
