"""Whatever dies while an instance is made or deleted: the operation ends, and everything is accounted for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.chaos.walk import CrashWalk
from tests.support.server import Client, Server, running


def create(client: Client, datastore: str) -> str:
    body: dict[str, Any] = {
        "name": "walked",
        "flavorRef": "1",
        "volume": {"size": 1},
        "datastore": {"type": datastore},
    }
    body["users"] = [{"name": "ann", "password": "walked-secret-1"}]
    answer = client.post("/instances", json={"instance": body})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["instance"]["id"])


@pytest.fixture(scope="module")
def parts() -> Iterator[Server]:
    """The API and the conductor in processes of their own; the task manager is the one to die."""
    with running("api", "conductor") as argosy:
        yield argosy


@pytest.mark.timeout(900)
def test_a_task_manager_killed_around_any_step_of_create_and_delete_finishes_later(parts: Server) -> None:
    walk = CrashWalk(parts, ("taskmanager",))
    client = walk.client
    made: list[str] = []

    def begin_create() -> str:
        made.append(create(client, "valkey"))
        return made[-1]

    creations = walk.over("instance.create", begin_create)
    assert [one for one in creations if one["state"] != "succeeded"] == []
    kills = walk.kills
    for instance_id in made:
        parts.wait_until_healthy(client, instance_id)
    assert parts.leftovers(among=made) == []
    left = list(made)

    def begin_delete() -> str:
        instance_id = left.pop()
        assert client.delete(f"/instances/{instance_id}").status_code == 202
        return instance_id

    deletions = walk.over("instance.delete", begin_delete)
    assert [one for one in deletions if one["state"] != "succeeded"] == []
    assert kills > 10
    assert walk.kills - kills > 10
    for instance_id in left:
        assert client.delete(f"/instances/{instance_id}").status_code == 202
    for instance_id in made:
        parts.wait_until_gone(client, instance_id)
    assert parts.leftovers() == []
