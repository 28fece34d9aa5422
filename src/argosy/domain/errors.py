"""Every failure we can name.

::

    ArgosyError
    ├── Invalid                      400: the request cannot be right (a field, its bound)
    ├── Unauthorized                 401: who are you?
    ├── Forbidden                    403: we know you, and no
    ├── NotFound                     404: does not exist, or not for you
    ├── Conflict                     409
    ├── OverLimit                    413: quota or size
    ├── Busy                         422: right, but not in this state
    ├── Unsupported                  501: this datastore cannot do it
    ├── Unavailable                  503: a part we need does not answer; trying again may help
    └── Failed                       500: an operation went wrong behind the API

Raise the class that says what happened; one that a program may want to tell apart gets a `code` of its own.
"""

from __future__ import annotations

import math
from enum import StrEnum
from typing import Any, ClassVar


class Kind(StrEnum):
    """What sort of failure it is; `api/faults.py` gives each its documented fault and status."""

    INVALID = "invalid"
    UNAUTHORIZED = "unauthorized"
    FORBIDDEN = "forbidden"
    NOT_FOUND = "not-found"
    CONFLICT = "conflict"
    OVER_LIMIT = "over-limit"
    BUSY = "busy"
    UNSUPPORTED = "unsupported"
    UNAVAILABLE = "unavailable"
    FAILED = "failed"


def _revive(cls: type[ArgosyError], args: tuple[Any, ...], attributes: dict[str, Any]) -> ArgosyError:
    error = cls.__new__(cls, *args)
    error.args = args
    error.__dict__.update(attributes)
    return error


class ArgosyError(Exception):
    """Base of the errors we raise on purpose. Anything else a user sees is a bug.

    `code` is stable and documented: programs branch on it, never on the sentence. The sentence says
    what is wrong and what to do now, and never holds a secret.
    """

    kind: ClassVar[Kind] = Kind.FAILED
    code: str = "failed"

    def __init__(self, sentence: str, *, code: str | None = None) -> None:
        super().__init__(sentence)
        if code is not None:
            self.code = code

    @property
    def sentence(self) -> str:
        return str(self.args[0]) if self.args else type(self).__name__

    def __reduce__(self) -> tuple[Any, ...]:
        # DBOS stores what a step raises with pickle, which rebuilds an exception as cls(*args) and so
        # breaks on keyword-only arguments. _revive skips __init__ and puts the attributes back.
        return _revive, (type(self), self.args, self.__dict__)


class Invalid(ArgosyError):
    kind, code = Kind.INVALID, "invalid"


class Unauthorized(ArgosyError):
    kind, code = Kind.UNAUTHORIZED, "unauthorized"


class Forbidden(ArgosyError):
    kind, code = Kind.FORBIDDEN, "forbidden"


class NotFound(ArgosyError):
    kind, code = Kind.NOT_FOUND, "not-found"


class Conflict(ArgosyError):
    kind, code = Kind.CONFLICT, "conflict"


class OverLimit(ArgosyError):
    kind, code = Kind.OVER_LIMIT, "over-limit"


class Busy(ArgosyError):
    kind, code = Kind.BUSY, "busy"


class Unsupported(ArgosyError):
    kind, code = Kind.UNSUPPORTED, "unsupported"


class Unavailable(ArgosyError):
    kind, code = Kind.UNAVAILABLE, "unavailable"


class Failed(ArgosyError):
    kind, code = Kind.FAILED, "failed"


BY_KIND: dict[Kind, type[ArgosyError]] = {
    cls.kind: cls
    for cls in (
        Invalid, Unauthorized, Forbidden, NotFound, Conflict, OverLimit, Busy, Unsupported, Unavailable, Failed,
    )
}  # fmt: skip


class InstanceNotFound(NotFound):
    code = "instance-not-found"

    def __init__(self, *, instance_id: str) -> None:
        super().__init__(f"Instance {instance_id} cannot be found.")


class ConfigurationNotFound(NotFound):
    code = "configuration-not-found"

    def __init__(self, *, configuration_id: str) -> None:
        super().__init__(f"Configuration group {configuration_id} cannot be found.")


class BackupNotFound(NotFound):
    code = "backup-not-found"

    def __init__(self, *, backup_id: str) -> None:
        super().__init__(f"Backup {backup_id} cannot be found.")


class BackupOutOfReach(Conflict):
    """It was left in a store that is not the one in use now."""

    code = "backup-out-of-reach"

    def __init__(self, *, backup_id: str, store: str, now: str) -> None:
        super().__init__(
            f"Backup {backup_id} is in the store {store}, and backups are kept in {now} now: an operator has to set that "
            "store again, or move it."
        )


