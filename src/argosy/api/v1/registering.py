"""Taking over a backup that lies in the store and that this installation's metadata database does not know."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StrictFloat, StrictInt

from argosy import catalog
from argosy.api.call import Call
from argosy.api.v1.bodies import Body, Name
from argosy.domain.backup import Backup, BackupStatus
from argosy.domain.errors import BackupUnusable, Conflict, Invalid, NotFound
from argosy.metadata.store import Transaction
from argosy.storage import keys, labels
from argosy.storage.archive import MANIFEST, Manifest
from argosy.storage.backups import BackupStore
from argosy.storage.base import ContainerNotFound, ObjectNotFound
from argosy.storage.labels import Label

_FIELD = "Validation error: backup.restore_from"
_KEY = "key.json"
_MANIFEST_MAX = 64 * 2**20  # bytes: that of a backup of 4 TB
_REST_MAX = 2**20  # bytes


class RestoreFrom(Body):
    """A backup made elsewhere: where its archive is, as its `locationRef` says it.

    The label beside the archive tells of which version it is, and the manifest its size: what clients say of them is
    compared, or left aside.
    """

    remote_location: Name
    local_datastore_version_id: Name | None = None
    size: Annotated[StrictInt | StrictFloat, Field(ge=0, allow_inf_nan=False)] | None = None


def register(call: Call, name: str, description: str | None, asked: RestoreFrom) -> Backup:
    """Read what lies there, and write it down as a backup of this project. Raises Invalid, Conflict."""
    store = call.parts.backups
    try:
        container, prefix = store.locate(asked.remote_location)
    except Invalid as error:
        raise Invalid(f"{_FIELD}.remote_location: {error.sentence}") from error
    try:
        wrapped = keys.wrapped_in(_content(store, container, prefix + _KEY))
        key = call.parts.keys.unwrap(wrapped)
        label = Label.opened(_content(store, container, prefix + labels.NAME), key)
        if label.prefix != prefix or not (call.caller.is_admin or label.project_id == call.project_id):
            raise ObjectNotFound(name=prefix)  # noqa: TRY301 - what is another's is as if it were not there
        manifest = Manifest.opened(
            _content(store, container, prefix + MANIFEST, _MANIFEST_MAX), label.id, key
        )
    except (ObjectNotFound, ContainerNotFound) as error:
        raise Invalid(
            f"{_FIELD}.remote_location: there is no whole backup of this project at {asked.remote_location}."
        ) from error
    except BackupUnusable as error:
        raise Invalid(f"{_FIELD}.remote_location: {error.sentence}") from error
    _check_version(label, asked.local_datastore_version_id)
    backup = Backup(
        id=label.id,
        project_id=call.project_id,
        name=name,
        description=description,
        instance_id=label.instance_id,
        instance_name=label.instance_name,
        datastore=label.datastore,
        version=label.version,
        status=BackupStatus.RESTORED,
        store=store.kind,
        container=container,
        prefix=prefix,
        wrapped_key=wrapped,
        parent_id=label.parent_id,
        size_bytes=manifest.size_bytes,
        data_bytes=manifest.data_bytes,
        volume_gb=label.volume_gb,
        facts=manifest.facts,
        service=label.service,
        created_at=call.now,
        updated_at=call.now,
        completed_at=call.now,
        elsewhere=True,
    )
    with call.parts.store.write(call.project_id) as tx:
        _add(tx, backup)
    return backup


def _add(tx: Transaction, backup: Backup) -> None:
    tx.quotas.take(backup.project_id, backups=1)
    if tx.backups.is_known(backup.id):
        raise Conflict(f"Backup {backup.id} is known here already.", code="backup-known")
    if backup.parent_id is not None and tx.backups.find(backup.parent_id) is None:
        raise Invalid(
            f"{_FIELD}.remote_location: this backup builds on {backup.parent_id}, which is not known here: register that "
            "one first.",
            code="parent-unknown",
        )
    tx.backups.add(backup)
    tx.events.add(backup.project_id, backup.instance_id, "backup.registered", f"Backup {backup.name}", "api")


def _content(store: BackupStore, container: str, name: str, at_most: int = _REST_MAX) -> bytes:
    """Raises ObjectNotFound, ContainerNotFound, BackupUnusable for what is larger than it could be."""
    for held in store.objects(container, name):
        if held.name == name and held.size > at_most:
            raise BackupUnusable(f"{name.rpartition('/')[2]} is larger than {at_most} bytes.")
    return store.get(container, name)


def _check_version(label: Label, version_id: str | None) -> None:
    """Raises Invalid unless that version is here, and is the one that is named."""
    try:
        version = catalog.version(label.datastore, label.version)[1]
    except (KeyError, NotFound) as error:
        raise Invalid(
            f"{_FIELD}.remote_location: this backup is of {label.datastore} {label.version}, which is not offered here."
        ) from error
    if version_id is not None and version_id not in {version.id, version.name}:
        raise Invalid(
            f"{_FIELD}.local_datastore_version_id: this backup is of {label.datastore} {label.version}, whose id is "
            f"{version.id}."
        )
