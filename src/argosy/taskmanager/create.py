"""Make an instance: address, server, volume, database server, its first databases and users."""

from __future__ import annotations

from collections.abc import Iterator

from argosy.domain.operations import CreateInstance
from argosy.taskmanager.steps import configurations, guest, images, servers, volumes
from argosy.taskmanager.workflow import workflow


@workflow(
    CreateInstance,
    "getting the software",
    "booting the server",
    "attaching the volume",
    "preparing the database server",
)
def create_instance(asked: CreateInstance) -> Iterator[None]:
    """From nothing to a database server that answers queries.

    If it fails half way, what was made stays for an operator to look at, the instance shows ERROR with the
    reason, and deleting it takes everything away.
    """
    yield
    images.wait_until_ready(asked.operation_id, asked.datastore, asked.version)
    yield
    address = servers.reserve(asked.instance_id)
    servers.boot(asked.instance_id, address)
    yield
    # The server boots meanwhile.
    volumes.create(asked.instance_id)
    servers.note_limits(asked.instance_id)
    yield
    wanted = configurations.wanted(asked.instance_id) if asked.configuration_id else None
    guest.prepare(asked, address, wanted)
    if wanted is not None:
        configurations.applied(asked.instance_id, wanted)
    guest.note_guard(asked.instance_id, address)
