"""Make an instance's server anew around the data that is there."""

from __future__ import annotations

from collections.abc import Iterator

from argosy.domain.operations import RebuildInstance
from argosy.taskmanager.steps import guest, images, instances, servers
from argosy.taskmanager.workflow import workflow


@workflow(
    RebuildInstance,
    "getting the software",
    "stopping the database server",
    "making the server anew",
    "starting the database server",
)
def rebuild_instance(asked: RebuildInstance) -> Iterator[None]:
    """Other certificates, another agent, another server process; data, users and settings stay.

    If the database server does not come up, the fault says why and its guest goes on trying.
    """
    yield
    address = instances.server_of(asked.instance_id)
    images.wait_until_ready(asked.operation_id, *instances.version_of(asked.instance_id))
    yield
    guest.stop_cleanly(asked, address)
    yield
    servers.remake(asked.instance_id, address)
    servers.note_limits(asked.instance_id)
    yield
    guest.restart(asked, address)
