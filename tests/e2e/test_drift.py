"""Somebody changes the cloud behind our back: owner and administrator are told, and nobody loses data."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.support.cloud import SimulatedCloud
from tests.support.life import Story
from tests.support.machines import running_on, simulated
from tests.support.server import Server, wait_until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="agents give their servers accounts of their own")


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[SimulatedCloud, Server, Story]]:
    """An instance with a number in its database, of a server that looks at the cloud often."""
    with simulated("postgresql 15") as (cloud, simulation):
        with running_on(cloud, ARGOSY_OPENSTACK__SURVEY_EVERY_S="5") as argosy:
            story = Story(argosy, argosy.client("demo"), "postgresql", "15")
            story.create()
            story.put(1)
            yield simulation, argosy, story
            story.take_away(story.id)
            wait_until("nothing is open", lambda: differences(argosy) == [])
        assert simulation.left() == {}


def differences(argosy: Server) -> list[str]:
    return [one["kind"] for one in argosy.client("admin").get("/mgmt/drift").json()["findings"]]


def test_a_deleted_server_is_told_to_its_owner_and_rebuilt_around_the_data(
    running: tuple[SimulatedCloud, Server, Story],
) -> None:
    simulation, argosy, story = running
    address = story.shown()["ip"]
    server = simulation.server(f"argosy-{story.id}")
    assert server is not None
    simulation.lose_server(server.id)
    wait_until("its owner is told", lambda: story.events("drift.found"))
    (message,) = story.events("drift.found")
    assert message.startswith("The server was deleted in the cloud")
    assert differences(argosy) == ["server-missing"]
    story.rebuild("15")
    assert story.numbers() == [1]
    assert story.shown()["ip"] == address
    wait_until("it is over", lambda: differences(argosy) == [])
    assert len(story.events("drift.gone")) == 1


def test_a_detached_volume_comes_back_and_so_does_the_database(
    running: tuple[SimulatedCloud, Server, Story],
) -> None:
    simulation, argosy, story = running
    server = simulation.server(f"argosy-{story.id}")
    assert server is not None
    cut_off = argosy.server_pid(story.id)
    simulation.detach_volume(server.attachments[0].volume_id)
    wait_until("it is repaired", lambda: story.events("drift.repaired"))
    assert "attached again" in story.events("drift.repaired")[0]
    # Nova has only been asked to boot it: for a moment the database server of before still answers.
    wait_until("it has booted", lambda: argosy.server_pid(story.id) not in {None, cut_off})
    story.put(2)
    assert story.numbers() == [1, 2]
    assert differences(argosy) == []


def test_a_deleted_port_comes_back_at_its_address_when_an_administrator_has_it_looked_at(
    running: tuple[SimulatedCloud, Server, Story],
) -> None:
    simulation, argosy, story = running
    address, numbers = story.shown()["ip"], story.numbers()
    (port,) = simulation.left()["port"]
    simulation.lose_port(port["id"])
    admin = argosy.client("admin")
    operation = admin.post("/mgmt/drift/look").json()["operation"]["id"]

    def ended() -> str | None:
        state: str = admin.get(f"/operations/{operation}").json()["operation"]["state"]
        return state if state in {"succeeded", "failed"} else None

    assert wait_until("the look has ended", ended) == "succeeded"
    listed = admin.get(f"/mgmt/drift?all=true&instance_id={story.id}").json()["findings"]
    assert [one["repaired"] for one in listed if one["kind"] == "port-missing"] == [True]
    argosy.wait_until_healthy(argosy.client("demo"), story.id)
    assert story.shown()["ip"] == address
    assert story.numbers() == numbers != []
