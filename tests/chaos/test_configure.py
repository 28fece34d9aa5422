"""Whatever dies while a configuration group is applied: every instance ends up with its values."""

from __future__ import annotations

import pytest

from tests.chaos.walk import LONG, CrashWalk
from tests.support.live_settings import Root
from tests.support.server import running, wait_until


@pytest.mark.skipif(
    not LONG, reason="tests/chaos/test_two_of_each.py kills in it every day: ARGOSY_TEST_LONG=1"
)
@pytest.mark.timeout(600)
def test_a_task_manager_killed_around_any_step_of_applying_a_group_finishes_later() -> None:
    with running("api", "conductor") as argosy:
        walk = CrashWalk(argosy, ("taskmanager",))
        client = walk.client
        instance = argosy.create(client, "walked", "valkey")
        path = f"/instances/{instance['id']}"
        root = Root(argosy, client, instance)
        datastore = {"type": "valkey", "version": instance["datastore"]["version"]}
        body = {"configuration": {"name": "group", "values": {"timeout": 100}, "datastore": datastore}}
        # What may be set is published a moment after the software is there.
        answer = wait_until(
            "the parameters are known",
            lambda: (made := client.post("/configurations", json=body)).is_success and made,
        )
        group = answer.json()["configuration"]["id"]
        assert client.put(path, json={"instance": {"configuration": group}}).status_code == 202
        walk.wait_until_ended(instance["id"], "instance.configure")
        timeout = 100

        def begin() -> str:
            nonlocal timeout
            timeout += 1
            change = {"configuration": {"values": {"timeout": timeout}}}
            assert client.patch(f"/configurations/{group}", json=change).status_code == 200
            return str(instance["id"])

        operations = walk.over("instance.configure", begin, every=1)
        assert [one for one in operations if one["state"] != "succeeded"] == []
        assert walk.kills > 6
        argosy.wait_until_healthy(client, instance["id"])
        assert client.get(path).json()["instance"]["argosy"]["configuration"]["state"] == "applied"
        assert root.setting("timeout") == str(timeout)
        # Each change was applied once, though the process died after applying it.
        events = client.get("/events", params={"instance_id": instance["id"], "limit": 100}).json()["events"]
        applied = [one["message"] for one in events if one["kind"] == "configuration.applied"]
        assert len(applied) == len(set(applied)) == timeout - 99
