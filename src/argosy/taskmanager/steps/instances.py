"""An instance's row."""

from __future__ import annotations

from dbos import DBOS

from argosy.domain.errors import Failed
from argosy.taskmanager.parts import parts


@DBOS.step(name="instances.address_of")
def address_of(instance_id: str) -> str | None:
    with parts().store.read() as tx:
        return tx.instances.get(instance_id).address


def server_of(instance_id: str) -> str:
    """The address of the instance's server. Raises Failed when it has none."""
    address = address_of(instance_id)
    if address is None:
        raise Failed("The instance has no server: delete it and make it anew.")
    return address


@DBOS.step(name="instances.bury")
def bury(operation_id: str) -> None:
    """Nothing of the instance is left: it is gone for its owner too."""
    with parts().store.write() as tx:
        tx.operations.bury(operation_id)
