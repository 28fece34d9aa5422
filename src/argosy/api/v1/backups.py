"""/backups: of instances that are there and of those that are gone."""

from __future__ import annotations

import re
import uuid
from dataclasses import replace
from typing import Annotated, Any

from pydantic import Field, StrictInt, StrictStr

from argosy import catalog
from argosy.api.call import Asked, Call, check_instance_id
from argosy.api.route import faults, resource
from argosy.api.v1 import shapes, views
from argosy.api.v1.bodies import Body, Name, Reference
from argosy.api.v1.datastores import find_datastore
from argosy.api.v1.registering import RestoreFrom, register
from argosy.domain.backup import Backup, BackupStatus, descendants_of, newest_parent
from argosy.domain.datastore import Datastore
from argosy.domain.errors import ArgosyError, BackupHasChildren, BackupNotFound, Busy, Invalid, Unsupported
from argosy.domain.instance import Instance, check_name
from argosy.domain.operations import CreateBackup, DeleteBackups
from argosy.metadata.store import Transaction
from argosy.storage.base import check_container_name

router = resource("backups")

_ONE = "/backups/{backup_id}"
_UNCAPPED = 1000  # Trove has no bound here
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
# What a shell would not take literally, which Trove refuses.
_UNSAFE = re.compile(r"[\s;&|<>`$(){}\[\]*?!#~'\"\\]")


class NewBackup(Body):
    name: StrictStr
    instance: Reference | None = None
    description: Name | None = None
    parent_id: Reference | None = None
    incremental: Annotated[StrictInt, Field(ge=0, le=1)] = 0
    swift_container: Name | None = None
    storage_driver: Name | None = None
    restore_from: RestoreFrom | None = None


class NewBackupBody(Body):
    backup: NewBackup


@router.get(
    "/backups", response_model=shapes.Backups, responses=faults(400, 404), openapi_extra=shapes.PAGED_BACKUPS
)
def list_backups(call: Asked) -> dict[str, Any]:
    """The project's backups, changed last first; `all_projects` and `project_id` are for administrators."""
    call.allow("backup:index")
    project_id: str | None = call.project_id
    if call.asks_whether("all_projects") or call.asks("project_id"):
        call.allow("backup:index:all_projects")
        project_id = call.asks("project_id")
    named = call.asks("datastore")
    datastore = None if named is None else find_datastore(named).name
    return _page(call, project_id, instance_id=call.asks("instance_id"), datastore=datastore)


@router.get(
    "/instances/{instance_id}/backups",
    response_model=shapes.Backups,
    responses=faults(400, 404),
    openapi_extra=shapes.PAGED,
)
def list_backups_of_instance(call: Asked, instance_id: str) -> dict[str, Any]:
    """Those of an instance, also of one that was deleted."""
    call.allow("instance:backups")
    check_instance_id(instance_id)
    with call.read() as tx:
        instance = tx.instances.get_or_deleted(instance_id)
    return _page(call, instance.project_id, instance_id=instance.id)


@router.get(_ONE, response_model=shapes.ShownBackup, responses=faults(404))
def show_backup(call: Asked, backup_id: str) -> dict[str, Any]:
    """A backup, and what is known of its worth."""
    call.allow("backup:show")
    with call.read() as tx:
        return {"backup": view(call, find(tx, backup_id))}


