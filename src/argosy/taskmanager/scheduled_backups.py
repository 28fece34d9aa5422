"""Backups by schedule: what is due is begun, what came of it is written down, what is past its time goes.

A run that was missed is caught up with once. One that would overlap with the schedule's last is left out. One that failed
is tried again, further apart each time, and after a few times waits for its next regular time. Whatever keeps a
backup from being made is shown on its schedule, and told once in an event.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import structlog

from argosy import catalog
from argosy.domain.backup import RUNNING, Backup, BackupStatus
from argosy.domain.backup_schedule import (
    ATTEMPTS,
    BackupSchedule,
    expired,
    next_attempt,
    next_run,
    parent_for,
    to_verify,
)
from argosy.domain.errors import InstanceBusy, NotFound
from argosy.domain.instance import NAME_MAX, Instance
from argosy.domain.operations import CreateBackup, DeleteBackups, VerifyBackup
from argosy.domain.quotas import QuotaExceeded
from argosy.metadata.store import Store, Transaction

log = structlog.get_logger()

ACTOR = "schedule"
FAILED, SKIPPED = "backup_schedule.failed", "backup_schedule.skipped"
# A server that does not answer is given so long before anybody is told: it may only just boot.
PATIENCE = timedelta(minutes=1)
_silent_since: dict[str, datetime] = {}  # schedules whose instance does not answer, as this process saw it


def run(store: Store, kind: str, container: str, now: datetime | None = None) -> None:
    """Once a sweep. `kind` and `container` say where backups go without a strategy; `now` is for tests."""
    now = now or datetime.now(UTC)
    with store.read() as tx:
        running, due = tx.backup_schedules.running(), tx.backup_schedules.due(now)
    for schedule in running:
        _one(store, schedule, lambda tx, one: _settle(tx, one, now))
    for schedule in due:
        _one(store, schedule, lambda tx, one: _begin(tx, one, kind, container, now))


def verify(store: Store, now: datetime | None = None) -> None:
    """Begin to prove the newest backup of a schedule whose last proof is too old, one at a time of all of them."""
    now = now or datetime.now(UTC)
    with store.read() as tx:
        due = [one for one in tx.backup_schedules.that_verify() if _unproved(tx, one, now) is not None]
        if not due or any(one.kind == VerifyBackup.kind for one in tx.operations.running()):
            return
    _one(store, due[0], lambda tx, one: _verify(tx, one, now))


def take_away(store: Store, now: datetime | None = None) -> None:
    """Begin to delete what schedules do not keep any longer, and forget schedules of instances that are gone."""
    now = now or datetime.now(UTC)
    with store.write() as tx:
        tx.backup_schedules.forget_of_deleted()
    with store.read() as tx:
        keeping = tx.backup_schedules.that_keep()
    for schedule in keeping:
        _one(store, schedule, lambda tx, one: _expire(tx, one, now))


def _one(store: Store, schedule: BackupSchedule, act: Callable[[Transaction, BackupSchedule], None]) -> None:
    """In a transaction of its own, on the schedule as it is then."""
    with suppress(InstanceBusy, NotFound), store.write() as tx:
        act(tx, tx.backup_schedules.get(schedule.id))


def _begin(tx: Transaction, schedule: BackupSchedule, kind: str, container: str, now: datetime) -> None:
    if not schedule.enabled or schedule.next_run_at is None or schedule.next_run_at > now:
        return
    if schedule.running_id is not None:
        _skip(tx, schedule, now)
        return
    instance = tx.instances.get(schedule.instance_id)
    if instance.operation_id is not None:
        return  # it waits until that ends
    silence = _silence(instance, now)
    if silence is not None:
        _wait(tx, schedule, silence, now)
        return
    _silent_since.pop(schedule.id, None)
    try:
        tx.quotas.take(instance.project_id, backups=1)
    except QuotaExceeded as refusal:
        _failed(tx, schedule, refusal.sentence, now)
        return
    backup = _new(tx, schedule, instance, kind, container, now)
    request = CreateBackup(
        operation_id=backup.operation_id or "",
        instance_id=instance.id,
        backup_id=backup.id,
        parent_id=backup.parent_id,
    )
    tx.backups.add(backup)
    tx.operations.begin(instance, request, requested_by=ACTOR)
    tx.backup_schedules.note(
        schedule.id, running_id=backup.id, last_run_at=now, next_run_at=next_run(schedule.cron, now)
    )
    log.info("scheduled backup", instance_id=instance.id, backup_id=backup.id, parent_id=backup.parent_id)


def _silence(instance: Instance, now: datetime) -> str | None:
    """Why its database server cannot be backed up now, in a sentence; None when it can."""
    try:
        instance.check_can_restart(now)
        instance.check_serves(now)
    except InstanceBusy as refusal:
        return (
            f"The instance is in status {refusal.status}: it is backed up when its database server answers."
        )
    return None


def _wait(tx: Transaction, schedule: BackupSchedule, reason: str, now: datetime) -> None:
    """It stays due, so that it is made as soon as it can be; that is told once."""
    since = _silent_since.setdefault(schedule.id, now)
    if now - since >= PATIENCE and schedule.last_error != reason:
        tx.backup_schedules.note(schedule.id, last_error=reason)
        _tell(tx, schedule, FAILED, reason)


def _skip(tx: Transaction, schedule: BackupSchedule, now: datetime) -> None:
    following = next_run(schedule.cron, now)
    tx.backup_schedules.note(schedule.id, next_run_at=following)
    _tell(
        tx, schedule, SKIPPED, f"The backup before it still goes on: the next one is at {_shown(following)}."
    )


def _new(
    tx: Transaction, schedule: BackupSchedule, instance: Instance, kind: str, container: str, now: datetime
) -> Backup:
    backup_id = str(uuid.uuid4())
    datastore, _ = catalog.version(instance.datastore, instance.version)
    full_every = schedule.full_every if "incremental_backups" in datastore.capabilities else 1
    all_of_it = tx.backups.of_instance(instance.id)
    mine = [one for one in all_of_it if one.schedule_id == schedule.id and one.store == kind]
    parent = parent_for(full_every, mine, (instance.datastore, instance.version))
    at = f"-{now:%Y%m%d-%H%M}"
    return Backup(
        id=backup_id,
        project_id=instance.project_id,
        name=instance.name[: NAME_MAX - len(at)] + at,
        description="by schedule",
        instance_id=instance.id,
        instance_name=instance.name,
        datastore=instance.datastore,
        version=instance.version,
        status=BackupStatus.NEW,
        store=kind,
        container=tx.backup_strategies.container(instance.project_id, instance.id) or container,
        prefix=f"{instance.id}/{backup_id}/",
        volume_gb=instance.volume_gb,
        created_at=now,
        updated_at=now,
        parent_id=None if parent is None else parent.id,
        schedule_id=schedule.id,
        operation_id=str(uuid.uuid4()),
        operation_kind=CreateBackup.kind,
    )


def _settle(tx: Transaction, schedule: BackupSchedule, now: datetime) -> None:
    """Write down what came of the backup that was being made."""
    if schedule.running_id is None:
        return
    backup = tx.backups.find(schedule.running_id)
    if backup is None:
        tx.backup_schedules.note(schedule.id, running_id=None)
    elif backup.is_usable:
        tx.backup_schedules.note(
            schedule.id, running_id=None, last_backup_id=backup.id, last_error=None, attempts=0
        )
        _expire(tx, schedule, now)
    elif backup.status not in RUNNING:
        _failed(tx, schedule, backup.error or "The backup failed.", now)


def _failed(tx: Transaction, schedule: BackupSchedule, reason: str, now: datetime) -> None:
    attempts = schedule.attempts + 1
    again = next_attempt(schedule.cron, attempts, now) if schedule.enabled else None
    tx.backup_schedules.note(
        schedule.id,
        running_id=None,
        last_error=reason,
        attempts=0 if attempts >= ATTEMPTS else attempts,
        next_run_at=again,
    )
    _tell(tx, schedule, FAILED, f"{reason} " + (f"It is tried again at {_shown(again)}." if again else ""))


def _expire(tx: Transaction, schedule: BackupSchedule, now: datetime) -> None:
    """Begin to delete what is past its time; what is being read for a restore goes later."""
    going = expired(schedule, tx.backups.of_instance(schedule.instance_id), now)
    if not going or any(tx.grants.is_read(one.container, one.prefix) for one in going):
        return
    ids = tuple(one.id for one in going)
    request = DeleteBackups(operation_id=str(uuid.uuid4()), backup_ids=ids)
    if not tx.backups.claim(ids, request.operation_id, request.kind):
        raise InstanceBusy(instance_id=schedule.instance_id, status="BACKUP")
    tx.operations.begin_alone(schedule.project_id, request, requested_by="retention")
    log.info("backups past retention", schedule_id=schedule.id, backups=len(ids))


def _unproved(tx: Transaction, schedule: BackupSchedule, now: datetime) -> Backup | None:
    return to_verify(schedule, tx.backups.of_instance(schedule.instance_id), now)


def _verify(tx: Transaction, schedule: BackupSchedule, now: datetime) -> None:
    backup = _unproved(tx, schedule, now)
    if backup is None:
        return
    request = VerifyBackup(operation_id=str(uuid.uuid4()), backup_id=backup.id)
    if tx.backups.claim((backup.id,), request.operation_id, request.kind):
        tx.operations.begin_alone(backup.project_id, request, requested_by=ACTOR)


def _tell(tx: Transaction, schedule: BackupSchedule, kind: str, message: str) -> None:
    tx.events.add(schedule.project_id, schedule.instance_id, kind, message.strip(), ACTOR)


def _shown(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"
