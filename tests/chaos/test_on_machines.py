"""Whatever dies while a cloud is asked for something: it is asked for it once, and nothing is left there."""

from __future__ import annotations

import os

import pytest

from tests.chaos.walk import LONG, CrashWalk
from tests.support.machines import running_on, simulated

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="agents give their servers accounts of their own"),
    pytest.mark.skipif(not LONG, reason="two minutes even when it walks few steps: ARGOSY_TEST_LONG=1"),
]


@pytest.mark.timeout(3600)
def test_a_task_manager_killed_around_steps_of_what_it_does_in_a_cloud_finishes_later() -> None:
    with (
        simulated("valkey 8") as (cloud, simulation),
        running_on(cloud, "api", "conductor") as argosy,
    ):
        walk = CrashWalk(argosy, ("taskmanager",))
        client = walk.client
        admin = argosy.client("admin")
        sizes = {one["name"]: str(one["id"]) for one in client.get("/flavors").json()["flavors"]}
        image = client.get("/datastores/valkey/versions/8").json()["version"]["id"]
        made: list[str] = []

        def create() -> str:
            body = {
                "name": "walked",
                "flavorRef": sizes["db.tiny"],
                "volume": {"size": 1},
                "datastore": {"type": "valkey", "version": "8"},
            }
            answer = client.post("/instances", json={"instance": body})
            assert answer.status_code == 200, answer.text
            made.append(answer.json()["instance"]["id"])
            return made[-1]

        def resize() -> str:
            now = str(client.get(f"/instances/{made[0]}").json()["instance"]["flavor"]["id"])
            other = next(size for size in sizes.values() if size != now)
            answer = client.post(f"/instances/{made[0]}/action", json={"resize": {"flavorRef": other}})
            assert answer.status_code == 202, answer.text
            return made[0]

        def rebuild() -> str:
            where = f"/mgmt/instances/{made[0]}/action"
            answer = admin.post(where, json={"rebuild": {"image_id": image}})
            assert answer.status_code == 202, answer.text
            return made[0]

        def delete() -> str:
            if not made:
                argosy.wait_until_healthy(client, create())
            assert client.delete(f"/instances/{made[-1]}").status_code == 202
            return made.pop()

        operations = walk.over("instance.create", create)
        for instance_id in made:
            argosy.wait_until_healthy(client, instance_id)
        left = simulation.left()
        assert {kind: len(some) for kind, some in left.items()} == {
            "server": len(made),
            "volume": len(made),
            "port": len(made),
            "security_group": 2 * len(made),
        }
        operations += walk.over("instance.resize_flavor", resize)
        operations += walk.over("instance.rebuild", rebuild)
        argosy.wait_until_healthy(client, made[0])
        operations += walk.over("instance.delete", delete)
        assert [one for one in operations if one["state"] != "succeeded"] == []
        for instance_id in made:
            assert client.delete(f"/instances/{instance_id}").status_code == 202
        for instance_id in made:
            argosy.wait_until_gone(client, instance_id)
        assert simulation.left() == {}
        assert walk.kills > 20
