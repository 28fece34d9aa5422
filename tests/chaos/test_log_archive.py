"""A task manager killed around any step of switching the archive of a log on or off: it is what was asked for."""

from __future__ import annotations

import sqlite3
from contextlib import closing

import pytest

from tests.chaos.walk import LONG, CrashWalk
from tests.support.backups import made
from tests.support.server import running


@pytest.mark.timeout(900)
@pytest.mark.skipif(not LONG, reason="ARGOSY_TEST_LONG is not set")
@pytest.mark.parametrize("datastore", ["postgresql", "mariadb"])
def test_switching_the_archive_of_a_log(datastore: str) -> None:
    with running("api", "conductor") as argosy:
        walk = CrashWalk(argosy, ("taskmanager",))
        client = walk.client
        instance_id = made(argosy, client, "walked", datastore, flavorRef="1")["id"]
        path = f"/instances/{instance_id}/log_archive"

        def flip() -> str:
            mode = "off" if client.get(path).json()["log_archive"]["archiving"] else "on"
            answer = client.put(path, json={"log_archive": {"mode": mode}})
            assert answer.status_code == 202, answer.text
            return str(instance_id)

        operations = walk.over("instance.archive_logs", flip)
        assert [one for one in operations if one["state"] != "succeeded"] == []
        assert walk.kills >= 8
        with closing(sqlite3.connect(argosy.home / "argosy.db")) as database:
            archives = database.execute("SELECT ended_at FROM log_archives").fetchall()
            grants = database.execute("SELECT * FROM grants").fetchall()
        # Each was begun once, and all but the one that goes on have ended, with the right to write to them.
        going_on = [one for one in archives if one[0] is None]
        assert len(archives) == (len(operations) + 1) // 2
        assert len(grants) == len(going_on) <= 1
