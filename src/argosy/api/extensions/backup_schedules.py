"""/backup_schedules: instances that are backed up by themselves. Trove's servers of today have no such routes."""

from __future__ import annotations

import re
import uuid
from dataclasses import asdict
from typing import Any

from pydantic import StrictBool, StrictInt, StrictStr

from argosy import catalog
from argosy.api.call import Asked, Call
from argosy.api.route import faults, resource
from argosy.api.v1 import shapes, views
from argosy.api.v1.bodies import Body, Reference
from argosy.domain.backup_schedule import (
    FULL_EVERY,
    KEEP_LAST,
    PER_INSTANCE_MAX,
    BackupSchedule,
    check_numbers,
    cron_of,
    next_run,
)
from argosy.domain.errors import Conflict, Invalid, ScheduleNotFound, Unsupported
from argosy.domain.instance import Instance
from argosy.metadata.store import Transaction

router = resource("backup schedules")

_ONE = "/backup_schedules/{schedule_id}"
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


class Schedule(Body, extra="forbid"):
    """`cron` is an expression of five fields in UTC, or hourly, daily, weekly or monthly."""

    cron: StrictStr = "daily"
    full_every: StrictInt | None = None
    keep_last: StrictInt | None = None
    keep_days: StrictInt | None = None
    verify_every_days: StrictInt | None = None
    enabled: StrictBool = True


class NewSchedule(Schedule):
    instance_id: Reference


class NewScheduleBody(Body):
    backup_schedule: NewSchedule


class ScheduleChanges(Body, extra="forbid"):
    cron: StrictStr | None = None
    full_every: StrictInt | None = None
    keep_last: StrictInt | None = None
    keep_days: StrictInt | None = None
    verify_every_days: StrictInt | None = None
    enabled: StrictBool | None = None


class ScheduleChangesBody(Body):
    backup_schedule: ScheduleChanges


@router.get(
    "/backup_schedules",
    response_model=shapes.BackupSchedules,
    responses=faults(400),
    openapi_extra=shapes.PAGED_SCHEDULES,
)
def list_schedules(call: Asked) -> dict[str, Any]:
    """The project's schedules, up to 20 a page; with `instance_id` those of one instance."""
    call.allow("backup_schedule:index")
    limit = call.limit()
    with call.read_project() as tx:
        found, more = tx.backup_schedules.page(limit, call.marker, call.asks("instance_id"))
        names = {one.instance_id: tx.instances.find(one.instance_id) for one in found}
    answer: dict[str, Any] = {"backup_schedules": [view(one, names[one.instance_id]) for one in found]}
    if more:
        answer["links"] = call.next_link(found[-1].id)
    return answer


@router.post(
    "/backup_schedules",
    status_code=201,
    response_model=shapes.ShownBackupSchedule,
    responses=faults(400, 404, 409, 415, 501),
)
def create_schedule(call: Asked, body: NewScheduleBody) -> dict[str, Any]:
    """Have an instance backed up by itself. Without a usable backup yet, the first is made at once.

    `full_every` n makes every n-th backup a full one and those between incremental (7, and 1 for datastores without
    incremental backups). A backup is kept while it is among the `keep_last` newest of its schedule or younger than
    `keep_days`; 7 are kept unless either is given, and all of them when both are null.
    """
    call.allow("backup_schedule:create")
    instance = call.instance(body.backup_schedule.instance_id)
    with call.write() as tx:
        instance = tx.instances.get(instance.id)
        schedule = add(call, tx, instance, body.backup_schedule)
        return {"backup_schedule": view(schedule, instance)}


@router.get(_ONE, response_model=shapes.ShownBackupSchedule, responses=faults(404))
def show_schedule(call: Asked, schedule_id: str) -> dict[str, Any]:
    """One of them: when it runs next, and what came of its last run."""
    call.allow("backup_schedule:show")
    with call.read() as tx:
        return {"backup_schedule": _view(tx, _find(tx, schedule_id))}


@router.patch(_ONE, response_model=shapes.ShownBackupSchedule, responses=faults(400, 404, 415))
def change_schedule(call: Asked, schedule_id: str, body: ScheduleChangesBody) -> dict[str, Any]:
    """Change what is named; `keep_last`, `keep_days` and `verify_every_days` end with null.

    With `enabled` false it makes no backups, and keeps what it has by its rules.
    """
    call.allow("backup_schedule:update")
    asked = body.backup_schedule
    with call.write() as tx:
        schedule = _find(tx, schedule_id)
        instance = tx.instances.get(schedule.instance_id)
        values = {name: getattr(asked, name) for name in asked.model_fields_set}
        for name in ("cron", "full_every", "enabled"):
            if name in values and values[name] is None:
                raise Invalid(f"Validation error: backup_schedule.{name}: it cannot be null.")
        check_numbers(values, has_increments=_has_increments(instance))
        if "cron" in values:
            values["cron"] = cron_of(values["cron"], instance.id)
        cron, enabled = values.get("cron", schedule.cron), values.get("enabled", schedule.enabled)
        if (cron, enabled) != (schedule.cron, schedule.enabled):
            values["next_run_at"] = next_run(cron, call.now) if enabled else None
        tx.backup_schedules.change(schedule.id, **values)
        _tell(call, tx, instance, "changed", tx.backup_schedules.get(schedule.id))
        return {"backup_schedule": _view(tx, tx.backup_schedules.get(schedule.id))}