class BackupIncomplete(Conflict):
    """It is not done, or has failed."""

    code = "backup-incomplete"

    def __init__(self, *, backup_id: str, status: str) -> None:
        super().__init__(f"Backup {backup_id} is {status}: only one that is COMPLETED can be used.")


class BackupHasChildren(Conflict):
    code = "backup-has-children"

    def __init__(self, *, backup_id: str, children: int) -> None:
        super().__init__(
            f"Backup {backup_id} has {children} incremental backups that cannot be restored without it: delete those "
            "first, or all together with cascade=true."
        )


class VolumeTooSmall(Forbidden):
    code = "volume-too-small"

    def __init__(self, *, needed_gb: float, volume_gb: int) -> None:
        # Rounded up, so that it is never the volume's own size.
        super().__init__(
            f"The restored data needs about {math.ceil(needed_gb * 100) / 100:.2f} GB and the volume has {volume_gb} GB: ask for a larger one."
        )


class ScheduleNotFound(NotFound):
    code = "backup-schedule-not-found"

    def __init__(self, *, schedule_id: str) -> None:
        super().__init__(f"Backup schedule {schedule_id} cannot be found.")


class BackupUnusable(Failed):
    """An archive cannot be restored: something of it is missing, damaged, another's, or its key is not to be had."""

    code = "backup-unusable"


class InstanceBusy(Busy):
    """Another operation holds the instance, or its state does not allow this one."""

    code = "instance-busy"

    def __init__(self, *, instance_id: str, status: str, way_out: str | None = None) -> None:
        super().__init__(
            f"Instance {instance_id} is in status {status} and cannot take this request now: "
            + (way_out or "try again when it is ACTIVE.")
        )
        self.status = status


class InstanceProtected(Forbidden):
    """Its owner protected the instance from being deleted."""

    code = "instance-protected"

    def __init__(self, *, instance_id: str) -> None:
        super().__init__(
            f"Instance {instance_id} is protected from deletion, also from an administrator's: "
            "take the protection away first (argosy unprotect)."
        )


class EngineError(Failed):
    """A database server refused or failed; the sentence carries the server's own words."""

    code = "engine-error"


class EngineNotReady(Unavailable):
    """The database server does not answer."""

    code = "engine-not-ready"


class DatabaseExists(Invalid):
    code = "database-exists"

    def __init__(self, *, name: str) -> None:
        super().__init__(f"Database {name!r} already exists.")


class DatabaseNotFound(NotFound):
    code = "database-not-found"

    def __init__(self, *, name: str) -> None:
        super().__init__(f"Database {name!r} cannot be found.")


class UserExists(Invalid):
    code = "user-exists"

    def __init__(self, *, name: str, host: str) -> None:
        super().__init__(f"User {name!r} at host {host!r} already exists.")


class UserNotFound(NotFound):
    code = "user-not-found"

    def __init__(self, *, name: str, host: str) -> None:
        super().__init__(f"User {name!r} at host {host!r} cannot be found.")


class AccessNotFound(NotFound):
    code = "access-not-found"

    def __init__(self, *, name: str, database: str) -> None:
        super().__init__(f"User {name!r} has no access to database {database!r}.")


class OutOfSpace(Failed):
    """A volume cannot hold what it was asked to."""

    code = "out-of-space"


class CloudQuotaExceeded(OverLimit):
    """The cloud does not give more to the project that owns all servers and volumes."""

    code = "cloud-quota-exceeded"

    def __init__(self, *, service: str, quota: str, asked: int, available: int) -> None:
        super().__init__(
            f"The cloud is out of room for us: {service}'s quota {quota} has {max(available, 0)} left and {asked} is asked "
            "for. Ask an operator to raise it, or delete something."
        )


class ImageUnavailable(Failed):
    """The software of a datastore version cannot be had on this machine."""

    code = "image-unavailable"


class PlatformError(Failed):
    """The platform refused or failed."""

    code = "platform-error"


class GuestUnreachable(Unavailable):
    """A guest agent does not answer."""

    code = "guest-unreachable"


class GuestOutdated(Unavailable):
    """A guest's agent is of an older release and does not know what it was asked."""

    code = "guest-outdated"

    def __init__(self, *, address: str, method: str) -> None:
        super().__init__(
            f"The agent of the guest at {address} is of an older release and does not know {method}: it is renewed in a "
            "moment, try again then."
        )


class NameTaken(Conflict):
    """A user, project, role or application credential of this name exists already."""

    code = "name-taken"

    def __init__(self, *, what: str, name: str) -> None:
        super().__init__(f"There is a {what} named {name!r} already: choose another name.")
