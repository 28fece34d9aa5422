"""The simulated cloud's servers: processes that die with their server, roots that do not outlive it, volumes that do."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from argosy import marks
from tests.support.cloud import SimulatedCloud
from tests.support.cloud.hypervisor import MACHINE, Machines
from tests.support.server import wait_until

SOON = {"interval": 0.02, "wait": 60}
# In the place of an agent: it writes a line wherever it finds something to write to, and is there.
GUEST = """
echo booted >>"$ARGOSY_ROOT/lives"
for volume in "$ARGOSY_ROOT"/dev/disk/by-id/*; do echo booted >>"$volume/lives"; done
exec sleep 1000
"""


@pytest.fixture(scope="module")
def machines() -> Machines:
    return Machines(launch=lambda _drive: ["sh", "-c", GUEST])


@pytest.fixture(scope="module")
def cloud(machines: Machines) -> Iterator[SimulatedCloud]:
    with SimulatedCloud(hypervisor=machines, pace_s=0.02) as cloud:
        cloud.change(lambda: cloud.glance.add("debian", cloud.service_project, b"disk"))
        yield cloud
    assert not machines.home.exists()


@pytest.fixture
def sdk(cloud: SimulatedCloud) -> Iterator[Any]:
    with cloud.connect() as connection:
        yield connection
    cloud.clear()
    assert cloud.left() == {}


def test_a_servers_processes_go_with_it_and_its_volume_stays(
    cloud: SimulatedCloud, machines: Machines, sdk: Any
) -> None:
    volume = sdk.block_storage.create_volume(size=1)
    sdk.block_storage.wait_for_status(volume, "available", **SOON)
    image = next(sdk.image.images(name="debian"))
    port = sdk.network.create_port(network_id=cloud.management)
    server = sdk.compute.create_server(
        name="s",
        image_id=image.id,
        flavor_id="1",
        networks=[{"port": port.id}],
        config_drive=True,
        user_data=base64.b64encode(b'{"instance_id": "one"}').decode(),
        block_device_mapping=[
            {"boot_index": 0, "source_type": "image", "destination_type": "local", "uuid": image.id},
            {"boot_index": -1, "source_type": "volume", "destination_type": "volume", "uuid": volume.id},
        ],
    )
    sdk.compute.wait_for_server(server, **SOON)
    guest = machines.guests[server.id]
    disk = machines.disks.directory(volume.id)

    def lives(place: Path) -> int:
        return len((place / "lives").read_text().splitlines()) if (place / "lives").exists() else 0

    wait_until("it has booted", lambda: lives(disk) == 1)
    assert (guest.drive / "openstack/latest/meta_data.json").exists()
    assert guest.instance_id == "one"
    before = marks.marked({MACHINE: server.id})
    sdk.compute.reboot_server(server, "HARD")
    wait_until("it has booted again", lambda: lives(disk) == 2)
    assert not set(before) & set(marks.marked({MACHINE: server.id}))
    assert lives(guest.root) == 2

    sdk.compute.wait_for_server(sdk.compute.get_server(server.id), **SOON)
    sdk.compute.rebuild_server(server, image=image.id, user_data=base64.b64encode(b"{}").decode())
    wait_until("it was made anew", lambda: lives(disk) == 3)
    assert lives(guest.root) == 1
    assert guest.instance_id is None

    sdk.block_storage.extend_volume(volume, 2)
    sdk.block_storage.wait_for_status(sdk.block_storage.get_volume(volume.id), "in-use", **SOON)
    if os.geteuid() == 0:
        told = os.statvfs(disk)
        assert told.f_bavail * told.f_frsize > 1.8 * 2**30

    sdk.compute.wait_for_server(sdk.compute.get_server(server.id), **SOON)
    sdk.compute.stop_server(server)
    sdk.compute.wait_for_server(sdk.compute.get_server(server.id), "SHUTOFF", **SOON)
    assert marks.marked({MACHINE: server.id}) == []
    sdk.compute.delete_server(server)
    sdk.compute.wait_for_delete(server, **SOON)
    assert not guest.place.exists()
    assert lives(disk) == 3


def test_what_starts_an_agent_starts_it_again(machines: Machines, sdk: Any) -> None:
    image = next(sdk.image.images(name="debian"))
    server = sdk.compute.create_server(name="s", image_id=image.id, flavor_id="1", networks="none")
    sdk.compute.wait_for_server(server, **SOON)
    lives = machines.guests[server.id].root / "lives"
    # Not earlier: one that is killed before it has written leaves nothing to count.
    wait_until("an agent runs", lambda: lives.exists() and lives.read_text() == "booted\n")
    for pid in marks.marked({MACHINE: server.id}):
        os.kill(pid, 9)
    wait_until("it lives again", lambda: lives.read_text() == "booted\nbooted\n")
