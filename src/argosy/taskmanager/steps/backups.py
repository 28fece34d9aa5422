"""Backups' rows, their keys, and what lies of them in the store."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog

from argosy.domain.backup import Backup, BackupStatus, Recovery
from argosy.domain.errors import ArgosyError
from argosy.domain.instance import Instance
from argosy.domain.operations import CreateBackup
from argosy.metadata.store import Transaction
from argosy.rpc.messages import Archive
from argosy.rpc.urls import VALID_S
from argosy.storage import keys, labels
from argosy.storage.labels import Label
from argosy.taskmanager import log_keeping
from argosy.taskmanager.parts import parts
from argosy.taskmanager.steps.again import step

log = structlog.get_logger()

KEY = "key.json"
_SOON = timedelta(minutes=1)
_URLS_END = timedelta(seconds=VALID_S + 60)
_swept: set[str] = set()  # failed backups whose leftovers this process has taken away once


@step(name="backups.begin")
def begin(asked: CreateBackup) -> None:
    """Make the backup's key and its place in the store, and write down what its instance is besides the data."""
    own = parts()
    with own.store.write() as tx:
        backup = tx.backups.get(asked.backup_id)
        instance = tx.instances.get(asked.instance_id)
        wrapped = backup.wrapped_key or own.keys.new()[1]
        tx.backups.change(
            backup.id,
            status=BackupStatus.BUILDING.value,
            wrapped_key=wrapped,
            instance_name=instance.name,
            datastore=instance.datastore,
            version=instance.version,
            volume_gb=instance.volume_gb,
            service=_service_of(tx, instance),
        )
        tx.grants.give(instance.id, backup.container, backup.prefix, "PUT", asked.operation_id)
        backup = tx.backups.get(backup.id)
    own.backups.check(backup.container)
    own.backups.put(backup.container, backup.prefix + KEY, keys.document(wrapped))
    _put_label(backup)


@step(name="backups.make_full")
def make_full(backup_id: str) -> None:
    """There was nothing to build on."""
    with parts().store.write() as tx:
        tx.backups.change(backup_id, parent_id=None)
        backup = tx.backups.get(backup_id)
    _put_label(backup)


@step(name="backups.complete")
def complete(backup_id: str, told: str) -> None:
    """The archive is whole, says its guest."""
    result = json.loads(told)
    with parts().store.write() as tx:
        tx.backups.change(
            backup_id,
            status=BackupStatus.COMPLETED.value,
            facts=result["facts"],
            size_bytes=result["size_bytes"],
            data_bytes=result["data_bytes"],
            completed_at=datetime.now(UTC),
            error=None,
        )


@step(name="backups.remove")
def remove(backup_id: str) -> None:
    """First what is in the store, then the row; one that is gone already is no error."""
    own = parts()
    with own.store.read() as tx:
        backup = tx.backups.find(backup_id)
    if backup is None:
        return
    if not backup.elsewhere:
        backup.check_is_in(own.backups.kind)
        own.backups.delete(backup.container, backup.prefix)
    with own.store.write() as tx:
        tx.backups.forget(backup_id)
        tx.events.add(
            backup.project_id, backup.instance_id, "backup.deleted", f"Backup {backup.name}", "taskmanager"
        )
    log_keeping.take_away_of(own.store, own.backups, backup.instance_id)


@step(name="backups.let_read")
def let_read(operation_id: str, instance_id: str, recovery: Recovery) -> None:
    """Let an instance's guest read what its restore needs, for as long as the operation goes on."""
    with parts().store.write() as tx:
        for backup in tx.backups.chain(tx.backups.get(recovery.backup_id)):
            backup.check_is_in(parts().backups.kind)
            tx.grants.give(instance_id, backup.container, backup.prefix, "GET", operation_id)


