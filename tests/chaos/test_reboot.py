"""Whatever dies while an instance is rebooted, or its agent renewed: it ends up running, with its data."""

from __future__ import annotations

import pytest

from tests.chaos.walk import LONG, CrashWalk
from tests.support.databases import connected
from tests.support.server import running

USER = {"name": "ann", "password": "walked-secret-1"}


@pytest.mark.skipif(not LONG, reason="other workflows are walked every day: ARGOSY_TEST_LONG=1")
@pytest.mark.timeout(600)
def test_a_task_manager_killed_around_steps_of_a_reboot_finishes_later() -> None:
    with running("api", "conductor") as argosy:
        walk = CrashWalk(argosy, ("taskmanager",))
        client, admin = walk.client, argosy.client("admin")
        instance = argosy.create(client, "walked", "valkey", users=[USER])
        place = (argosy, instance, USER["name"], USER["password"])
        with connected(*place) as session:
            session.write("kept", "all along")

        def begin() -> str:
            where = f"/mgmt/instances/{instance['id']}/action"
            assert admin.post(where, json={"reboot": {}}).status_code == 202
            return str(instance["id"])

        def renew() -> str:
            where = f"/mgmt/instances/{instance['id']}/upgrade"
            assert admin.post(where, json={"upgrade": {}}).status_code == 202
            return str(instance["id"])

        operations = walk.over("instance.reboot", begin, every=1)
        assert walk.kills > 3
        operations += walk.over("instance.renew_agent", renew, every=1)
        assert [one for one in operations if one["state"] != "succeeded"] == []
        argosy.wait_until_healthy(client, instance["id"])
        with connected(*place) as session:
            assert session.read() == {"kept": "all along"}
        assert argosy.leftovers(among=[instance["id"]]) == []
