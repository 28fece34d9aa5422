"""Whatever dies while an instance gets another size: it has that size in the end, everywhere, and serves.

Every step is walked, with ARGOSY_TEST_LONG set.
"""

from __future__ import annotations

import os

import pytest

from tests.chaos.walk import LONG, CrashWalk
from tests.e2e.test_resize import agrees, made, place, show
from tests.support.server import Server, running
from tests.support.writer import writing

MEMORY_MB = {"1": 256, "2": 512}


@pytest.mark.timeout(900)
@pytest.mark.skipif(
    not LONG, reason="tests/chaos/test_two_of_each.py kills in it every day: ARGOSY_TEST_LONG=1"
)
def test_a_task_manager_killed_around_steps_of_resizes_finishes_later_while_a_client_writes() -> None:
    with running("api", "conductor") as argosy:
        walk = CrashWalk(argosy, ("taskmanager",))
        instance = made(argosy, walk.client, "valkey")
        with writing(place(argosy, instance)) as writer:
            walk_volume(argosy, walk, instance["id"])
            walk_flavor(argosy, walk, instance["id"])
            writer.goes_on()
            assert writer.failures == []
        assert writer.missing() == []


def walk_volume(argosy: Server, walk: CrashWalk, instance_id: str) -> None:
    size_gb, kills = 1, walk.kills

    def begin() -> str:
        nonlocal size_gb
        size_gb += 1
        answer = walk.client.post(
            f"/instances/{instance_id}/action", json={"resize": {"volume": {"size": size_gb}}}
        )
        assert answer.status_code == 202, answer.text
        return instance_id

    operations = walk.over("instance.resize_volume", begin)
    assert [one for one in operations if one["state"] != "succeeded"] == []
    assert walk.kills - kills >= 4
    argosy.wait_until_healthy(walk.client, instance_id)
    shown = show(walk.client, instance_id)
    assert shown["volume"]["size"] == size_gb
    if os.geteuid() == 0:
        assert shown["argosy"]["limits"]["volume"] == f"file system of its own, {size_gb} GB"


def walk_flavor(argosy: Server, walk: CrashWalk, instance_id: str) -> None:
    flavor, kills = "2", walk.kills

    def begin() -> str:
        nonlocal flavor
        flavor = "1" if flavor == "2" else "2"
        answer = walk.client.post(f"/instances/{instance_id}/action", json={"resize": {"flavorRef": flavor}})
        assert answer.status_code == 202, answer.text
        return instance_id

    operations = walk.over("instance.resize_flavor", begin)
    assert [one for one in operations if one["state"] != "succeeded"] == []
    assert walk.kills - kills >= 4
    argosy.wait_until_healthy(walk.client, instance_id)
    agrees(argosy, walk.client, instance_id, flavor, MEMORY_MB[flavor])
