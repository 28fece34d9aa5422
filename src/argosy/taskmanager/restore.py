"""Put an instance back to what it was, in place."""

from __future__ import annotations

from collections.abc import Iterator

from argosy.domain.operations import RestoreInstance
from argosy.taskmanager.steps import backups, guest, instances, log_archives
from argosy.taskmanager.workflow import workflow


@workflow(RestoreInstance, "finding the backup", "restoring", "writing it down")
def restore_instance(asked: RestoreInstance) -> Iterator[None]:
    """The guest makes the restored data beside what it has, proves it, and only then exchanges the two.

    Whatever fails, the instance goes on with the data it has. The archive of its log ends with the history it had;
    where the log is to be archived, another one is begun soon after (`log_keeping`), and a schedule makes its next backup
    then, from which on there are moments to restore to again.
    """
    yield
    address = instances.server_of(asked.instance_id)
    backups.let_read(asked.operation_id, asked.instance_id, asked.recovery)
    log_archives.let_read(asked.operation_id, asked.instance_id, asked.recovery)
    yield
    told = guest.restore(asked, address)
    yield
    log_archives.end(asked.instance_id, "The instance was restored in place.")
    backups.note_restored(asked.instance_id, asked.recovery, told)
    backups.make_next_soon(asked.instance_id)
