"""Whatever the store does, and whatever becomes of what lies in it: a reason is told, and nothing else is harmed."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.backups import Shop, back_up, delete_backup, made, restore_in_place, wait_until_done
from tests.support.faulty_conductor import Faults, How
from tests.support.server import Client, Server, running, wait_until

LONG = bool(os.environ.get("ARGOSY_TEST_LONG"))
ENGINES = ["valkey", "mariadb", "postgresql"] if LONG else ["valkey"]


@dataclass
class Site:
    """An Argosy whose store can be made to fail, and an instance in it with a number that is never lost."""

    argosy: Server
    demo: Client
    faults: Faults
    instance: dict[str, Any]

    @property
    def id(self) -> str:
        return str(self.instance["id"])

    def numbers(self) -> list[int]:
        with closing(Shop(self.argosy, self.instance)) as shop:
            return shop.numbers()

    def back_up(self) -> dict[str, Any]:
        return back_up(self.demo, self.id)

    def begin(self) -> str:
        answer = self.demo.post("/backups", json={"backup": {"name": "nightly", "instance": self.id}})
        assert answer.status_code == 202, answer.text
        return str(answer.json()["backup"]["id"])

    def objects(self, backup: dict[str, Any]) -> dict[str, Path]:
        """The files of a backup's objects, by what is after its prefix."""
        store = self.argosy.home / "backups"
        with closing(sqlite3.connect(f"file:{store}/index.db?mode=ro", uri=True)) as index:
            rows = index.execute("SELECT name, file FROM objects").fetchall()
        prefix = f"{self.id}/{backup['id']}/"
        return {
            name.removeprefix(prefix): store / "files" / file[:2] / file
            for name, file in rows
            if name.startswith(prefix)
        }

    def check_all_is_well(self) -> None:
        """The instance serves what it has, no access is left, and the next backup works."""
        self.argosy.wait_until_healthy(self.demo, self.id)
        assert self.numbers() == [1]
        with closing(sqlite3.connect(self.argosy.home / "argosy.db")) as database:
            assert database.execute("SELECT * FROM grants").fetchall() == []
        backup = self.back_up()
        assert backup["status"] == "COMPLETED", backup["argosy"]["error"]
        delete_backup(self.demo, backup["id"])

    def check_failed(self, backup: dict[str, Any], why: str) -> None:
        assert backup["status"] == "FAILED"
        assert why in backup["argosy"]["error"]
        wait_until("nothing of it is in the store", lambda: not self.objects(backup))
        delete_backup(self.demo, backup["id"])
        self.check_all_is_well()


@pytest.fixture(scope="module", params=ENGINES)
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    with running("api", "taskmanager") as argosy:
        argosy.module = "tests.support.faulty_conductor"
        faults = Faults(argosy.home)
        argosy.start("conductor")
        demo = argosy.client()
        instance = made(argosy, demo, "kept", request.param, flavorRef="1")
        with closing(Shop(argosy, instance)) as shop:
            shop.put(1)
        yield Site(argosy, demo, faults, instance)
        assert argosy.leftovers(among=[instance["id"]]) == []


@pytest.fixture
def impatient(site: Site) -> Iterator[Site]:
    """Its guests wait three seconds for a store that is away."""
    for patience in ("3", None):
        site.argosy.environment.pop("ARGOSY_BACKUPS__PATIENCE_S", None)
        if patience is not None:
            site.argosy.environment["ARGOSY_BACKUPS__PATIENCE_S"] = patience
        site.argosy.kill("taskmanager")
        site.argosy.start("taskmanager")
        if patience is not None:
            yield site


