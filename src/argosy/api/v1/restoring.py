"""What a restore is asked to bring back: into a new instance, or in place."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self

from pydantic import Field, StrictStr, ValidationError, model_validator

from argosy.api.call import Call, check_instance_id
from argosy.api.extensions import log_archives
from argosy.api.v1 import backups, configurations
from argosy.api.v1.bodies import NAME_MAX, AccessBody, Body, Reference
from argosy.domain import backup as domain
from argosy.domain.backup import Backup, Recovery
from argosy.domain.configuration import Configuration
from argosy.domain.errors import (
    BackupNotFound,
    BackupUnusable,
    ConfigurationNotFound,
    Conflict,
    Invalid,
    Unsupported,
)
from argosy.domain.instance import Instance
from argosy.domain.log_archive import History
from argosy.domain.operations import InstanceRequest, RestoreInstance
from argosy.domain.parameters import ParametersRefused
from argosy.metadata.configurations import Author
from argosy.metadata.store import Transaction

Moment = Annotated[StrictStr, Field(max_length=40)]
Position = Annotated[StrictStr, Field(min_length=1, max_length=64)]


class RestorePoint(Body):
    """A backup; or, which is ours, an instance and a moment or a position of its log, without either the latest.

    `users` says whether they are as that instance has them now, or as they were then.
    """

    backup_ref: Reference | None = Field(default=None, alias="backupRef")
    instance: Reference | None = None
    time: Moment | None = None
    position: Position | None = None
    users: Literal["current", "backup"] = "current"

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.backup_ref is None) == (self.instance is None):
            raise ValueError("it must name either a backup (backupRef) or an instance")
        if self.backup_ref is not None and (self.time is not None or self.position is not None):
            raise ValueError("a time or position is of an instance, not of a backup")
        if self.time is not None and self.position is not None:
            raise ValueError("it must have a time or a position, not both")
        return self


class RestoreBody(Body, extra="forbid"):
    """Of the action: the backup's id, or a moment or position of the instance's log."""

    backup: Reference | None = None
    time: Moment | None = None
    position: Position | None = None
    users: Literal["current", "backup"] = "current"

    @model_validator(mode="after")
    def _check(self) -> Self:
        if [self.backup, self.time, self.position].count(None) != 2:
            raise ValueError("it must have one of backup, time and position")
        return self


@dataclass(frozen=True)
class Source:
    """What is restored, and the backup's chain that is needed for it."""

    recovery: Recovery
    chain: list[Backup]

    @property
    def backup(self) -> Backup:
        return self.chain[-1]

    @property
    def runs(self) -> tuple[str, str]:
        """Datastore and version that read it."""
        return self.backup.datastore, self.backup.version

    def was(self, what: str) -> Any:
        """What its instance was, unless the backup does not say."""
        return self.backup.service.get(what)

    def access(self, asked: AccessBody | None) -> AccessBody:
        """Clients send `access` always: networks that it does not name are those that were."""
        try:
            were = AccessBody.model_validate(self.was("access") or {})
        except ValidationError:
            # Of a backup that was registered: its label is its maker's word.
            raise Invalid("The backup does not say who may connect: give `access`.") from None
        if asked is None:
            return were
        if "allowed_cidrs" in asked.model_fields_set:
            return asked
        return asked.model_copy(update={"allowed_cidrs": were.allowed_cidrs})


def source(call: Call, tx: Transaction, point: RestorePoint) -> Source:
    """Raises BackupNotFound, BackupIncomplete, Conflict, InstanceNotFound, and Invalid for what cannot be reached."""
    if point.backup_ref is not None:
        recovery = Recovery(backups.find(tx, point.backup_ref).id, users=point.users)
    else:
        instance_id = point.instance or ""
        check_instance_id(instance_id)
        # A deleted one's backups and log are still there.
        instance = tx.instances.get_or_deleted(instance_id)
        recovery = _recovery(log_archives.history_of(call, tx, instance), point)
    backup = tx.backups.get(recovery.backup_id)
    backup.check_usable()
    try:
        chain = tx.backups.chain(backup)
    except BackupUnusable as error:
        raise Conflict(error.sentence, code=error.code) from error
    for one in chain:
        one.check_usable()
        one.check_is_in(call.parts.backups.kind)
    return Source(recovery, chain)


