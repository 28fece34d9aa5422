"""Proving a backup: the server it is restored into, which is thrown away, and what came of it.

Such a server is an instance like any other, of a project that is nobody's: its backup's owner does not see it, and no quota
counts it. Its operation holds it from its first moment; one that no operation holds any more is thrown away.
"""

from __future__ import annotations

import time
import uuid
from datetime import UTC, datetime
from typing import Any

import structlog

from argosy import catalog
from argosy.domain.backup import Backup, Recovery, needed_bytes
from argosy.domain.configuration import Wanted
from argosy.domain.errors import ArgosyError, Failed, NotFound
from argosy.domain.instance import Instance
from argosy.domain.operations import CreateInstance, VerifyBackup
from argosy.metadata.store import Transaction
from argosy.taskmanager.parts import parts
from argosy.taskmanager.steps.again import step

log = structlog.get_logger()

PROJECT = "argosy"
ACTOR = "verifier"
PASSED, REFUTED, UNDECIDED = "backup.verified", "backup.refuted", "backup.not_verified"
# What is the backup's own fault; for anything else it may still be good.
_ITS_FAULT = frozenset({"backup-unusable", "engine-error"})


def stand_in_of(asked: VerifyBackup) -> str:
    """The id of the server that the backup is restored into."""
    return str(uuid.uuid5(uuid.UUID(asked.operation_id), PROJECT))


@step(name="verification.begin")
def begin(asked: VerifyBackup) -> tuple[CreateInstance, Wanted | None]:
    """Write the server down that the backup is restored into: its restore, and the revision of its group."""
    own, instance_id = parts(), stand_in_of(asked)
    with own.store.write() as tx:
        backup = tx.backups.get(asked.backup_id)
        chain = tx.backups.chain(backup)
        if tx.instances.find(instance_id) is None:
            tx.instances.add(_stand_in(tx, instance_id, chain))
            tx.instances.hold(instance_id, asked.operation_id, asked.kind)
        wanted = _wanted(tx, backup)
    restore = CreateInstance(
        operation_id=asked.operation_id,
        instance_id=instance_id,
        datastore=backup.datastore,
        version=backup.version,
        sealed=own.seal.close({"databases": [], "users": []}),
        recovery=Recovery(backup.id, users="backup"),
    )
    return restore, wanted


@step(name="verification.clock")
def clock() -> float:
    """In seconds; the difference of two is how long something took, an outage of the task manager included."""
    return time.time()


@step(name="verification.note")
def note(asked: VerifyBackup, wrong: list[str], restore_s: float, check_s: float) -> None:
    """Write down what the checks said of the restored data; nothing wrong is what a good backup comes to."""
    found = {"problems": wrong, "restore_seconds": round(restore_s, 3), "check_seconds": round(check_s, 3)}
    message = f"Restored in {restore_s:.1f} s, and its data is whole." if not wrong else " ".join(wrong)
    _note(asked, found, message, verified=not wrong, restore_s=restore_s)


@step(name="verification.note_failure")
def note_failure(asked: VerifyBackup, error: ArgosyError) -> None:
    """Write down why it could not be restored; what was not the backup's own fault says nothing about it."""
    if error.code in _ITS_FAULT:
        _note(asked, {"problems": [error.sentence]}, error.sentence, verified=False)
    else:
        _note(asked, {"error": error.sentence}, f"It could not be tried: {error.sentence}", verified=None)


@step(name="verification.forget")
def forget(instance_id: str) -> None:
    """The last trace of a server that was thrown away."""
    with parts().store.write() as tx:
        tx.grants.take(instance_id)
        tx.instances.forget(instance_id)


def sweep() -> None:
    """Throw away servers whose verification has ended without doing it."""
    own = parts()
    with own.store.read(PROJECT) as tx:
        left = [one.id for one in tx.instances.all() if one.operation_id is None]
    for instance_id in left:
        log.warning("server of a verification is thrown away", instance_id=instance_id)
        own.platform.servers.delete(instance_id)
        own.platform.volumes.delete(instance_id)
        with own.store.write() as tx:
            tx.grants.take(instance_id)
            tx.instances.forget(instance_id)


def _stand_in(tx: Transaction, instance_id: str, chain: list[Backup]) -> Instance:
    """As large as the backup's own instance was; the largest flavor when that one is not offered any more."""
    backup, now = chain[-1], datetime.now(UTC)
    try:
        catalog.version(backup.datastore, backup.version)
    except KeyError as error:
        raise Failed(
            f"{backup.datastore} {backup.version} is not offered any more, and nothing else reads the backup.",
            code="version-not-offered",
        ) from error
    flavors = {one.id: one for one in tx.flavors.all()}
    largest = max(flavors.values(), key=lambda one: one.memory_mb)
    flavor = flavors.get(str(backup.service.get("flavor_id")), largest)
    return Instance(
        id=instance_id,
        project_id=PROJECT,
        name=f"verify-{backup.id[:8]}",
        datastore=backup.datastore,
        version=backup.version,
        flavor_id=flavor.id,
        volume_gb=max(backup.volume_gb or 1, needed_bytes(chain) // 2**30 + 1),
        created_at=now,
        updated_at=now,
        # Nobody is let in.
        access={"is_public": False, "allowed_cidrs": ["127.0.0.1/32"]},
    )


def _wanted(tx: Transaction, backup: Backup) -> Wanted | None:
    """The group its instance followed, as it is now."""
    group_id = backup.service.get("configuration_id")
    if group_id is None:
        return None
    try:
        group = tx.configurations.get(group_id)
    except NotFound:
        return None
    same = (group.datastore, group.version) == (backup.datastore, backup.version)
    return Wanted(group.id, group.revision) if same else None


def _note(
    asked: VerifyBackup,
    found: dict[str, Any],
    message: str,
    *,
    verified: bool | None,
    restore_s: float | None = None,
) -> None:
    now = datetime.now(UTC)
    values: dict[str, Any] = {
        "verification": {**found, "tried_at": now.isoformat(), "operation_id": asked.operation_id}
    }
    if verified is not None:
        values |= {"verified": verified, "verified_at": now}
    if restore_s is not None:
        values["restore_s"] = restore_s
    kind = UNDECIDED if verified is None else PASSED if verified else REFUTED
    with parts().store.write() as tx:
        backup = tx.backups.get(asked.backup_id)
        tx.backups.note(backup.id, **values)
        tx.events.add(backup.project_id, backup.instance_id, kind, f"Backup {backup.name}: {message}", ACTOR)