@router.post(
    "/backups",
    status_code=202,
    response_model=shapes.ShownBackup,
    responses=faults(400, 404, 409, 413, 415, 422, 501, 503),
)
def create_backup(call: Asked, body: NewBackupBody) -> dict[str, Any]:
    """Begin to back an instance up, which serves meanwhile.

    With `parent_id`, or with `incremental` 1 on the newest backup there is, it holds what has changed since then.
    With `restore_from` none is made: a backup that lies in the store already, made by another Argosy with the same keys,
    is known here from then on (`RESTORED`).
    """
    call.allow("backup:create")
    asked = body.backup
    check_name(asked.name, "backup.name")
    if asked.restore_from is not None:
        return {"backup": view(call, register(call, asked.name, asked.description, asked.restore_from))}
    if asked.storage_driver not in {None, "swift", call.parts.backups.kind}:
        raise Unsupported(
            f"backup.storage_driver: backups are kept in {call.parts.backups.kind} here, {asked.storage_driver} is not "
            "supported."
        )
    if asked.instance is None:
        raise Invalid("Validation error: backup.instance: the instance must be given.")
    instance = call.instance(asked.instance)
    datastore = call.datastore_of(instance)
    container = _container(call, instance, asked.swift_container)
    call.parts.backups.check(container)
    with call.write() as tx:
        instance = tx.instances.get(instance.id)
        backup = begin(
            tx,
            instance,
            datastore,
            Backup(
                id=str(uuid.uuid4()),
                project_id=instance.project_id,
                name=asked.name,
                description=asked.description,
                instance_id=instance.id,
                instance_name=instance.name,
                datastore=instance.datastore,
                version=instance.version,
                status=BackupStatus.NEW,
                store=call.parts.backups.kind,
                container=container,
                prefix="",
                volume_gb=instance.volume_gb,
                created_at=call.now,
                updated_at=call.now,
                parent_id=asked.parent_id,
            ),
            incremental=bool(asked.incremental) or asked.parent_id is not None,
            call=call,
        )
        return {"backup": view(call, backup)}


@router.delete(_ONE, status_code=202, responses=faults(404, 409, 422), openapi_extra=shapes.CASCADE)
def delete_backup(call: Asked, backup_id: str) -> None:
    """Begin to delete a backup; one that others build on is refused, unless `cascade` is true and all of them go."""
    call.allow("backup:delete")
    cascade = call.asks_whether("cascade") is True
    with call.write() as tx:
        backup = find(tx, backup_id)
        children = descendants_of(backup.id, tx.backups.of_instance(backup.instance_id))
        if children and not cascade:
            raise BackupHasChildren(backup_id=backup.id, children=len(children))
        going = [*children, backup]
        for one in going:
            one.check_can_delete()
            if not one.elsewhere:
                one.check_is_in(call.parts.backups.kind)
            if tx.grants.is_read(one.container, one.prefix):
                raise Busy(f"Backup {one.id} is being restored: wait until that ends.", code="backup-busy")
        request = DeleteBackups(operation_id=str(uuid.uuid4()), backup_ids=tuple(one.id for one in going))
        if not tx.backups.claim(request.backup_ids, request.operation_id, request.kind):
            raise Busy(f"Backup {backup.id} is being changed: try again.", code="backup-busy")
        tx.operations.begin_alone(backup.project_id, request, requested_by=call.caller.user_name)


def find(tx: Transaction, backup_id: str) -> Backup:
    """Raises BackupNotFound, also for what is no id."""
    if not _UUID.fullmatch(backup_id):
        raise BackupNotFound(backup_id=backup_id[:64])
    return tx.backups.get(backup_id.lower())


def begin(
    tx: Transaction, instance: Instance, datastore: Datastore, asked: Backup, *, incremental: bool, call: Call
) -> Backup:
    """Write a backup down and begin to make it. Raises what stands in the way."""
    if "backups" not in datastore.capabilities:
        raise Unsupported(f"{datastore.title} cannot be backed up.")
    if incremental and "incremental_backups" not in datastore.capabilities:
        raise Unsupported(
            f"{datastore.title} has no incremental backups: every backup holds everything. Make a full one.",
            code="no-incremental-backups",
        )
    instance.check_can_restart(call.now)
    instance.check_serves(call.now)
    parent = _parent(tx, instance, asked.parent_id, call.parts.backups.kind) if incremental else None
    tx.quotas.take(instance.project_id, backups=1)
    request = CreateBackup(
        operation_id=str(uuid.uuid4()),
        instance_id=instance.id,
        backup_id=asked.id,
        parent_id=None if parent is None else parent.id,
        parent_named=asked.parent_id is not None,
    )
    backup = replace(
        asked,
        parent_id=request.parent_id,
        prefix=f"{instance.id}/{asked.id}/",
        operation_id=request.operation_id,
        operation_kind=request.kind,
    )
    tx.backups.add(backup)
    tx.operations.begin(instance, request, requested_by=call.caller.user_name)
    return backup


