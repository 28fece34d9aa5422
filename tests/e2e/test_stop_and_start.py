"""A database server that its owner stopped stays stopped, whatever dies; started, it has all it had."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

from tests.support.databases import connected
from tests.support.server import Client, Server, wait_until

USER = {"name": "ann", "password": "Ann-secret-77"}
SHAPES: dict[str, dict[str, Any]] = {
    "postgresql": {"databases": [{"name": "shop"}], "users": [{**USER, "databases": [{"name": "shop"}]}]},
    "mariadb": {"databases": [{"name": "shop"}], "users": [{**USER, "databases": [{"name": "shop"}]}]},
    "valkey": {"users": [USER]},
}


def act(client: Client, instance_id: str, action: str) -> None:
    answer = client.post(f"/instances/{instance_id}/action", json={action: {}})
    assert answer.status_code == 202, answer.text


def wait_until_stopped(client: Client, instance_id: str) -> dict[str, Any]:
    def stopped() -> dict[str, Any] | None:
        shown: dict[str, Any] = client.get(f"/instances/{instance_id}").json()["instance"]
        return shown if (shown["status"], shown["operating_status"]) == ("ACTIVE", "SHUTDOWN") else None

    shown: dict[str, Any] = wait_until(f"{instance_id} is stopped", stopped)
    return shown


@pytest.mark.parametrize("datastore", SHAPES)
def test_a_stopped_database_server_is_started_with_all_it_had(
    argosy: Server, demo: Client, datastore: str
) -> None:
    instance = argosy.create(demo, "resting", datastore, **SHAPES[datastore])
    database = "shop" if "databases" in SHAPES[datastore] else None
    place = (argosy, instance, USER["name"], USER["password"], database)
    with connected(*place) as session:
        session.write("kept", "while stopped")
    act(demo, instance["id"], "stop")
    shown = wait_until_stopped(demo, instance["id"])
    assert "start it" in shown["argosy"]["meaning"]
    assert argosy.server_pid(instance["id"]) is None
    refused = demo.get(f"/instances/{instance['id']}/users")
    assert refused.status_code == 422, refused.text
    assert "start its database server first" in refused.json()["unprocessableEntity"]["message"]
    assert demo.post(f"/instances/{instance['id']}/action", json={"stop": {}}).status_code == 422

    act(demo, instance["id"], "start")
    argosy.wait_until_healthy(demo, instance["id"])
    with connected(*place) as session:
        assert session.read()["kept"] == "while stopped"
    assert demo.post(f"/instances/{instance['id']}/action", json={"start": {}}).status_code == 422
    demo.delete(f"/instances/{instance['id']}")
    argosy.wait_until_gone(demo, instance["id"])


def test_a_stopped_database_server_stays_stopped_whatever_dies(
    argosy: Server, demo: Client, valkey: dict[str, Any]
) -> None:
    act(demo, valkey["id"], "stop")
    wait_until_stopped(demo, valkey["id"])

    agent = argosy.agent_pid(valkey["id"])
    assert agent is not None
    os.kill(agent, signal.SIGKILL)
    wait_until("the agent runs again", lambda: argosy.agent_pid(valkey["id"]) not in {None, agent})
    wait_until_stopped(demo, valkey["id"])

    argosy.kill("api")
    argosy.start()
    wait_until_stopped(demo, valkey["id"])

    # As a reboot of the machine: nothing of the home runs any more.
    argosy.down(databases_too=True)
    argosy.start()
    booted = wait_until("the agent runs", lambda: argosy.agent_pid(valkey["id"]))
    wait_until_stopped(demo, valkey["id"])
    assert argosy.agent_pid(valkey["id"]) == booted
    assert argosy.server_pid(valkey["id"]) is None

    act(demo, valkey["id"], "restart")
    argosy.wait_until_healthy(demo, valkey["id"])


def test_a_stopped_instance_can_be_deleted(argosy: Server, demo: Client) -> None:
    instance_id = argosy.create(demo, "resting", "valkey")["id"]
    act(demo, instance_id, "stop")
    wait_until_stopped(demo, instance_id)
    assert demo.delete(f"/instances/{instance_id}").status_code == 202
    argosy.wait_until_gone(demo, instance_id)
    assert instance_id not in argosy.leftovers()
