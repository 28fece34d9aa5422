"""Prove a backup: restore it into a server of its own, have its data checked, and throw the server away."""

from __future__ import annotations

import json
from collections.abc import Iterator

from argosy.domain.backup import Recovery
from argosy.domain.errors import BackupUnusable
from argosy.domain.operations import VerifyBackup
from argosy.taskmanager.steps import backups, guest, images, servers, verification, volumes
from argosy.taskmanager.workflow import explain, workflow


@workflow(
    VerifyBackup,
    "getting the software",
    "making a server to throw away",
    "restoring",
    "checking the data",
    "throwing the server away",
)
def verify_backup(asked: VerifyBackup) -> Iterator[None]:
    """The backup's own instance is not touched, nor need it be there.

    What was found is written on the backup, whatever it is. The operation fails when the backup is no good, or could not be
    tried. Its server goes in either case; when the task manager dies in the middle, the next one takes the work up.
    """
    stand_in = verification.stand_in_of(asked)
    yield
    try:
        restore, wanted = verification.begin(asked)
        images.wait_until_ready(asked.operation_id, restore.datastore, restore.version)
        yield
        address = servers.reserve(stand_in)
        volumes.make_for_machine(stand_in)
        servers.boot(stand_in, address)
        servers.wait_until_settled(stand_in)
        volumes.create(stand_in)
        yield
        began = verification.clock()
        backups.let_read(asked.operation_id, stand_in, Recovery(asked.backup_id))
        guest.restore(restore, address, wanted)
        restored = verification.clock()
        yield
        wrong: list[str] = json.loads(guest.check(restore, address, asked.backup_id))
        checked = verification.clock()
    except Exception as error:
        # As at the edge: whatever it was, it is written down, and nothing of it stays.
        reason, _ = explain(error)
        verification.note_failure(asked, reason)
        _throw_away(stand_in)
        raise
    yield
    _throw_away(stand_in)
    verification.note(asked, wrong, restored - began, checked - restored)
    if wrong:
        raise BackupUnusable(f"Backup {asked.backup_id} is no good: {' '.join(wrong)}")


def _throw_away(instance_id: str) -> None:
    servers.delete(instance_id)
    volumes.delete(instance_id)
    verification.forget(instance_id)
