"""Make an instance: address, server, volume, database server, its first databases and users."""

from __future__ import annotations

from collections.abc import Iterator

from argosy.domain.operations import CreateInstance, UpgradeInstance
from argosy.taskmanager import upgrade
from argosy.taskmanager.steps import backups, configurations, guest, images, log_archives, servers, volumes
from argosy.taskmanager.workflow import workflow


@workflow(
    CreateInstance,
    "getting the software",
    "booting the server",
    "attaching the volume",
    "preparing the database server",
)
def create_instance(asked: CreateInstance) -> Iterator[None]:
    """From nothing, or from a backup, to a database server that answers queries.

    If it fails half way, what was made stays for an operator to look at, the instance shows ERROR with the
    reason, and deleting it takes everything away.
    """
    yield
    images.wait_until_ready(asked.operation_id, asked.datastore, asked.version)
    yield
    address = servers.reserve(asked.instance_id)
    volumes.make_for_machine(asked.instance_id)
    servers.boot(asked.instance_id, address)
    servers.wait_until_settled(asked.instance_id)
    yield
    # The server boots meanwhile.
    volumes.create(asked.instance_id)
    servers.note_limits(asked.instance_id)
    yield
    wanted = configurations.wanted(asked.instance_id) if asked.configuration_id else None
    if asked.recovery is None:
        guest.prepare(asked, address, wanted)
    else:
        backups.let_read(asked.operation_id, asked.instance_id, asked.recovery)
        log_archives.let_read(asked.operation_id, asked.instance_id, asked.recovery)
        told = guest.restore(asked, address, wanted)
        backups.note_restored(asked.instance_id, asked.recovery, told)
    if wanted is not None:
        configurations.applied(asked.instance_id, wanted)
    guest.note_guard(asked.instance_id, address)
    if asked.upgrade_to is not None:
        # Its data is of an older version; what its server says of that is part of this stage.
        for _ in upgrade.move(
            UpgradeInstance(asked.operation_id, asked.instance_id, asked.datastore, asked.upgrade_to)
        ):
            pass
