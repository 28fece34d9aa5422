"""Whatever dies while an instance is made or deleted: the operation ends, and everything is accounted for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.chaos.walk import LONG, CrashWalk
from tests.support.server import Client, Server, running


def create(client: Client, datastore: str) -> str:
    body: dict[str, Any] = {
        "name": "walked",
        "flavorRef": "1",
        "volume": {"size": 1},
        "datastore": {"type": datastore},
    }
    body["users"] = [{"name": "ann", "password": "walked-secret-1"}]
    if datastore == "postgresql":
        body["databases"] = [{"name": "shop"}]
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

    creations = walk.over("instance.create", begin_create, every=1 if LONG else 5)
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

    deletions = walk.over("instance.delete", begin_delete, every=1 if LONG else 5)
    assert [one for one in deletions if one["state"] != "succeeded"] == []
    assert kills > (10 if LONG else 1)
    assert walk.kills - kills > (10 if LONG else 1)
    for instance_id in left:
        assert client.delete(f"/instances/{instance_id}").status_code == 202
    for instance_id in made:
        parts.wait_until_gone(client, instance_id)
    assert parts.leftovers() == []


@pytest.mark.timeout(900)
@pytest.mark.skipif(not LONG, reason="the task manager alone is walked every day: ARGOSY_TEST_LONG=1")
def test_an_all_in_one_process_killed_around_steps_of_create_and_delete_finishes_later() -> None:
    """PostgreSQL, and every third step: each kill takes the API and the conductor along."""
    with running() as argosy:
        argosy.down()
        walk = CrashWalk(argosy, ())
        client = walk.client
        made: list[str] = []

        def begin_create() -> str:
            made.append(create(client, "postgresql"))
            return made[-1]

        operations = walk.over("instance.create", begin_create, every=3)
        for instance_id in made:
            argosy.wait_until_healthy(client, instance_id)

        def begin_delete() -> str:
            assert client.delete(f"/instances/{made[-1]}").status_code == 202
            return made.pop()

        operations += walk.over("instance.delete", begin_delete, every=3)
        assert [one for one in operations if one["state"] != "succeeded"] == []
        assert walk.kills > 6
        assert argosy.leftovers(among=made) == []
