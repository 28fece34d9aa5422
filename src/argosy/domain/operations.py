"""What a user may ask for that takes time: a frozen dataclass each, and the operation it becomes.

DBOS stores these, pickled: keep them plain, give new fields defaults, and hold no secret in the clear.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import ClassVar

from argosy.domain.backup import Recovery


class State(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


@dataclass(frozen=True)
class Request:
    """Base of what is asked; `kind` names the workflow that does it."""

    kind: ClassVar[str]
    operation_id: str


@dataclass(frozen=True)
class InstanceRequest(Request):
    """Base of what is asked of one instance, which its operation holds until it ends."""

    instance_id: str


@dataclass(frozen=True)
class CreateInstance(InstanceRequest):
    """`sealed` holds the databases and users to make, encrypted: passwords never lie in a queue.

    With `configuration_id` it is made with the values of that group; with `recovery` of a backup's data, and with
    `upgrade_to` moved to another version of its datastore then.
    """

    kind: ClassVar[str] = "instance.create"
    datastore: str
    version: str
    sealed: str
    configuration_id: str | None = None
    recovery: Recovery | None = None
    upgrade_to: str | None = None


@dataclass(frozen=True)
class RestartInstance(InstanceRequest):
    kind: ClassVar[str] = "instance.restart"


@dataclass(frozen=True)
class DeleteInstance(InstanceRequest):
    kind: ClassVar[str] = "instance.delete"


@dataclass(frozen=True)
class StopInstance(InstanceRequest):
    kind: ClassVar[str] = "instance.stop"


@dataclass(frozen=True)
class StartInstance(InstanceRequest):
    kind: ClassVar[str] = "instance.start"


@dataclass(frozen=True)
class ResizeFlavor(InstanceRequest):
    kind: ClassVar[str] = "instance.resize_flavor"
    flavor_id: str


@dataclass(frozen=True)
class ResizeVolume(InstanceRequest):
    kind: ClassVar[str] = "instance.resize_volume"
    size_gb: int


@dataclass(frozen=True)
class ApplyConfiguration(InstanceRequest):
    """Have an instance follow a configuration group as it is now; None for no group any more."""

    kind: ClassVar[str] = "instance.configure"
    configuration_id: str | None


@dataclass(frozen=True)
class UpgradeInstance(InstanceRequest):
    """Move to another version, which may be one of another datastore that reads the same data."""

    kind: ClassVar[str] = "instance.upgrade"
    datastore: str
    version: str


@dataclass(frozen=True)
class RehearseUpgrade(InstanceRequest):
    """Try that on a copy of the data while the instance serves, and tell."""

    kind: ClassVar[str] = "instance.rehearse_upgrade"
    datastore: str
    version: str


@dataclass(frozen=True)
class UpdateAccess(InstanceRequest):
    """Who may connect from where, and whether they must use TLS; what is None stays as it is."""

    kind: ClassVar[str] = "instance.update_access"
    is_public: bool | None = None
    allowed_cidrs: tuple[str, ...] | None = None
    require_tls: bool | None = None


@dataclass(frozen=True)
class RotatePassword(InstanceRequest):
    """Give the agent's management account a new password; the old one holds until the new one has worked."""

    kind: ClassVar[str] = "instance.rotate_password"


@dataclass(frozen=True)
class RebuildInstance(InstanceRequest):
    """Make the server and its agent anew around the data that is there."""

    kind: ClassVar[str] = "instance.rebuild"


@dataclass(frozen=True)
class RebootInstance(InstanceRequest):
    """Boot its server anew, agent and database server: an administrator's way with one that hangs."""

    kind: ClassVar[str] = "instance.reboot"


@dataclass(frozen=True)
class RenewAgent(InstanceRequest):
    """Boot its agent anew, so that it runs the code of this release; the database server goes on."""

    kind: ClassVar[str] = "instance.renew_agent"


@dataclass(frozen=True)
class CreateBackup(InstanceRequest):
    """Back an instance up while it serves, whole or, with `parent_id`, what has changed since.

    A parent that was not named may turn out to be of no use: then the backup is a full one.
    """

    kind: ClassVar[str] = "backup.create"
    backup_id: str
    parent_id: str | None = None
    parent_named: bool = False


@dataclass(frozen=True)
class RestoreInstance(InstanceRequest):
    """Put an instance back to what it was, in place; its data until then is kept until that serves."""

    kind: ClassVar[str] = "instance.restore"
    recovery: Recovery


@dataclass(frozen=True)
class ArchiveLogs(InstanceRequest):
    """Have its log archived continuously from now on, or no longer."""

    kind: ClassVar[str] = "instance.archive_logs"
    on: bool


@dataclass(frozen=True)
class DeleteBackups(Request):
    """Take backups away, in this order: children before their parents."""

    kind: ClassVar[str] = "backup.delete"
    backup_ids: tuple[str, ...]


@dataclass(frozen=True)
class VerifyBackup(Request):
    """Restore a backup into a server that is thrown away afterwards, and have its data checked."""

    kind: ClassVar[str] = "backup.verify"
    backup_id: str


@dataclass(frozen=True)
class RotateBackupKeys(Request):
    """Wrap all backups' keys by another one, made for it."""

    kind: ClassVar[str] = "backup_keys.rotate"


@dataclass(frozen=True)
class LookForDrift(Request):
    """Compare what the platform has with what the metadata says, at once."""

    kind: ClassVar[str] = "drift.look"


@dataclass(frozen=True)
class PullImage(Request):
    """Make the software of a datastore version ready before an instance needs it."""

    kind: ClassVar[str] = "image.pull"
    datastore: str
    version: str


# An instance is of no use after one of these failed: it shows ERROR until it is deleted or reset.
BREAKING = frozenset({CreateInstance.kind, DeleteInstance.kind})


@dataclass(frozen=True)
class Operation:
    """One heavy request and how far it is: step `step` of `steps`, in words; times are aware, UTC.

    `instance_id` is None for one that is about no instance; `instance_name` is what it was called then.
    """

    id: str
    project_id: str
    instance_id: str | None
    kind: str
    state: State
    step: int
    steps: int
    doing: str
    requested_by: str
    created_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None
    error_code: str | None = None
    error: str | None = None
    error_details: str | None = None
    instance_name: str | None = None


@dataclass(frozen=True)
class Event:
    """Something that happened, mostly to an instance: when, what, by whom (a user's name, or the part of Argosy)."""

    id: int
    project_id: str
    instance_id: str | None
    at: datetime
    kind: str
    message: str
    actor: str
    instance_name: str | None = None


@dataclass(frozen=True)
class Choice:
    """Which operations or events somebody wants to see; what is None or empty chooses nothing out."""

    project_id: str | None
    instance_id: str | None = None
    kinds: frozenset[str] = frozenset()
    states: frozenset[str] = frozenset()
    since: datetime | None = None

    def fits(self, entry: JournalEntry) -> bool:
        return (
            self.project_id in {None, entry.project_id}
            and self.instance_id in {None, entry.instance_id}
            and (not self.kinds or entry.kind in self.kinds)
            and (not self.states or entry.state in self.states)
            and (self.since is None or entry.at >= self.since)
        )


@dataclass(frozen=True)
class JournalEntry:
    """Something to tell those who follow: an event, or an operation as it was then. Ids only grow."""

    id: int
    project_id: str
    instance_id: str | None
    at: datetime
    kind: str
    state: str | None
    item: Event | Operation