@step(name="backups.note_restored")
def note_restored(instance_id: str, recovery: Recovery, told: str) -> None:
    """Tell what an instance was restored to, and what could not be brought back; with its users came their root."""
    result = json.loads(told)
    reached = result.get("facts", {}).get("reached_at")
    with parts().store.write() as tx:
        backup = tx.backups.get(recovery.backup_id)
        instance = tx.instances.get(instance_id)
        said = [f"Restored from backup {backup.name}" + (f", to {reached}." if reached else ".")]
        said += result.get("remarks", [])
        tx.events.add(instance.project_id, instance_id, "instance.restored", " ".join(said), "taskmanager")
        source = tx.instances.find(backup.instance_id)
        current = recovery.users == "current" and source is not None
        enabled = source.root_enabled if current and source else backup.service.get("root_enabled", False)
        if enabled and not instance.root_enabled:
            tx.instances.enable_root(instance_id, by="taskmanager")


@step(name="backups.make_next_soon")
def make_next_soon(instance_id: str) -> None:
    """Have the instance's schedules make their next backup when the archive of its log has begun anew."""
    now = datetime.now(UTC)
    with parts().store.write() as tx:
        for schedule in tx.backup_schedules.of_instance(instance_id):
            if schedule.enabled and (schedule.next_run_at is None or schedule.next_run_at > now + _SOON):
                tx.backup_schedules.note(schedule.id, next_run_at=now + _SOON)


def sweep_leftovers() -> None:
    """Take away what failed backups left in the store: at once, and again when no URL for it is good any more."""
    own = parts()
    with own.store.read() as tx:
        left = [one for one in tx.backups.with_leftovers() if one.store == own.backups.kind]
    for backup in left:
        over = datetime.now(UTC) - backup.updated_at > _URLS_END
        if backup.id in _swept and not over:
            continue
        try:
            own.backups.delete(backup.container, backup.prefix)
        except ArgosyError as error:
            log.warning("leftovers of a backup stay", backup_id=backup.id, error=error.sentence)
            continue
        _swept.add(backup.id)
        if over:
            with own.store.write() as tx:
                tx.backups.change(backup.id, leftovers=False)
            _swept.discard(backup.id)


def archive(backup: Backup) -> Archive:
    """For use within a step: it holds the key."""
    own = parts()
    key = own.keys.unwrap(backup.wrapped_key)
    return Archive(
        id=backup.id,
        container=backup.container,
        prefix=backup.prefix,
        key=key.hex(),
        patience_s=own.backup_patience_s,
    )


def chain(recovery: Recovery) -> tuple[Archive, ...]:
    """The same of a backup with its parents, the full one first. Raises BackupUnusable when one is missing."""
    with parts().store.read() as tx:
        return tuple(archive(backup) for backup in tx.backups.chain(tx.backups.get(recovery.backup_id)))


def source_of(recovery: Recovery) -> str | None:
    """The address of the instance that a backup is of, if it is there."""
    with parts().store.read() as tx:
        backup = tx.backups.get(recovery.backup_id)
        instance = tx.instances.find(backup.instance_id)
    return None if instance is None else instance.address


def _put_label(backup: Backup) -> None:
    """Beside the archive, so that it can be taken over where the metadata database is another's."""
    own = parts()
    label = Label.of(backup).sealed(own.keys.unwrap(backup.wrapped_key))
    own.backups.put(backup.container, backup.prefix + labels.NAME, label)


def _service_of(tx: Transaction, instance: Instance) -> dict[str, Any]:
    """What a restored instance is given unless it is told otherwise."""
    values = (
        tx.configurations.get(instance.configuration_id).values
        if instance.configuration_id is not None
        else None
    )
    return {
        "flavor_id": instance.flavor_id,
        "volume_gb": instance.volume_gb,
        "autogrow_limit_gb": instance.autogrow_limit_gb,
        "configuration_id": instance.configuration_id,
        "configuration_name": instance.configuration_name,
        "configuration_values": values,
        "access": instance.access,
        "require_tls": instance.require_tls,
        # An address is its own; what is made of the backup gets another.
        "placement": {
            name: value
            for name, value in instance.placement.items()
            if name in {"network", "availability_zone"}
        },
        "tags": dict(instance.tags),
        "root_enabled": instance.root_enabled,
    }
