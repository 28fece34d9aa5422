"""Which status an instance shows: a pure function of three facts, each with its one owner.

The operation that holds the instance (the API begins it, its workflow ends it), what the guest last
reported (the conductor writes it), and when. Nothing stores a status.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

SILENT_AFTER = timedelta(seconds=90)  # contract 3.2: no heartbeat for 90 s shows ERROR


class Service(StrEnum):
    """What a guest says of its database server."""

    NEW = "new"  # nothing made yet
    HEALTHY = "healthy"  # answers queries
    STARTING = "starting"
    BLOCKED = "blocked"  # answers, but cannot serve
    SHUTDOWN = "shutdown"  # stopped on purpose
    CRASHED = "crashed"  # died, and does not stay up
    UNKNOWN = "unknown"  # forgotten by an administrator's reset until the guest speaks again


@dataclass(frozen=True)
class Report:
    """A guest's word on its database server. `number` grows; an older report than the last known is dropped.

    `release` is that of its agent (`domain.guest.RELEASE`), `agent` the digest of the agent's code. `configuration_error` says why it runs without the
    values of its configuration group.
    """

    service: Service
    number: int
    at: datetime
    volume_used_bytes: int | None = None
    server_version: str | None = None
    restart_required: bool = False
    release: int = 1
    configuration_error: str | None = None
    volume_size_bytes: int | None = None
    agent: str = ""


@dataclass(frozen=True)
class Shown:
    """`status` and `operating_status` as the API names them (contract 3.1 and 3.2)."""

    status: str
    operating_status: str
    # Of statuses that may mean one of several things: which.
    sense: str | None = field(default=None, compare=False)

    @property
    def meaning(self) -> str:
        """One sentence on what it means and what leads out of it."""
        return MEANING[self.sense or (self.status == "ACTIVE" and self.operating_status) or self.status]


# What an instance shows while an operation of this kind holds it.
WHILE = {
    "instance.create": "BUILD",
    "instance.restart": "REBOOT",
    "instance.reboot": "REBOOT",
    "instance.delete": "SHUTDOWN",
    "instance.stop": "SHUTDOWN",
    "instance.start": "REBOOT",
    "instance.resize_flavor": "RESIZE",
    "instance.resize_volume": "RESIZE",
    "instance.upgrade": "UPGRADE",
    "instance.rehearse_upgrade": "ACTIVE",
    "instance.rebuild": "BUILD",
    "instance.restore": "BUILD",
    "instance.archive_logs": "ACTIVE",
    "backup.create": "BACKUP",
    "instance.configure": "ACTIVE",
    "instance.update_access": "ACTIVE",
    "instance.rotate_password": "ACTIVE",
    "instance.renew_agent": "ACTIVE",
}

OPERATING = {
    Service.NEW: "NEW",
    Service.HEALTHY: "HEALTHY",
    Service.STARTING: "RESTARTING",
    Service.BLOCKED: "BLOCKED",
    Service.SHUTDOWN: "SHUTDOWN",
    Service.CRASHED: "SHUTDOWN",
    Service.UNKNOWN: "ERROR",
}

# Which of its meanings SHUTDOWN has.
_SENSES = {
    "instance.delete": "DELETING",
    "instance.stop": "STOPPING",
    Service.SHUTDOWN: "STOPPED",
    Service.CRASHED: "CRASHED",
}

MEANING = {
    "ACTIVE": "serves, and is being changed meanwhile",
    "BUILD": "being made; becomes ACTIVE, or ERROR with the reason",
    "RESIZE": "getting another size; becomes ACTIVE",
    "BACKUP": "serves, and is being backed up; becomes ACTIVE",
    "UPGRADE": "moving to another version; becomes ACTIVE",
    "REBOOT": "the database server is restarting; becomes ACTIVE",
    "DELETING": "being deleted; is not found afterwards",
    "DELETED": "deleted; only what is known of it is left",
    "STOPPING": "the database server is being stopped, and stays stopped until it is started",
    "STOPPED": "the database server was stopped, its data is kept; start it, or restart it",
    "CRASHED": "the database server does not stay up, and is tried again and again: see the events for the reason",
    "ERROR": "the last operation failed or the guest is silent: see the fault; delete it or ask an operator",
    "RESTART_REQUIRED": "serves; some settings wait for a restart",
    "HEALTHY": "answers queries",
    "RESTARTING": "the database server is starting or recovering",
    "BLOCKED": "the database server answers but cannot serve, for want of space or connections",
    "NEW": "the guest is up, the database server is not made yet",
}


def shown(operation_kind: str | None, report: Report | None, now: datetime, *, broken: bool) -> Shown:
    """The first that applies: a running operation, a failed one, a pending restart, the guest's own word."""
    if operation_kind is not None:
        return Shown(WHILE.get(operation_kind, "ACTIVE"), "", _SENSES.get(operation_kind))
    if broken:
        return Shown("ERROR", "ERROR")
    if report is None or now - report.at > SILENT_AFTER:
        return Shown("ACTIVE", "ERROR")
    if report.restart_required and report.service is Service.HEALTHY:
        return Shown("RESTART_REQUIRED", "")
    return Shown("ACTIVE", OPERATING[report.service], _SENSES.get(report.service))


GONE = Shown("SHUTDOWN", "DELETED", "DELETED")
