"""Instances on machines: real agents and database servers, booted by a simulated OpenStack, whose Keystone knows the users.

What a real one shows besides is in tests/openstack; the built-in accounts before a cloud, in test_on_a_cloud.py.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import closing

import pytest

from argosy import marks
from argosy.rpc import agent_code
from tests.support import other_code
from tests.support.backups import Shop, restored, wait_until_done
from tests.support.cloud import SimulatedCloud
from tests.support.cloud.hypervisor import Machines
from tests.support.command_line import CommandLine
from tests.support.life import Story
from tests.support.machines import Cloud, Tenancy, simulated
from tests.support.server import Client, Server, wait_until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="agents give their servers accounts of their own")


@pytest.fixture(scope="module")
def both() -> Iterator[tuple[Cloud, SimulatedCloud]]:
    with simulated("postgresql 15 17", "mariadb 10.11", "mariadb 10.11 11.8") as both:
        yield both


@pytest.fixture(scope="module")
def cloud(both: tuple[Cloud, SimulatedCloud]) -> Cloud:
    return both[0]


@pytest.fixture(scope="module")
def simulation(both: tuple[Cloud, SimulatedCloud]) -> SimulatedCloud:
    return both[1]


@pytest.fixture(scope="module")
def argosy(tenancy: Tenancy) -> Server:
    return tenancy.argosy


@pytest.fixture(scope="module")
def demo(argosy: Server) -> Client:
    return argosy.client("demo")


def test_an_instance_lives_on_machines_and_leaves_nothing(
    simulation: SimulatedCloud, tenancy: Tenancy, argosy: Server, demo: Client
) -> None:
    story = Story(argosy, demo, "postgresql", "15")
    story.create()
    assert demo.project_id == simulation.demo_project != simulation.service_project
    tenancy.check_that_machines_are_ours_alone()
    story.put(1)
    with story.writing() as writer:
        story.act("instance.resize_volume", {"resize": {"volume": {"size": 2}}})
    assert writer.missing() == []
    assert story.volume_bytes() > 1.8 * 2**30
    story.act("instance.resize_flavor", {"resize": {"flavorRef": story.flavor("db.small")}})
    made = tenancy.openstack(f"database backup create nightly --instance {story.id} -f json")
    backup = wait_until_done(demo, made["id"])
    assert backup["status"] == "COMPLETED", backup["argosy"]["error"]
    tenancy.check_that_others_see_nothing(story.id, backup["id"])
    story.put(2)
    story.rebuild("15")
    story.act("instance.restart", {"restart": {}})
    assert story.numbers() == [1, 2]
    story.upgrade("17")
    assert story.numbers() == [1, 2]
    tenancy.openstack(f"database instance delete {story.id}")
    argosy.wait_until_gone(demo, story.id)
    other = restored(argosy, demo, "other", backup["id"])
    with closing(Shop(argosy, other)) as shop:
        assert shop.numbers() == [1]
    story.take_away(other["id"])
    tenancy.openstack("database backup delete nightly")
    wait_until("it is gone", lambda: demo.get(f"/backups/{backup['id']}").status_code == 404)
    assert (simulation.left(), simulation.left(simulation.demo_project)) == ({}, {})


def test_the_agent_of_a_machine_is_upgraded_while_its_database_server_goes_on(
    simulation: SimulatedCloud, argosy: Server, demo: Client
) -> None:
    flavors = {one["name"]: str(one["id"]) for one in demo.get("/flavors").json()["flavors"]}
    instance = argosy.create(
        demo,
        "old",
        "mariadb",
        flavorRef=flavors["db.tiny"],
        datastore={"type": "mariadb", "version": "10.11"},
        nics=[{"net-id": simulation.tenant}],
    )
    # All that a tenant has of it in the cloud is a port in a network of its own.
    with simulation.connect("demo", "demo") as own:
        ports = [one.fixed_ips[0]["ip_address"] for one in own.network.ports() if one.name]
    assert ports == instance["ip"]
    machines = simulation.nova.hypervisor
    assert isinstance(machines, Machines)
    (guest,) = [one for one in machines.guests.values() if one.instance_id == instance["id"]]
    older = other_code.install(guest.root / "opt/argosy/agent", other_code.OF_ANOTHER_RELEASE)
    other_code.point(guest.root / "opt/argosy/agent", "current", older)
    agent = marks.holder(guest.root / "run/argosy/agent.json")
    assert agent is not None
    os.kill(agent.pid, signal.SIGKILL)

    command = CommandLine(argosy.home)
    wait_until("its agent tells that it is another", lambda: code_of(command, "old") == (older, False))
    server = argosy.server_pid(instance["id"])
    assert "old has a new agent." in command("guest", "upgrade", "--all").out
    wait_until("its agent is this release's", lambda: code_of(command, "old") == (agent_code.digest(), True))
    assert argosy.server_pid(instance["id"]) == server is not None
    assert demo.delete(f"/instances/{instance['id']}").status_code == 202
    argosy.wait_until_gone(demo, instance["id"])


def code_of(command: CommandLine, name: str) -> tuple[str, bool]:
    (told,) = [one["agent"] for one in command("guest", "list", "--json").json if one["name"] == name]
    return told["code"], told["is_current"]


def test_a_version_boots_from_the_image_that_an_administrator_names(argosy: Server, demo: Client) -> None:
    admin = argosy.client("admin")
    version = demo.get("/datastores/mariadb/versions/10.11").json()["version"]["id"]
    place = f"/mgmt/datastore-versions/{version}"
    for image, state in (("1f0b7a52-0000-4000-8000-000000000000", "failed"), ("", "ready")):
        assert admin.patch(place, json={"image": image}).status_code == 202
        assert admin.get(place).json()["version"]["image"] == (image or None)
        wait_until(
            f"its image is {state}",
            lambda state=state: any(  # type: ignore[misc]
                (one["datastore"], one["version"], one["phase"]) == ("mariadb", "10.11", state)
                for one in admin.get("/images").json()["images"]
            ),
        )
    assert admin.patch(place, json={"image": "x" * 65}).status_code == 400
