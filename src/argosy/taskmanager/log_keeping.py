"""On a schedule: logs are archived where they are wanted, and archived log that no backup needs is taken away."""

from __future__ import annotations

import uuid
from contextlib import suppress
from datetime import UTC, datetime, timedelta

import structlog

from argosy import catalog
from argosy.domain.errors import ArgosyError, InstanceBusy
from argosy.domain.instance import Instance
from argosy.domain.log_archive import (
    KEPT_WITHOUT_BACKUP,
    LogArchive,
    Segment,
    is_of_no_use,
    kept_from,
    needs_none,
)
from argosy.domain.operations import ArchiveLogs
from argosy.metadata.store import Store
from argosy.storage.backups import BackupStore

log = structlog.get_logger()

AGAIN_AFTER = timedelta(minutes=5)
# Of one archive at a time: the next sweep goes on.
AT_ONCE = 500


def begin_where_wanted(store: Store) -> None:
    """Also where an archive has ended by itself, with the history of a log: after a restore in place, an upgrade.

    Instances that are busy or down get theirs later, and one on which anything has just failed is given a while.
    """
    now = datetime.now(UTC)
    able = [one.name for one in catalog.datastores().values() if "point_in_time" in one.capabilities]
    with store.read() as tx:
        switches = tx.log_archives.to_switch(able)
        instances = [tx.instances.find(one) for one in switches]
    for instance in instances:
        if instance is not None and _can_switch(instance, now):
            request = ArchiveLogs(
                operation_id=str(uuid.uuid4()), instance_id=instance.id, on=switches[instance.id]
            )
            with suppress(InstanceBusy), store.write() as tx:
                tx.operations.begin(instance, request, requested_by="taskmanager")


def take_away_what_nobody_needs(store: Store, backups: BackupStore) -> None:
    """Segments before the oldest backup, and archives that have ended, once their backups are gone."""
    with store.read() as tx:
        archives = tx.log_archives.all()
    _tidy_all(store, backups, archives)


def take_away_of(store: Store, backups: BackupStore, instance_id: str) -> None:
    """What nobody needs of one instance that has just gone, or a backup of it; what cannot be done now the sweep does."""
    with store.read() as tx:
        archives = tx.log_archives.of_instance(instance_id)
    _tidy_all(store, backups, archives)


def _tidy_all(store: Store, backups: BackupStore, archives: list[LogArchive]) -> None:
    now = datetime.now(UTC)
    for archive in archives:
        if archive.store != backups.kind:
            _leave(store, archive)
            continue
        try:
            _tidy(store, backups, archive, now)
        except ArgosyError as error:
            log.warning("archived log stays", archive_id=archive.id, error=error.sentence)


def _can_switch(instance: Instance, now: datetime) -> bool:
    if instance.operation_id is not None or instance.broken or instance.address is None:
        return False
    if instance.fault is not None and now - instance.fault.created_at < AGAIN_AFTER:
        return False
    try:
        instance.check_serves(now)
    except InstanceBusy:
        return False
    return True


def _leave(store: Store, archive: LogArchive) -> None:
    """One in a store that is not in use any more ends, so that another begins in the one that is."""
    if archive.ended_at is None:
        with store.write() as tx:
            tx.log_archives.end(archive.id, "Logs are archived in another store now.")
            tx.grants.take(archive.instance_id, archive.prefix)


def _tidy(store: Store, objects: BackupStore, archive: LogArchive, now: datetime) -> None:
    with store.read() as tx:
        backups = tx.backups.of_instance(archive.instance_id)
        old = kept_from(archive, backups)
        deleted = tx.instances.find(archive.instance_id) is None
        if is_of_no_use(archive, backups, now, of_deleted=deleted):
            segments = None
        elif old is not None:
            segments = tx.log_archives.superfluous(archive.id, old, AT_ONCE)
        elif needs_none(archive, backups):
            segments = tx.log_archives.older(archive.id, now - KEPT_WITHOUT_BACKUP, AT_ONCE)
        else:
            segments = []
    if segments is None:
        objects.delete(archive.container, archive.prefix)
        with store.write() as tx:
            tx.log_archives.forget(archive.id)
        return
    _drop(store, objects, archive, segments)


def _drop(store: Store, objects: BackupStore, archive: LogArchive, segments: list[Segment]) -> None:
    for segment in segments:
        objects.delete(archive.container, f"{archive.prefix}{segment.name}/")
    if segments:
        with store.write() as tx:
            tx.log_archives.drop(archive.id, segments)