@pytest.mark.parametrize("how", [500, "cut", "slow"])
def test_a_store_that_stumbles_is_only_waited_for(site: Site, how: How) -> None:
    times = 10 if how == "slow" else 2
    with (
        site.faults.fault("PUT", "chunk-", how, times=times) as chunk,
        site.faults.fault("PUT", "manifest", how, times=1) as manifest,
        site.faults.fault("POST", "/v1/urls", 503, times=1),
    ):
        backup = site.back_up()
        assert backup["status"] == "COMPLETED", backup["argosy"]["error"]
        assert chunk.hits
        assert manifest.hits == 1
    with (
        site.faults.fault("GET", "chunk-", how, times=times) as chunk,
        site.faults.fault("POST", "/v1/urls", 503, times=1),
    ):
        operation = restore_in_place(site.argosy, site.demo, site.id, backup=backup["id"])
        assert operation["state"] == "succeeded", operation["error"]
        assert chunk.hits
    delete_backup(site.demo, backup["id"])
    site.check_all_is_well()


@pytest.mark.parametrize(
    ("method", "path", "how", "why"),
    [
        ("PUT", "chunk-", 507, "no room"),
        ("PUT", "manifest", 413, "manifest.json cannot be written: the store answered 413"),
    ],
)
def test_a_store_that_refuses_fails_the_backup_with_the_reason(
    site: Site, method: str, path: str, how: How, why: str
) -> None:
    with site.faults.fault(method, path, how):
        backup = site.back_up()
    site.check_failed(backup, why)


def test_a_store_that_stays_away_fails_the_backup_with_the_reason(impatient: Site) -> None:
    with impatient.faults.fault("PUT", "chunk-", 500):
        backup = impatient.back_up()
    impatient.check_failed(backup, "did not work for 3 seconds: the store answered 500")
    with impatient.faults.fault("POST", "/v1/urls", 503):
        backup = impatient.back_up()
    impatient.check_failed(backup, "the conductor answered 503")


@pytest.mark.skipif(not LONG, reason="a request is given a minute: ARGOSY_TEST_LONG=1")
def test_a_store_that_never_answers_fails_the_backup(impatient: Site) -> None:
    with impatient.faults.fault("PUT", "chunk-", "hold"):
        backup = impatient.back_up()
    impatient.check_failed(backup, "timed out")


