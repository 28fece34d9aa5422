"""Whatever dies while a backup is made, used or deleted: it is done later, and nothing is left of the first attempt."""

from __future__ import annotations

import os
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import pytest

from argosy.domain.operations import VerifyBackup
from argosy.taskmanager.steps import verification
from tests.chaos.walk import LONG, CrashWalk
from tests.support.backups import Shop, back_up, delete_backup, made
from tests.support.server import Client, Server, running, wait_until

ENGINES = ["valkey", "mariadb", "postgresql"] if LONG else ["valkey"]
EVERY = 1 if LONG else 5


@dataclass
class Site:
    """An instance with a number in it, and a task manager that dies."""

    argosy: Server
    walk: CrashWalk
    client: Client
    instance: dict[str, Any]

    @property
    def id(self) -> str:
        return str(self.instance["id"])

    def numbers(self, instance: dict[str, Any]) -> list[int]:
        with closing(Shop(self.argosy, instance)) as shop:
            return shop.numbers()

    def backups(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.client.get(f"/backups?instance_id={self.id}").json()["backups"]
        return found

    def stored(self) -> set[str]:
        """The backups that the store holds anything of."""
        with closing(sqlite3.connect(self.argosy.home / "backups" / "index.db")) as index:
            return {name.split("/")[1] for (name,) in index.execute("SELECT name FROM objects")}

    def grants(self) -> list[Any]:
        with closing(sqlite3.connect(self.argosy.home / "argosy.db")) as database:
            return database.execute("SELECT * FROM grants").fetchall()

    def tidy(self) -> bool:
        """Nothing on the volume but the data."""
        volume = self.argosy.home / "instances" / self.id / "volume"
        return not {"restore", "data.replaced", "backup"} & {one.name for one in volume.iterdir()}


@pytest.fixture(scope="module", params=ENGINES)
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    with running("api", "conductor") as argosy:
        walk = CrashWalk(argosy, ("taskmanager",))
        client = walk.client
        instance = made(argosy, client, "walked", request.param, flavorRef="1")
        with closing(Shop(argosy, instance)) as shop:
            shop.put(1)
        yield Site(argosy, walk, client, instance)
        assert argosy.leftovers(among=[instance["id"]]) == []


def walk_over(site: Site, kind: str, begin: Any, at_least: int, every: int = EVERY) -> None:
    before = site.walk.kills
    operations = site.walk.over(kind, begin, every=every)
    assert [one for one in operations if one["state"] != "succeeded"] == []
    assert site.walk.kills - before >= at_least
    assert site.grants() == []


@pytest.mark.timeout(900)
def test_a_task_manager_killed_around_any_step_of_a_backup(site: Site) -> None:
    def begin() -> str:
        answer = site.client.post("/backups", json={"backup": {"name": "walked", "instance": site.id}})
        assert answer.status_code == 202, answer.text
        return site.id

    walk_over(site, "backup.create", begin, 10 if LONG else 2)
    made = site.backups()
    assert {one["status"] for one in made} == {"COMPLETED"}
    assert site.stored() == {one["id"] for one in made}
    for one in made:
        delete_backup(site.client, one["id"])


@pytest.mark.timeout(900)
def test_a_task_manager_killed_around_any_step_of_a_deletion(site: Site) -> None:
    def begin() -> None:
        backup = back_up(site.client, site.id)
        assert site.client.delete(f"/backups/{backup['id']}").status_code == 202

    walk_over(site, "backup.delete", begin, 4 if LONG else 1)
    assert site.backups() == []
    assert site.stored() == set()


@pytest.mark.timeout(900)
def test_a_task_manager_killed_around_any_step_of_a_restore_in_place(site: Site) -> None:
    backup = back_up(site.client, site.id)

    def begin() -> str:
        with closing(Shop(site.argosy, site.instance)) as shop:
            shop.put(2)
        answer = site.client.post(f"/instances/{site.id}/action", json={"restore": {"backup": backup["id"]}})
        assert answer.status_code == 202, answer.text
        return site.id

    walk_over(site, "instance.restore", begin, 8 if LONG else 2)
    site.argosy.wait_until_healthy(site.client, site.id)
    assert site.numbers(site.instance) == [1]
    wait_until("only the data is on the volume", site.tidy)
    delete_backup(site.client, backup["id"])


@pytest.mark.skipif(not LONG, reason="restores in place are walked every day: ARGOSY_TEST_LONG=1")
@pytest.mark.timeout(900)
def test_a_task_manager_killed_around_any_step_of_a_create_from_a_backup(site: Site) -> None:
    backup = back_up(site.client, site.id)
    created: list[str] = []

    def begin() -> str:
        body = {"name": "again", "restorePoint": {"backupRef": backup["id"]}}
        answer = site.client.post("/instances", json={"instance": body})
        assert answer.status_code == 200, answer.text
        created.append(answer.json()["instance"]["id"])
        return created[-1]

    walk_over(site, "instance.create", begin, 12 if LONG else 2, 1 if LONG else 12)
    for instance_id in created:
        assert site.numbers(site.argosy.wait_until_healthy(site.client, instance_id)) == [1]
        site.client.delete(f"/instances/{instance_id}")
    for instance_id in created:
        site.argosy.wait_until_gone(site.client, instance_id)
    delete_backup(site.client, backup["id"])


@pytest.mark.skipif(not LONG, reason="restores in place are walked every day: ARGOSY_TEST_LONG=1")
@pytest.mark.timeout(900)
def test_a_task_manager_killed_around_any_step_of_a_verification(site: Site) -> None:
    backup = back_up(site.client, site.id)

    def begin() -> None:
        assert site.client.post(f"/backups/{backup['id']}/verify").status_code == 202

    walk_over(site, "backup.verify", begin, 18 if LONG else 2, 1 if LONG else 14)
    (proved,) = site.backups()
    assert proved["argosy"]["verified"] is True
    wait_until("no server is left of it", lambda: site.argosy.leftovers(among=[site.id]) == [])
    with closing(sqlite3.connect(site.argosy.home / "argosy.db")) as database:
        assert database.execute("SELECT * FROM instances WHERE project_id = 'argosy'").fetchall() == []
    delete_backup(site.client, backup["id"])


@pytest.mark.timeout(900)
def test_the_agent_killed_while_a_backup_is_tried_is_booted_again_and_finishes(site: Site) -> None:
    backup = back_up(site.client, site.id)
    operation_id = site.client.post(f"/backups/{backup['id']}/verify").json()["verification"]["operation_id"]
    stand_in = verification.stand_in_of(VerifyBackup(operation_id, backup["id"]))

    def shown() -> dict[str, Any]:
        operation: dict[str, Any] = site.client.get(f"/operations/{operation_id}").json()["operation"]
        return operation

    agent = wait_until("its agent runs", lambda: shown()["step"] >= 3 and site.argosy.agent_pid(stand_in))
    os.kill(agent, signal.SIGKILL)
    wait_until("it ends", lambda: shown()["ended"], 120)
    assert shown()["state"] == "succeeded", shown()["error"]
    assert site.argosy.leftovers(among=[site.id]) == []
    delete_backup(site.client, backup["id"])
