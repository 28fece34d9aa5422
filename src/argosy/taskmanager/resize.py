"""Give an instance another size: a larger volume, or another flavor."""

from __future__ import annotations

from collections.abc import Iterator

from argosy.domain.operations import ResizeVolume
from argosy.taskmanager.steps import guest, instances, servers, volumes
from argosy.taskmanager.workflow import workflow


@workflow(ResizeVolume, "growing the volume", "looking at the database server")
def resize_volume(asked: ResizeVolume) -> Iterator[None]:
    """Give it a larger volume while its database server goes on, or comes back for having room again.

    If it fails half way the volume may be larger than the instance says; asking again finishes it.
    """
    yield
    volumes.grow(asked.instance_id, asked.size_gb)
    instances.set_volume_gb(asked.instance_id, asked.size_gb)
    servers.note_limits(asked.instance_id)
    yield
    guest.look(instances.address_of(asked.instance_id))