def flip(objects: dict[str, Path], _other: dict[str, Path]) -> None:
    content = bytearray(objects["chunk-00000000"].read_bytes())
    content[len(content) // 2] ^= 1
    objects["chunk-00000000"].write_bytes(content)


def cut(objects: dict[str, Path], _other: dict[str, Path]) -> None:
    # The index still has the former size.
    content = objects["chunk-00000000"].read_bytes()
    objects["chunk-00000000"].write_bytes(content[:-1])


def lose(objects: dict[str, Path], _other: dict[str, Path]) -> None:
    objects["chunk-00000000"].unlink()


def swap(objects: dict[str, Path], other: dict[str, Path]) -> None:
    shutil.copyfile(other["chunk-00000000"], objects["chunk-00000000"])


def lose_the_manifest(objects: dict[str, Path], _other: dict[str, Path]) -> None:
    objects["manifest.json"].unlink()


def take_anothers_manifest(objects: dict[str, Path], other: dict[str, Path]) -> None:
    shutil.copyfile(other["manifest.json"], objects["manifest.json"])


@pytest.mark.parametrize(
    ("harm", "why"),
    [
        (flip, "chunk-00000000 of archive"),
        (cut, "is damaged: it has"),
        (lose, "chunk-00000000 of archive"),
        (swap, "chunk-00000000 of archive"),
        (lose_the_manifest, "manifest.json of archive"),
        (take_anothers_manifest, "does not go with its key"),
    ],
)
def test_what_was_harmed_in_the_store_is_not_restored(
    site: Site, harm: Callable[[dict[str, Path], dict[str, Path]], None], why: str
) -> None:
    backup, other = site.back_up(), site.back_up()
    harm(site.objects(backup), site.objects(other))
    operation = restore_in_place(site.argosy, site.demo, site.id, backup=backup["id"])
    assert operation["state"] == "failed"
    assert why in operation["error"]
    assert site.numbers() == [1]
    point = {"name": "again", "restorePoint": {"backupRef": backup["id"]}}
    created = site.demo.post("/instances", json={"instance": point}).json()["instance"]["id"]

    def failed() -> dict[str, Any] | None:
        shown: dict[str, Any] = site.demo.get(f"/instances/{created}").json()["instance"]
        return shown if shown["status"] == "ERROR" else None

    assert why in wait_until("the new one has failed", failed, 120)["fault"]["message"]
    site.demo.delete(f"/instances/{created}")
    site.argosy.wait_until_gone(site.demo, created)
    for one in (backup, other):
        delete_backup(site.demo, one["id"])
    site.check_all_is_well()


def test_a_key_that_is_not_in_the_ring_is_told_and_can_be_put_back(site: Site) -> None:
    backup = site.back_up()
    (key,) = (site.argosy.home / "secrets" / "backup-keys").glob("*.key")
    away = key.with_suffix(".away")
    key.rename(away)
    try:
        operation = restore_in_place(site.argosy, site.demo, site.id, backup=backup["id"])
        assert operation["state"] == "failed"
        assert "is not in the key ring" in operation["error"]
    finally:
        away.rename(key)
    operation = restore_in_place(site.argosy, site.demo, site.id, backup=backup["id"])
    assert operation["state"] == "succeeded", operation["error"]
    delete_backup(site.demo, backup["id"])
    site.check_all_is_well()


@pytest.mark.parametrize("victim", ["agent", "server", "taskmanager", "conductor"])
def test_whatever_is_killed_in_the_middle_of_a_backup(site: Site, victim: str) -> None:
    """It is made all the same, or fails with a reason, when the database server itself was killed."""
    with site.faults.fault("PUT", "chunk-", "hold") as held:
        backup_id = site.begin()
        wait_until("the first chunk is on its way", lambda: held.hits)
        kill(site, victim)
        if victim == "agent":
            wait_until("there is another agent", lambda: site.argosy.agent_pid(site.id), 120)
    backup = wait_until_done(site.demo, backup_id)
    if victim == "server":
        assert backup["status"] == "COMPLETED" or backup["argosy"]["error"]
    else:
        assert backup["status"] == "COMPLETED", backup["argosy"]["error"]
        operation = restore_in_place(site.argosy, site.demo, site.id, backup=backup_id)
        assert operation["state"] == "succeeded", operation["error"]
    delete_backup(site.demo, backup_id)
    site.check_all_is_well()


@pytest.mark.parametrize("victim", ["agent", "server", "taskmanager", "conductor"])
def test_whatever_is_killed_in_the_middle_of_a_restore(site: Site, victim: str) -> None:
    backup = site.back_up()
    with site.faults.fault("GET", "chunk-", "hold") as held:
        answer = site.demo.post(f"/instances/{site.id}/action", json={"restore": {"backup": backup["id"]}})
        assert answer.status_code == 202, answer.text
        wait_until("the first chunk is asked for", lambda: held.hits)
        kill(site, victim)
        if victim == "agent":
            wait_until("there is another agent", lambda: site.argosy.agent_pid(site.id), 120)

    def ended() -> dict[str, Any] | None:
        where = f"/operations?instance_id={site.id}&kind=instance.restore"
        newest: dict[str, Any] = site.demo.get(where).json()["operations"][0]
        return newest if newest["state"] in {"succeeded", "failed"} else None

    operation = wait_until("the restore ends", ended, 120)
    assert operation["state"] == "succeeded", operation["error"]
    delete_backup(site.demo, backup["id"])
    site.check_all_is_well()


def kill(site: Site, victim: str) -> None:
    if victim in {"agent", "server"}:
        pid = site.argosy.agent_pid(site.id) if victim == "agent" else site.argosy.server_pid(site.id)
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
    else:
        site.argosy.kill(victim)
        site.argosy.start(victim)
