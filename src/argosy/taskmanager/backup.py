"""Back an instance up while it serves; take backups away."""

from __future__ import annotations

from collections.abc import Iterator

from argosy.domain.errors import Invalid
from argosy.domain.operations import CreateBackup, DeleteBackups
from argosy.taskmanager.steps import backups, guest, instances
from argosy.taskmanager.workflow import workflow


@workflow(CreateBackup, "making the archive's key", "backing up", "writing the backup down")
def create_backup(asked: CreateBackup) -> Iterator[None]:
    """The guest writes the archive to the store itself, by URLs that are good for this backup alone.

    A parent that cannot be built on any more makes it a full one, unless the parent was named. If it fails, what lies
    in the store is swept away, and the instance is as it was.
    """
    yield
    backups.begin(asked)
    yield
    address = instances.server_of(asked.instance_id)
    try:
        told = guest.back_up(asked, address, parent=asked.parent_id)
    except Invalid as refusal:
        if refusal.code != "parent-unusable" or asked.parent_named:
            raise
        backups.make_full(asked.backup_id)
        told = guest.back_up(asked, address, parent=None)
    yield
    backups.complete(asked.backup_id, told)


@workflow(DeleteBackups, "deleting")
def delete_backups(asked: DeleteBackups) -> Iterator[None]:
    """Children before their parents, so that what is left can always be restored."""
    yield
    for backup_id in asked.backup_ids:
        backups.remove(backup_id)
