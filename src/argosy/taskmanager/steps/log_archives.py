"""Archives of logs: their rows, their keys, who may write to them, and what a restore reads of them."""

from __future__ import annotations

from datetime import UTC, datetime

from argosy import catalog
from argosy.domain.backup import Recovery
from argosy.domain.errors import BackupUnusable
from argosy.domain.instance import Instance
from argosy.domain.log_archive import LogArchive, Positions, needed
from argosy.domain.operations import ArchiveLogs
from argosy.domain.upgrades import is_release
from argosy.metadata.store import Transaction
from argosy.rpc import messages
from argosy.storage import keys
from argosy.taskmanager.parts import parts
from argosy.taskmanager.steps.again import step

KEY = "key.json"


@step(name="log_archives.begin")
def begin(asked: ArchiveLogs) -> str:
    """Make an archive with a key of its own, unless one goes on, and let the guest write to it; returns its id.

    The right to write stays until the archive ends.
    """
    own = parts()
    with own.store.write() as tx:
        archive = tx.log_archives.open_of(asked.instance_id)
        if archive is None:
            instance = tx.instances.get(asked.instance_id)
            archive = LogArchive(
                id=asked.operation_id,
                project_id=instance.project_id,
                instance_id=instance.id,
                datastore=instance.datastore,
                version=instance.version,
                store=own.backups.kind,
                container=tx.backup_strategies.container(instance.project_id, instance.id)
                or own.backup_container,
                prefix=f"{instance.id}/log-{asked.operation_id}/",
                wrapped_key=own.keys.new()[1],
                began_at=datetime.now(UTC),
            )
            tx.log_archives.add(archive)
        tx.grants.give(archive.instance_id, archive.container, archive.prefix, "PUT", None)
    own.backups.check(archive.container)
    own.backups.put(archive.container, archive.prefix + KEY, keys.document(archive.wrapped_key))
    return archive.id


@step(name="log_archives.end")
def end(instance_id: str, because: str) -> None:
    """The archive of its log, if one goes on, ends here, and its guest may write to it no more."""
    with parts().store.write() as tx:
        _end(tx, instance_id, because)


def change_version(tx: Transaction, instance: Instance, datastore: str, version: str) -> None:
    """Another version begins another log: the guest archives no more to the archive there is, unless both are the same."""
    current = catalog.version(instance.datastore, instance.version)
    if not is_release(current, catalog.version(datastore, version)):
        _end(tx, instance.id, f"The instance was moved to {datastore} {version}.")


def leave(tx: Transaction, instance_id: str) -> None:
    """The instance goes. Its archive stays with its backups; what was wanted of it is forgotten."""
    _end(tx, instance_id, "The instance was deleted.")
    tx.log_archives.choose(instance_id, wanted=None)


@step(name="log_archives.let_read")
def let_read(operation_id: str, instance_id: str, recovery: Recovery) -> None:
    """Let an instance's guest read the log that its restore needs, for as long as the operation goes on."""
    if recovery.archive_id is not None:
        with parts().store.write() as tx:
            archive = tx.log_archives.find(recovery.archive_id)
            if archive is None:
                raise BackupUnusable(f"The archived log {recovery.archive_id} is not there any more.")
            if archive.store != parts().backups.kind:
                raise BackupUnusable(
                    f"The archived log {archive.id} is in the store {archive.store}, which is not in use now."
                )
            tx.grants.give(instance_id, archive.container, archive.prefix, "GET", operation_id)


def archive(archive_id: str) -> messages.Archive:
    """For use within a step: it holds the key. Raises BackupUnusable when it is gone."""
    with parts().store.read() as tx:
        return _message(tx.log_archives.find(archive_id), archive_id)


def stretch(recovery: Recovery) -> messages.LogStretch | None:
    """For use within a step: the log to replay for a restore, None when it needs none. Raises BackupUnusable."""
    if recovery.archive_id is None:
        return None
    with parts().store.read() as tx:
        found = tx.log_archives.find(recovery.archive_id)
        backup = tx.backups.get(recovery.backup_id)
        log_from = int(backup.facts.get("log_from", 0))
        segments = tx.log_archives.segments(recovery.archive_id, log_from)
    wanted = needed(segments, log_from, recovery, _positions(backup.datastore))
    return messages.LogStretch(
        archive=_message(found, recovery.archive_id),
        segments=tuple(
            messages.LogSegment(**{**vars(segment), "facts": dict(segment.facts)}) for segment in wanted
        ),
        to_time=recovery.to_time,
        to_position=recovery.to_position,
    )


def _end(tx: Transaction, instance_id: str, because: str) -> None:
    archive = tx.log_archives.open_of(instance_id)
    if archive is not None:
        tx.log_archives.end(archive.id, because)
        tx.grants.take(instance_id, archive.prefix)


def _message(archive: LogArchive | None, archive_id: str) -> messages.Archive:
    if archive is None:
        raise BackupUnusable(f"The archived log {archive_id} is not there any more.")
    key = parts().keys.unwrap(archive.wrapped_key)
    return messages.Archive(id=archive.id, container=archive.container, prefix=archive.prefix, key=key.hex())


def _positions(datastore: str) -> Positions | None:
    found = catalog.datastores().get(datastore)
    return None if found is None else found.log_positions
