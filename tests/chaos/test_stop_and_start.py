"""Whatever dies while a database server is stopped or started: the operation ends, and it is as was asked."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest

from tests.chaos.walk import LONG, CrashWalk
from tests.support.databases import connected
from tests.support.server import Client, Server, running, wait_until

USER = {"name": "ann", "password": "Ann-secret-77"}


@pytest.fixture(scope="module")
def parts() -> Iterator[Server]:
    with running("api", "conductor") as argosy:
        yield argosy


def wait_until_shown(client: Client, instance_id: str, operating_status: str) -> None:
    def shown() -> bool:
        instance = client.get(f"/instances/{instance_id}").json()["instance"]
        return (instance["status"], instance["operating_status"]) == ("ACTIVE", operating_status)

    wait_until(f"{instance_id} is {operating_status}", shown)


@pytest.mark.skipif(not LONG, reason="other workflows are walked every day: ARGOSY_TEST_LONG=1")
@pytest.mark.timeout(600)
def test_a_task_manager_killed_around_any_step_of_stop_and_start_finishes_later(parts: Server) -> None:
    walk = CrashWalk(parts, ("taskmanager",))
    client = walk.client
    instance = parts.create(client, "walked", "valkey", users=[USER])
    with connected(parts, instance, USER["name"], USER["password"]) as session:
        session.write("kept", "through it all")
    path = f"/instances/{instance['id']}/action"

    def turn(before: str, action: str) -> str:
        """Once it is as it was before, ask for the action."""
        if client.get(f"/instances/{instance['id']}").json()["instance"]["operating_status"] != before:
            back = {"stop": "start", "start": "stop"}[action]
            assert client.post(path, json={back: {}}).status_code == 202
            wait_until_shown(client, instance["id"], before)
        assert client.post(path, json={action: {}}).status_code == 202
        return str(instance["id"])

    for action, before, after in (("stop", "HEALTHY", "SHUTDOWN"), ("start", "SHUTDOWN", "HEALTHY")):
        kills = walk.kills
        operations = walk.over(f"instance.{action}", partial(turn, before, action), every=1)
        assert [one for one in operations if one["state"] != "succeeded"] == []
        assert walk.kills - kills > 5
        wait_until_shown(client, instance["id"], after)
        assert (parts.server_pid(instance["id"]) is not None) == (action == "start")
    with connected(parts, instance, USER["name"], USER["password"]) as session:
        assert session.read()["kept"] == "through it all"
    assert parts.leftovers(among=[instance["id"]]) == []
