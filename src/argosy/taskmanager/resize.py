"""Give an instance another size: a larger volume, or another flavor."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from argosy.domain.errors import PlatformError
from argosy.domain.instance import Flavor
from argosy.domain.operations import ResizeFlavor, ResizeVolume
from argosy.taskmanager.steps import guest, instances, servers, volumes
from argosy.taskmanager.workflow import workflow


@workflow(ResizeVolume, "growing the volume", "looking at the database server")
def resize_volume(asked: ResizeVolume) -> Iterator[None]:
    """Give it a larger volume while its database server goes on, or comes back for having room again.

    If it fails half way the volume may be larger than the instance says; asking again finishes it.
    """
    yield
    volumes.grow(asked.instance_id, asked.size_gb)
    if servers.machines():
        guest.grow_volume(asked, instances.server_of(asked.instance_id))
    instances.set_volume_gb(asked.instance_id, asked.size_gb)
    servers.note_limits(asked.instance_id)
    yield
    guest.look(instances.address_of(asked.instance_id))


@workflow(ResizeFlavor, "looking whether it fits", "giving it the new size", "looking at the database server")
def resize_flavor(asked: ResizeFlavor) -> Iterator[None]:
    """Give it other limits and the settings that follow from them, with a restart where these need one.

    If anything fails, it is given back the size it had, and runs.
    """
    yield
    address = instances.server_of(asked.instance_id)
    before = instances.flavor_of(asked.instance_id)
    after = instances.find_flavor(asked.flavor_id)
    if after.memory_mb < before.memory_mb:
        guest.check_size(asked, address, after.memory_mb)
    yield
    move = _move_machine if servers.machines() else _move
    try:
        went = move(asked, address, before, after, "there")
    except Exception:
        move(asked, address, after, before, "back")
        servers.note_limits(asked.instance_id)
        raise
    yield
    servers.note_limits(asked.instance_id)
    guest.look(address)
    instances.tell(asked.instance_id, "instance.resized", f"From {before.name} to {after.name} {went}.")


def _move(asked: ResizeFlavor, address: str, before: Flavor, after: Flavor, attempt: str) -> str:
    """From one size to another; returns how it went.

    Limits are lifted before the database server makes use of more, and lowered after it has given back.
    """
    instances.set_flavor(asked.instance_id, after.id)
    servers.replace(asked.instance_id, address)
    if after.memory_mb >= before.memory_mb:
        servers.limit(asked.instance_id)
        return guest.take_size(asked, address, attempt)
    went = guest.take_size(asked, address, attempt)
    try:
        servers.limit(asked.instance_id)
    except PlatformError:
        # It keeps memory that it does not use: its end gives all of it back.
        went = guest.take_size(asked, address, f"{attempt}, once more", restart=True)
        servers.limit(asked.instance_id)
    return went


def _move_machine(
    asked: ResizeFlavor, address: str, _before: Flavor, after: Flavor, attempt: Literal["there", "back"]
) -> str:
    """From one size to another by booting the machine anew; returns how it went.

    The other size is kept once the database server has come up in it: until then the platform can take it back.
    """
    instances.set_flavor(asked.instance_id, after.id)
    servers.tell(asked.instance_id)
    if attempt == "there":
        guest.stop_cleanly(asked, address)
        servers.resize(asked.instance_id)
    else:
        servers.revert(asked.instance_id)
    servers.wait_until_settled(asked.instance_id)
    if attempt == "back":
        # A machine that never went down still has its agent, with the database server stopped.
        guest.restart(asked, address, attempt)
        return "restarted"
    went = guest.take_size(asked, address, attempt)
    servers.confirm(asked.instance_id)
    servers.wait_until_settled(asked.instance_id)
    return went
