"""An instance's volume."""

from __future__ import annotations

from dbos import DBOS

from argosy.taskmanager.parts import parts


@DBOS.step(name="volumes.create")
def create(instance_id: str) -> None:
    """A volume of the instance's size, under its server."""
    with parts().store.read() as tx:
        size_gb = tx.instances.get(instance_id).volume_gb
    volumes = parts().platform.volumes
    volumes.create(instance_id, size_gb)
    volumes.attach(instance_id)


@DBOS.step(name="volumes.grow")
def grow(instance_id: str, size_gb: int) -> None:
    """Make the volume so large; one that is already is left alone."""
    parts().platform.volumes.grow(instance_id, size_gb)


@DBOS.step(name="volumes.delete")
def delete(instance_id: str) -> None:
    parts().platform.volumes.delete(instance_id)