@router.delete(_ONE, status_code=204, responses=faults(404))
def delete_schedule(call: Asked, schedule_id: str) -> None:
    """Make no more backups by it. Those it made stay until somebody deletes them."""
    call.allow("backup_schedule:delete")
    with call.write() as tx:
        schedule = _find(tx, schedule_id)
        tx.backup_schedules.forget(schedule.id)
        instance = tx.instances.find(schedule.instance_id)
        if instance is not None:
            _tell(call, tx, instance, "deleted", schedule)


def add(call: Call, tx: Transaction, instance: Instance, asked: Schedule) -> BackupSchedule:
    """Write a schedule down. Raises Invalid, naming the field; Unsupported; Conflict when it has too many already."""
    datastore = call.datastore_of(instance)
    if "backups" not in datastore.capabilities:
        raise Unsupported(f"{datastore.title} cannot be backed up.")
    has_increments = _has_increments(instance)
    check_numbers(asked.model_dump(exclude={"cron", "enabled"}), has_increments=has_increments)
    says_what_to_keep = bool({"keep_last", "keep_days"} & asked.model_fields_set)
    cron = cron_of(asked.cron, instance.id)
    if len(tx.backup_schedules.of_instance(instance.id)) >= PER_INSTANCE_MAX:
        raise Conflict(
            f"Instance {instance.id} has {PER_INSTANCE_MAX} backup schedules already, which is the most: change or "
            "delete one.",
            code="too-many-schedules",
        )
    has_some = any(one.is_usable for one in tx.backups.of_instance(instance.id))
    first = next_run(cron, call.now) if has_some else call.now
    schedule = BackupSchedule(
        id=str(uuid.uuid4()),
        project_id=instance.project_id,
        instance_id=instance.id,
        cron=cron,
        full_every=asked.full_every or (FULL_EVERY if has_increments else 1),
        keep_last=asked.keep_last if says_what_to_keep else KEEP_LAST,
        keep_days=asked.keep_days,
        verify_every_days=asked.verify_every_days,
        enabled=asked.enabled,
        next_run_at=first if asked.enabled else None,
        created_at=call.now,
        updated_at=call.now,
    )
    tx.backup_schedules.add(schedule)
    _tell(call, tx, instance, "created", schedule)
    return schedule


def view(schedule: BackupSchedule, instance: Instance | None) -> dict[str, Any]:
    shown = asdict(schedule)
    times = {
        name.removesuffix("_at"): None if shown[name] is None else views.date(shown.pop(name))
        for name in ("created_at", "updated_at", "next_run_at", "last_run_at")
    }
    kept = (
        "id", "project_id", "instance_id", "cron", "full_every", "keep_last", "keep_days",
        "verify_every_days", "enabled", "last_backup_id", "last_error", "attempts",
    )  # fmt: skip
    return {
        **{name: shown[name] for name in kept},
        "instance_name": None if instance is None else instance.name,
        "state": schedule.state,
        **times,
    }


def _view(tx: Transaction, schedule: BackupSchedule) -> dict[str, Any]:
    return view(schedule, tx.instances.find(schedule.instance_id))


def _find(tx: Transaction, schedule_id: str) -> BackupSchedule:
    if not _UUID.fullmatch(schedule_id):
        raise ScheduleNotFound(schedule_id=schedule_id[:64])
    return tx.backup_schedules.get(schedule_id.lower())


def _has_increments(instance: Instance) -> bool:
    datastore, _ = catalog.version(instance.datastore, instance.version)
    return "incremental_backups" in datastore.capabilities


def _tell(call: Call, tx: Transaction, instance: Instance, word: str, schedule: BackupSchedule) -> None:
    kept = [f"{schedule.keep_last} of them"] if schedule.keep_last else []
    kept += [f"each for {schedule.keep_days} days"] if schedule.keep_days else []
    message = f"Backups at '{schedule.cron}' UTC, " + (
        f"kept: {' and '.join(kept)}" if kept else "kept until deleted"
    )
    tx.events.add(instance.project_id, instance.id, f"backup_schedule.{word}", message, call.caller.user_name)