def hold(tx: Transaction, found: Source, request: InstanceRequest) -> None:
    """From the moment of asking until the operation ends nobody deletes what it needs: its guest may read it."""
    for backup in found.chain:
        tx.grants.give(request.instance_id, backup.container, backup.prefix, "GET", request.operation_id)


def _recovery(history: History, point: RestorePoint) -> Recovery:
    if history.positions is None:
        raise Unsupported(
            "This datastore has no log to replay: it is restored to its backups.", code="no-point-in-time"
        )
    if point.time is not None:
        return history.to_time(_moment(point.time), point.users)
    if point.position is not None:
        return history.to_position(point.position, point.users)
    return history.to_latest(point.users)


def _moment(text: str) -> datetime:
    """UTC, where it does not say otherwise. Raises Invalid."""
    try:
        moment = datetime.fromisoformat(text)
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise Invalid(
            f"Validation error: time: it must be a moment such as 2026-11-28T12:30:00Z, not {text!r}."
        ) from None


def former_group(call: Call, tx: Transaction, source: Source) -> str | None:
    """The configuration group that the backup's instance followed; made anew, as it was then, if it is gone.

    Raises ParametersRefused when its values cannot be had any more.
    """
    group_id, values = source.was("configuration_id"), source.was("configuration_values")
    if group_id is None:
        return None
    try:
        return tx.configurations.get(group_id, hold=True).id
    except ConfigurationNotFound:
        if not isinstance(values, dict) or not values:
            return None
    backup = source.backup
    try:
        kept = configurations.checked(tx, backup.datastore, backup.version, values)
    except ParametersRefused as error:
        gone = "The configuration group of the backup's instance is gone and cannot be made anew: name another, or null"
        raise ParametersRefused([gone, *error.reasons]) from error
    group = Configuration(
        id=str(uuid.uuid4()),
        project_id=call.project_id,
        name=str(source.was("configuration_name") or backup.name)[:NAME_MAX],
        description=None,
        datastore=backup.datastore,
        version=backup.version,
        values=kept,
        revision=1,
        created_at=call.now,
        updated_at=call.now,
    )
    tx.configurations.add(group, Author(call.caller.user_name, f"As it was in backup {backup.id}"))
    configurations.tell(call, tx, group, "created", f"made anew as it was in backup {backup.id}")
    return group.id


def restore(call: Call, instance_id: str, details: dict[str, Any] | None) -> None:
    """The action: put the instance back to what a backup has, or to a moment. Its data is kept until that serves."""
    call.allow("instance:restore")
    try:
        asked = RestoreBody.model_validate(details or {})
    except ValidationError as error:
        reasons = "; ".join(
            f"{'.'.join(['restore', *map(str, one['loc'])])}: {one['msg'].removeprefix('Value error, ')}"
            for one in error.errors(include_input=False)
        )
        raise Invalid(f"Validation error: {reasons}") from None
    with call.write() as tx:
        instance = tx.instances.get(instance_id)
        found = source(call, tx, _point(instance, asked))
        if found.backup.project_id != instance.project_id:
            raise BackupNotFound(
                backup_id=found.backup.id
            )  # also for an administrator: data stays in its project
        found.backup.check_restores_to(instance.datastore, instance.version)
        domain.check_fits(found.chain, instance.volume_gb)
        instance.check_can_restart(call.now)
        request = RestoreInstance(
            operation_id=str(uuid.uuid4()), instance_id=instance.id, recovery=found.recovery
        )
        tx.operations.begin(instance, request, requested_by=call.caller.user_name)
        hold(tx, found, request)


def _point(instance: Instance, asked: RestoreBody) -> RestorePoint:
    if asked.backup is not None:
        return RestorePoint(backupRef=asked.backup, users=asked.users)
    return RestorePoint(instance=instance.id, time=asked.time, position=asked.position, users=asked.users)
