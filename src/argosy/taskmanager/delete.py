"""Delete an instance and everything it ever held."""

from __future__ import annotations

from collections.abc import Iterator

from argosy.domain.operations import DeleteInstance
from argosy.taskmanager.steps import guest, instances, servers, volumes
from argosy.taskmanager.workflow import workflow


@workflow(DeleteInstance, "stopping the database server", "removing the server", "removing the volume")
def delete_instance(asked: DeleteInstance) -> Iterator[None]:
    """Stop it cleanly if it can be, then take server, volume and address away.

    If it fails half way the instance shows ERROR with the reason; deleting it again takes up the rest.
    """
    yield
    address = instances.address_of(asked.instance_id)
    if address is not None:
        guest.stop_cleanly(asked, address)
    yield
    servers.delete(asked.instance_id)
    yield
    volumes.delete(asked.instance_id)
    instances.bury(asked.operation_id)
