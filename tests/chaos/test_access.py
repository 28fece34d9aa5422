"""Whatever dies while it is changed who may connect: the last rules asked for hold, and nobody else gets in."""

from __future__ import annotations

import socket

import pytest

from tests.chaos.walk import LONG, CrashWalk
from tests.support.server import running

NETWORKS = ("127.88.0.0/16", "127.0.0.0/16")
SOURCES = ("127.88.0.1", "127.0.0.1")


def is_heard(address: str, source: str) -> bool:
    try:
        socket.create_connection((address, 6379), timeout=0.3, source_address=(source, 0)).close()
    except TimeoutError:
        return False
    return True


@pytest.mark.skipif(not LONG, reason="other workflows are walked every day: ARGOSY_TEST_LONG=1")
@pytest.mark.timeout(600)
def test_a_task_manager_killed_around_any_step_of_a_change_of_access_finishes_later() -> None:
    with running("api", "conductor") as argosy:
        walk = CrashWalk(argosy, ("taskmanager",))
        client = walk.client
        instance = argosy.create(client, "walked", "valkey")
        asked: list[int] = []

        def begin() -> str:
            asked.append(len(asked) % 2)
            body = {"instance": {"access": {"allowed_cidrs": [NETWORKS[asked[-1]]]}}}
            assert client.put(f"/instances/{instance['id']}", json=body).status_code == 202
            return str(instance["id"])

        operations = walk.over("instance.update_access", begin, every=1)
        assert [one for one in operations if one["state"] != "succeeded"] == []
        assert walk.kills > 6
        shown = argosy.wait_until_healthy(client, instance["id"])
        assert shown["access"]["allowed_cidrs"] == [NETWORKS[asked[-1]]]
        assert is_heard(instance["ip"][0], SOURCES[asked[-1]])
        assert not is_heard(instance["ip"][0], SOURCES[1 - asked[-1]])
