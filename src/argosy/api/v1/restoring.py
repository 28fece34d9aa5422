"""What a restore is asked to bring back: into a new instance, or in place."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import Field, ValidationError

from argosy.api.call import Call
from argosy.api.v1 import backups
from argosy.api.v1.bodies import AccessBody, Body, Reference
from argosy.domain import backup as domain
from argosy.domain.backup import Backup, Recovery
from argosy.domain.errors import BackupUnusable, Conflict, Invalid
from argosy.domain.operations import RestoreInstance
from argosy.metadata.store import Transaction


class RestorePoint(Body):
    """`users` says whether they are as the backup's instance has them now, or as they were then. That is ours."""

    backup_ref: Reference = Field(alias="backupRef")
    users: Literal["current", "backup"] = "current"


class RestoreBody(Body, extra="forbid"):
    """Of the action: the backup's id."""

    backup: Reference
    users: Literal["current", "backup"] = "current"


@dataclass(frozen=True)
class Source:
    """What is restored, and the backup's chain that is needed for it."""

    recovery: Recovery
    chain: list[Backup]

    @property
    def backup(self) -> Backup:
        return self.chain[-1]

    @property
    def runs(self) -> tuple[str, str | None]:
        """Datastore and version that read it."""
        return self.backup.datastore, self.backup.version

    def was(self, what: str) -> Any:
        """What its instance was, unless the backup does not say."""
        return self.backup.service.get(what)

    def access(self, asked: AccessBody | None) -> AccessBody:
        """Clients send `access` always: networks that it does not name are those that were."""
        were = self.was("access") or {}
        if asked is None:
            return AccessBody(**were)
        if "allowed_cidrs" in asked.model_fields_set:
            return asked
        return asked.model_copy(update={"allowed_cidrs": list(were.get("allowed_cidrs", []))})


def source(tx: Transaction, point: RestorePoint) -> Source:
    """Raises BackupNotFound, BackupIncomplete, Conflict."""
    found = backups.find(tx, point.backup_ref)
    found.check_usable()
    try:
        chain = tx.backups.chain(found)
    except BackupUnusable as error:
        raise Conflict(error.sentence, code=error.code) from error
    for one in chain:
        one.check_usable()
    return Source(Recovery(backup_id=found.id, users=point.users), chain)


def restore(call: Call, instance_id: str, details: dict[str, Any] | None) -> None:
    """The action: put the instance back to what a backup has. Its data until then is kept until that serves."""
    call.allow("instance:restore")
    try:
        asked = RestoreBody.model_validate(details or {})
    except ValidationError as error:
        reasons = "; ".join(
            f"restore.{'.'.join(map(str, one['loc']))}: {one['msg']}"
            for one in error.errors(include_input=False)
        )
        raise Invalid(f"Validation error: {reasons}") from None
    with call.write() as tx:
        instance = tx.instances.get(instance_id)
        found = source(tx, RestorePoint(backupRef=asked.backup, users=asked.users))
        found.backup.check_restores_to(instance.datastore, instance.version)
        domain.check_fits(found.chain, instance.volume_gb)
        instance.check_can_restart(call.now)
        request = RestoreInstance(
            operation_id=str(uuid.uuid4()), instance_id=instance.id, recovery=found.recovery
        )
        tx.operations.begin(instance, request, requested_by=call.caller.user_name)
