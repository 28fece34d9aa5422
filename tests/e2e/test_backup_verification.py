"""Backups are proved by restoring them: what is whole passes, what is not is found out, and nothing stays of it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

import pytest
import sqlalchemy as sa

from argosy.metadata.store import Store
from argosy.storage.backup_directory import DirectoryBackups
from argosy.storage.directory import DirectoryStore
from argosy.taskmanager import scheduled_backups
from tests.support.backups import Shop, back_up, delete_backup, made, wait_until_done
from tests.support.server import Client, Server, wait_until

ENDED = {"succeeded", "failed"}


@pytest.fixture
def store(argosy: Server) -> Iterator[Store]:
    opened = Store(argosy.settings.database_url)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def shop(argosy: Server, demo: Client) -> Iterator[dict[str, Any]]:
    instance = made(argosy, demo, "proved", "valkey", flavorRef="1")
    with closing(Shop(argosy, instance)) as keys:
        keys.put(1, 2, 3)
    yield instance
    demo.delete(f"/instances/{instance['id']}")
    argosy.wait_until_gone(demo, instance["id"])


@pytest.fixture
def backup(demo: Client, shop: dict[str, Any]) -> Iterator[dict[str, Any]]:
    made = back_up(demo, shop["id"])
    assert made["status"] == "COMPLETED", made["argosy"]["error"]
    yield made
    delete_backup(demo, made["id"])


def verify(demo: Client, backup_id: str) -> dict[str, Any]:
    """Begin it and wait; returns the operation."""
    answer = demo.post(f"/backups/{backup_id}/verify")
    assert answer.status_code == 202, answer.text
    return ended(demo, answer.json()["verification"]["operation_id"])


def ended(demo: Client, operation_id: str) -> dict[str, Any]:
    def look() -> dict[str, Any] | None:
        shown: dict[str, Any] = demo.get(f"/operations/{operation_id}").json()["operation"]
        return shown if shown["state"] in ENDED else None

    operation: dict[str, Any] = wait_until("the verification ends", look, 180)
    return operation


def shown(demo: Client, backup_id: str) -> dict[str, Any]:
    backup: dict[str, Any] = demo.get(f"/backups/{backup_id}").json()["backup"]
    assert backup["status"] == "COMPLETED"
    argosys: dict[str, Any] = backup["argosy"]
    return argosys


def nothing_stays(argosy: Server, store: Store) -> None:
    with store.read() as tx:
        left = [one for one in tx.instances.all() if one.project_id == "argosy"]
        there = [one.id for one in tx.instances.all()]
        grants = tx.connection.execute(sa.text("select count(*) from grants where operation_id is not null"))
        assert grants.scalar() == 0
    assert left == []
    assert argosy.leftovers(among=there) == []


def test_a_whole_backup_is_proved_and_its_restore_timed(
    argosy: Server, demo: Client, store: Store, shop: dict[str, Any], backup: dict[str, Any]
) -> None:
    assert shown(demo, backup["id"])["last_verified"] is None
    instances = demo.get("/instances").json()["instances"]
    used = demo.get(f"/mgmt/quotas/{demo.project_id}").json()
    answer = demo.post(f"/backups/{backup['id']}/verify")
    operation_id = answer.json()["verification"]["operation_id"]
    assert demo.delete(f"/backups/{backup['id']}").status_code == 422
    assert demo.post(f"/backups/{backup['id']}/verify").status_code == 422
    assert demo.get("/instances").json()["instances"] == instances
    assert demo.get(f"/mgmt/quotas/{demo.project_id}").json() == used
    operation = ended(demo, operation_id)
    assert operation["state"] == "succeeded", operation["error"]
    found = shown(demo, backup["id"])
    assert found["verified"] is True
    assert found["last_verified"] is not None
    assert found["verification"]["problems"] == []
    assert found["restore_seconds"] > 0
    told = demo.get(f"/events?instance_id={shop['id']}&kind=backup.verified").json()["events"]
    assert "its data is whole" in told[0]["message"]
    nothing_stays(argosy, store)


@pytest.mark.skipif(not os.environ.get("ARGOSY_TEST_LONG"), reason="ARGOSY_TEST_LONG is not set")
@pytest.mark.parametrize("datastore", ["mariadb", "postgresql"])
def test_a_chain_is_proved_when_its_instance_is_gone_and_changed_rows_are_found_out(
    argosy: Server, demo: Client, store: Store, datastore: str
) -> None:
    instance = made(argosy, demo, f"chain-{datastore}", datastore)
    with closing(Shop(argosy, instance)) as shop:
        shop.put(1, 2)
        back_up(demo, instance["id"])
        shop.put(3)
        newest = back_up(demo, instance["id"], "newest", incremental=1)
    assert newest["parent_id"] is not None
    demo.delete(f"/instances/{instance['id']}")
    argosy.wait_until_gone(demo, instance["id"])
    operation = verify(demo, newest["id"])
    assert operation["state"] == "succeeded", operation["error"]
    assert shown(demo, newest["id"])["verified"] is True
    nothing_stays(argosy, store)

    with store.write() as tx:
        facts = json.dumps(dict(tx.backups.get(newest["id"]).facts))
        assert "shop" in facts
        tx.backups.note(newest["id"], facts=_one_more(json.loads(facts)))
    operation = verify(demo, newest["id"])
    assert operation["state"] == "failed"
    assert shown(demo, newest["id"])["verified"] is False
    nothing_stays(argosy, store)
    delete_backup(demo, newest["parent_id"])


def _one_more(facts: dict[str, Any]) -> dict[str, Any]:
    """Every count of rows is one more than it was."""

    def raised(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: raised(each) for key, each in value.items()}
        return value + 1 if type(value) is int else value

    return {**facts, "fingerprint": raised(facts["fingerprint"])}


def test_other_data_than_was_backed_up_is_found_out(
    argosy: Server, demo: Client, store: Store, backup: dict[str, Any]
) -> None:
    with store.write() as tx:
        facts = json.loads(json.dumps(dict(tx.backups.get(backup["id"]).facts)))
        facts["fingerprint"]["keys"] = {
            name: [every + 1, expiring] for name, (every, expiring) in facts["fingerprint"]["keys"].items()
        }
        tx.backups.note(backup["id"], facts=facts)
    operation = verify(demo, backup["id"])
    assert operation["state"] == "failed"
    assert "keys" in operation["error"]
    found = shown(demo, backup["id"])
    assert found["verified"] is False
    assert "keys" in found["verification"]["problems"][0]
    nothing_stays(argosy, store)


def test_a_damaged_archive_is_found_out_and_the_next_backup_is_good(
    argosy: Server, demo: Client, store: Store, shop: dict[str, Any], backup: dict[str, Any]
) -> None:
    damage(argosy, store, backup["id"])
    operation = verify(demo, backup["id"])
    assert operation["state"] == "failed"
    assert operation["error_code"] == "backup-unusable"
    found = shown(demo, backup["id"])
    assert found["verified"] is False
    assert found["verification"]["problems"] == [operation["error"]]
    assert demo.get(f"/instances/{shop['id']}").json()["instance"]["status"] == "ACTIVE"
    nothing_stays(argosy, store)
    other = back_up(demo, shop["id"], "after")
    assert verify(demo, other["id"])["state"] == "succeeded"
    delete_backup(demo, other["id"])


def test_a_backup_by_schedule_is_made_at_once_and_proved_by_itself(
    argosy: Server, demo: Client, store: Store, shop: dict[str, Any]
) -> None:
    asked = {"instance_id": shop["id"], "cron": "daily", "keep_last": 1, "verify_every_days": 7}
    answer = demo.post("/backup_schedules", json={"backup_schedule": asked})
    assert answer.status_code == 201, answer.text
    path = f"/backup_schedules/{answer.json()['backup_schedule']['id']}"

    def succeeded() -> Any:
        return demo.get(path).json()["backup_schedule"]["last_backup_id"]

    first = wait_until("the first backup is made", succeeded, 120)
    assert wait_until_done(demo, first)["argosy"]["schedule_id"] == path.rpartition("/")[2]
    scheduled_backups.verify(store)
    wait_until("it is proved", lambda: shown(demo, first)["verified"], 180)
    wait_until("its verification has ended", lambda: "backup.verify" not in running_kinds(demo))
    nothing_stays(argosy, store)
    scheduled_backups.verify(store)
    assert "backup.verify" not in running_kinds(demo)

    # The next one takes the first away.
    with store.write() as tx:
        tx.backup_schedules.note(path.rpartition("/")[2], next_run_at=datetime.now(UTC))
    second = wait_until("the second backup is made", lambda: (now := succeeded()) != first and now, 120)
    wait_until("the first is gone", lambda: demo.get(f"/backups/{first}").status_code == 404)
    assert demo.delete(path).status_code == 204
    delete_backup(demo, second)


def running_kinds(demo: Client) -> list[str]:
    return [one["kind"] for one in demo.get("/operations?state=running").json()["operations"]]


def damage(argosy: Server, store: Store, backup_id: str) -> None:
    """One bit of its first chunk is another."""
    with store.read() as tx:
        backup = tx.backups.get(backup_id)
    kept = DirectoryBackups(DirectoryStore(argosy.home / "backups"), "https://nowhere", b"")
    name = f"{backup.prefix}chunk-00000000"
    content = bytearray(kept.get(backup.container, name))
    content[len(content) // 2] ^= 1
    kept.put(backup.container, name, bytes(content))
