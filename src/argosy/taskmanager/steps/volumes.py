"""An instance's volume."""

from __future__ import annotations

from argosy.taskmanager.parts import parts
from argosy.taskmanager.steps.again import step
from argosy.taskmanager.steps.servers import is_transient


def make_for_machine(instance_id: str) -> None:
    """A machine is booted with its volume, so that is made first."""
    if parts().platform.machines:
        make(instance_id)


@step(name="volumes.make", retries_allowed=True, should_retry=is_transient)
def make(instance_id: str) -> None:
    _make(instance_id)


@step(name="volumes.create", retries_allowed=True, should_retry=is_transient)
def create(instance_id: str) -> None:
    """A volume of the instance's size, under its server."""
    _make(instance_id)
    parts().platform.volumes.attach(instance_id)


def _make(instance_id: str) -> None:
    with parts().store.read() as tx:
        size_gb = tx.instances.get(instance_id).volume_gb
    parts().platform.volumes.create(instance_id, size_gb)


@step(name="volumes.grow", retries_allowed=True, should_retry=is_transient)
def grow(instance_id: str, size_gb: int) -> None:
    """Make the volume so large; one that is already is left alone."""
    parts().platform.volumes.grow(instance_id, size_gb)


@step(name="volumes.delete", retries_allowed=True, should_retry=is_transient)
def delete(instance_id: str) -> None:
    parts().platform.volumes.delete(instance_id)