def view(call: Call, backup: Backup) -> dict[str, Any]:
    """As the contract has it (2.12), and in `argosy` what it has no word for."""
    return {
        "id": backup.id,
        "name": backup.name,
        "description": backup.description,
        "instance_id": backup.instance_id,
        "project_id": backup.project_id,
        "parent_id": backup.parent_id,
        "status": backup.shown.value,
        "size": None if backup.size_bytes is None else _gb(backup.size_bytes),
        "locationRef": _location(call, backup) if backup.is_usable else None,
        "created": views.date(backup.created_at),
        "updated": views.date(backup.updated_at),
        "datastore": {
            "type": backup.datastore,
            "version": backup.version,
            "version_id": _version_id(backup),
        },
        "argosy": {
            "instance_name": backup.instance_name,
            "kind": "full" if backup.parent_id is None else "incremental",
            "data_size": None if backup.data_bytes is None else _gb(backup.data_bytes),
            "consistent_at": _text(backup.facts.get("consistent_at")),
            "completed": None if backup.completed_at is None else views.date(backup.completed_at),
            "error": backup.error,
            "schedule_id": backup.schedule_id,
            "last_verified": None if backup.verified_at is None else views.date(backup.verified_at),
            "verified": backup.verified,
            "verification": dict(backup.verification),
            "restore_seconds": backup.restore_s,
        },
    }


def _location(call: Call, backup: Backup) -> str | None:
    """None of one in another store, and while nobody can say where an account of Swift is."""
    store = call.parts.backups
    if backup.store != store.kind:
        return None
    try:
        return store.location(backup.container, backup.prefix)
    except ArgosyError:
        return None


def _page(
    call: Call, project_id: str | None, *, instance_id: str | None = None, datastore: str | None = None
) -> dict[str, Any]:
    limit, skip = call.limit(at_most=_UNCAPPED), call.offset()
    with call.parts.store.read(project_id) as tx:
        found, more = tx.backups.latest(limit, skip=skip, instance_id=instance_id, datastore=datastore)
    answer: dict[str, Any] = {"backups": [view(call, backup) for backup in found]}
    if more:
        answer["links"] = call.next_link(str(skip + limit))
    return answer


def _parent(tx: Transaction, instance: Instance, parent_id: str | None, store: str) -> Backup | None:
    """The one that was named, or the newest; None when there is none to build on in this kind of store."""
    if parent_id is None:
        mine = [one for one in tx.backups.of_instance(instance.id) if one.store == store]
        return newest_parent(mine, instance.version)
    parent = find(tx, parent_id)
    if parent.instance_id != instance.id:
        raise Invalid(
            "Validation error: backup.parent_id: it is of another instance, which an increment cannot be built on."
        )
    parent.check_usable()
    parent.check_is_in(store)
    parent.check_restores_to(instance.datastore, instance.version)
    return parent


def check_container(name: str, what: str) -> str:
    """Raises Invalid for what is no container's name, or what a shell would not take literally."""
    check_container_name(name)
    if _UNSAFE.search(name):
        raise Invalid(
            f"Validation error: {what}: it must not hold spaces or characters that a shell takes for its own."
        )
    return name


def _container(call: Call, instance: Instance, named: str | None) -> str:
    """The one that is named, else the instance's strategy's, the project's, the one of this installation."""
    if named is not None:
        return check_container(named, "backup.swift_container")
    with call.read() as tx:
        strategy = tx.backup_strategies.container(instance.project_id, instance.id)
    return strategy or call.parts.backup_container


def _version_id(backup: Backup) -> str:
    try:
        return catalog.version(backup.datastore, backup.version)[1].id
    except KeyError:
        # A version that is not offered any more.
        return backup.version


def _gb(size: int) -> float:
    """Small ones are not nothing: two digits at least."""
    gb = size / 2**30
    return round(gb, 2) if gb >= 1 else float(f"{gb:.2g}")


def _text(fact: Any) -> str | None:
    """Facts are told by guests."""
    return fact if isinstance(fact, str) else None
