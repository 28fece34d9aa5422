"""Whatever dies while an instance is upgraded or rebuilt: it ends up running, with its data, on one version."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from tests.chaos.walk import LONG, CrashWalk
from tests.support.databases import connected
from tests.support.server import Client, Server, running, wait_until

USER = {"name": "ann", "password": "walked-secret-1"}


def made(argosy: Server, client: Client, datastore: str, version: str) -> dict[str, Any]:
    body: dict[str, Any] = {
        "name": "walked",
        "flavorRef": "1",
        "volume": {"size": 1},
        "datastore": {"type": datastore, "version": version},
        "users": [USER],
    }
    if datastore == "postgresql":
        body |= {"databases": [{"name": "shop"}], "users": [{**USER, "databases": [{"name": "shop"}]}]}
    answer = client.post("/instances", json={"instance": body})
    assert answer.status_code == 200, answer.text
    instance = argosy.wait_until_healthy(client, answer.json()["instance"]["id"])
    with session(argosy, instance) as connection:
        connection.write("kept", "all along")
    return instance


def session(argosy: Server, instance: dict[str, Any]) -> Any:
    database = "shop" if instance["datastore"]["type"] == "postgresql" else None
    return connected(argosy, instance, USER["name"], USER["password"], database)


def tidy(argosy: Server, instance: dict[str, Any]) -> bool:
    volume = argosy.home / "instances" / instance["id"] / "volume"
    return not {"upgrade", "data.previous"} & {one.name for one in volume.iterdir()}


def walk_upgrades(argosy: Server, datastore: str, before: str, after: str, every: int) -> int:
    walk = CrashWalk(argosy, ("taskmanager",))
    client = walk.client
    instances: list[dict[str, Any]] = []

    def begin() -> str:
        instances.append(made(argosy, client, datastore, before))
        where = f"/instances/{instances[-1]['id']}"
        asked = {"instance": {"datastore_version": after}}
        assert client.patch(where, json=asked).status_code == 202
        return str(instances[-1]["id"])

    operations = walk.over("instance.upgrade", begin, every=every)
    assert [one for one in operations if one["state"] != "succeeded"] == []
    for instance in instances:
        shown = argosy.wait_until_healthy(client, instance["id"])
        assert shown["datastore"]["version"] == after
        with session(argosy, shown) as connection:
            assert connection.read() == {"kept": "all along"}
        wait_until("only the new data is left", partial(tidy, argosy, instance))
        client.delete(f"/instances/{instance['id']}")
    for instance in instances:
        argosy.wait_until_gone(client, instance["id"])
    assert argosy.leftovers() == []
    return walk.kills


@pytest.mark.timeout(900)
@pytest.mark.skipif(
    not LONG, reason="tests/chaos/test_two_of_each.py kills in it every day: ARGOSY_TEST_LONG=1"
)
def test_a_task_manager_killed_around_any_step_of_an_upgrade_finishes_later() -> None:
    """Every step of Valkey's, and some of PostgreSQL's."""
    with running("api", "conductor") as argosy:
        assert walk_upgrades(argosy, "valkey", "8", "9", 1) > 20
    with running("api", "conductor") as argosy:
        assert walk_upgrades(argosy, "postgresql", "17", "18", 3) > 6


@pytest.mark.skipif(not LONG, reason="other workflows are walked every day: ARGOSY_TEST_LONG=1")
@pytest.mark.timeout(600)
def test_a_task_manager_killed_around_any_step_of_a_rebuild_finishes_later() -> None:
    with running("api", "conductor") as argosy:
        walk = CrashWalk(argosy, ("taskmanager",))
        client, admin = walk.client, argosy.client("admin")
        instance = made(argosy, client, "valkey", "8")
        of = client.get("/datastores/valkey/versions/8").json()["version"]["id"]

        def begin() -> str:
            where = f"/mgmt/instances/{instance['id']}/action"
            assert admin.post(where, json={"rebuild": {"image_id": of}}).status_code == 202
            return str(instance["id"])

        operations = walk.over("instance.rebuild", begin, every=1)
        assert [one for one in operations if one["state"] != "succeeded"] == []
        assert walk.kills > 12
        argosy.wait_until_healthy(client, instance["id"])
        with session(argosy, instance) as connection:
            assert connection.read() == {"kept": "all along"}
        assert argosy.leftovers(among=[instance["id"]]) == []
