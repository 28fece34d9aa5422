"""Agents and servers are killed: the data stays, what died comes back, and its owner is told."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

from argosy import marks
from tests.support.databases import connected
from tests.support.server import Client, Server, wait_until

USER = {"name": "ann", "password": "Ann-secret-77"}
SHAPES: dict[str, dict[str, Any]] = {
    "postgresql": {"databases": [{"name": "shop"}], "users": [{**USER, "databases": [{"name": "shop"}]}]},
    "mariadb": {"databases": [{"name": "shop"}], "users": [{**USER, "databases": [{"name": "shop"}]}]},
    "valkey": {"users": [USER]},
}


def events(client: Client, instance_id: str) -> set[str]:
    listed = client.get("/events", params={"instance_id": instance_id}).json()["events"]
    return {event["kind"] for event in listed}


@pytest.mark.parametrize("datastore", SHAPES)
def test_a_database_survives_the_death_of_its_agent_and_of_its_server(
    argosy: Server, demo: Client, datastore: str
) -> None:
    instance = argosy.create(demo, "mortal", datastore, **SHAPES[datastore])
    database = "shop" if "databases" in SHAPES[datastore] else None
    place = (argosy, instance, USER["name"], USER["password"], database)
    with connected(*place) as session:
        session.write("before", "1")

        server, agent = argosy.server_pid(instance["id"]), argosy.agent_pid(instance["id"])
        assert server is not None
        assert agent is not None
        os.kill(agent, signal.SIGKILL)
        wait_until("the agent runs again", lambda: argosy.agent_pid(instance["id"]) not in {None, agent})
        told: set[str] = set()

        def answers() -> bool:
            shown = demo.get(f"/instances/{instance['id']}").json()["instance"]
            told.add(shown["operating_status"])
            return demo.get(f"/instances/{instance['id']}/users").is_success

        wait_until("the new agent answers", answers)
        assert argosy.server_pid(instance["id"]) == server, "the new agent did not adopt the server"
        assert "NEW" not in told, "the new agent told of the server before it had looked"
        assert session.read()["before"] == "1", "the session was cut by the agent's death"

    os.kill(server, signal.SIGKILL)
    wait_until("the server runs again", lambda: argosy.server_pid(instance["id"]) not in {None, server})
    argosy.wait_until_healthy(demo, instance["id"])
    with connected(*place) as session:
        assert session.read()["before"] == "1"
    wait_until(
        "both deaths are told", lambda: {"guest.booted", "server.died"} <= events(demo, instance["id"])
    )
    demo.delete(f"/instances/{instance['id']}")
    argosy.wait_until_gone(demo, instance["id"])
    assert instance["id"] not in argosy.leftovers()


def test_a_server_that_does_not_stay_up_is_shown_as_such_and_recovers_when_it_can(
    argosy: Server, demo: Client, valkey: dict[str, Any]
) -> None:
    data = argosy.home / "instances" / valkey["id"] / "volume" / "data"
    hidden = data.with_name("hidden")
    data.rename(hidden)
    try:
        pid = argosy.server_pid(valkey["id"])
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        wait_until(
            "it is shown as down",
            lambda: (
                demo.get(f"/instances/{valkey['id']}").json()["instance"]["operating_status"] == "SHUTDOWN"
            ),
            120,
        )
        assert "server.crashed" in events(demo, valkey["id"])
    finally:
        hidden.rename(data)
    argosy.wait_until_healthy(demo, valkey["id"])


def test_databases_serve_on_without_a_control_plane(
    argosy: Server, demo: Client, valkey: dict[str, Any]
) -> None:
    with connected(argosy, valkey, "ann", "Ann-secret-77") as session:
        session.write("kept", "through")
        argosy.kill("api")
        assert session.read()["kept"] == "through"
        session.write("kept", "still")
        argosy.start()
        assert session.read()["kept"] == "still"
    argosy.wait_until_healthy(argosy.client("demo"), valkey["id"])


def test_a_stopped_and_started_home_has_everything_that_was_there(
    argosy: Server, demo: Client, valkey: dict[str, Any]
) -> None:
    with connected(argosy, valkey, "ann", "Ann-secret-77") as session:
        session.write("kept", "over night")
    argosy.down(databases_too=True)
    assert argosy.server_pid(valkey["id"]) is None
    assert argosy.agent_pid(valkey["id"]) is None
    argosy.start()
    argosy.wait_until_healthy(demo, valkey["id"])
    with connected(argosy, valkey, "ann", "Ann-secret-77") as session:
        assert session.read()["kept"] == "over night"


@pytest.mark.parametrize("delay_s", [0.0, 0.15, 0.3, 0.5, 0.8, 1.2])
def test_a_create_whose_agent_and_server_are_killed_meanwhile_still_ends(
    argosy: Server, demo: Client, delay_s: float
) -> None:
    body = {
        "name": "hit",
        "flavorRef": "1",
        "volume": {"size": 1},
        "datastore": {"type": "valkey"},
        "users": [USER],
    }
    instance_id = demo.post("/instances", json={"instance": body}).json()["instance"]["id"]
    wait_until("the agent boots", lambda: argosy.agent_pid(instance_id))
    # Where in its life the agent is hit is the machine's choice; the end must be the same for all.
    signal.sigtimedwait([], delay_s)
    for pid in (argosy.agent_pid(instance_id), argosy.server_pid(instance_id)):
        if pid is not None and marks.started_at(pid) is not None:
            os.kill(pid, signal.SIGKILL)
    argosy.wait_until_healthy(demo, instance_id)
    demo.delete(f"/instances/{instance_id}")
    argosy.wait_until_gone(demo, instance_id)
    assert instance_id not in argosy.leftovers()


def test_a_create_in_the_middle_of_which_argosy_is_stopped_goes_on_when_it_is_started(
    argosy: Server, demo: Client
) -> None:
    body = {"name": "slow", "flavorRef": "1", "volume": {"size": 1}, "datastore": {"type": "mariadb"}}
    instance_id = demo.post("/instances", json={"instance": body}).json()["instance"]["id"]
    argosy.down()
    argosy.start()
    argosy.wait_until_healthy(demo, instance_id)
    demo.delete(f"/instances/{instance_id}")
    argosy.wait_until_gone(demo, instance_id)


@pytest.mark.parametrize("struck", ["agent", "server", "both"])
@pytest.mark.parametrize("blow", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "frozen"])
def test_an_instance_whose_agent_or_server_is_gone_or_frozen_can_be_deleted(
    argosy: Server, demo: Client, struck: str, blow: signal.Signals
) -> None:
    instance_id = argosy.create(demo, "struck", "valkey")["id"]
    agent, server = argosy.agent_pid(instance_id), argosy.server_pid(instance_id)
    for pid in {"agent": [agent], "server": [server], "both": [agent, server]}[struck]:
        assert pid is not None
        os.kill(pid, blow)
    assert demo.delete(f"/instances/{instance_id}").status_code == 202
    argosy.wait_until_gone(demo, instance_id)
    assert instance_id not in argosy.leftovers()
