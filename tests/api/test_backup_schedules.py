"""/backup_schedules: made, changed and deleted within bounds, each project its own."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from argosy.domain.backup import Backup, BackupStatus
from argosy.domain.instance import Instance
from argosy.domain.status import Report, Service
from tests.api.conftest import Api
from tests.support.server import Client

NOBODY = "00000000-0000-4000-8000-000000000000"


def made(api: Api, project_id: str, datastore: str = "postgresql", version: str = "17") -> str:
    """The row of a healthy instance."""
    now = datetime.now(UTC)
    instance = Instance(
        str(uuid.uuid4()),
        project_id,
        "shop",
        datastore,
        version,
        "2",
        1,
        now,
        now,
        access={"is_public": False},
    )
    with api.store.write() as tx:
        tx.instances.add(instance)
        tx.instances.set_address(instance.id, "127.77.1.9")
        tx.instances.report(instance.id, Report(Service.HEALTHY, 1, now))
    return instance.id


@pytest.fixture
def shop(api: Api) -> Iterator[str]:
    yield made(api, api.demo.project_id)
    with api.store.write() as tx:
        for table in ("instances", "backup_schedules", "backups", "operations", "events"):
            tx.connection.exec_driver_sql(f"DELETE FROM {table}")


def post(client: Client, instance_id: str, **asked: Any) -> httpx.Response:
    body = {"backup_schedule": {"instance_id": instance_id, **asked}}
    return client.post("/backup_schedules", json=body)


def create(client: Client, instance_id: str, **asked: Any) -> dict[str, Any]:
    answer = post(client, instance_id, **asked)
    assert answer.status_code == 201, answer.text
    schedule: dict[str, Any] = answer.json()["backup_schedule"]
    return schedule


def sentence(answer: httpx.Response, status: int) -> str:
    assert answer.status_code == status, answer.text
    (told,) = answer.json().values()
    return str(told["message"])


def test_a_schedule_is_made_shown_changed_and_deleted(api: Api, shop: str) -> None:
    schedule = create(api.demo, shop)
    assert schedule == schedule | {
        "project_id": api.demo.project_id,
        "instance_id": shop,
        "instance_name": "shop",
        "full_every": 7,
        "keep_last": 7,
        "keep_days": None,
        "verify_every_days": None,
        "enabled": True,
        "state": "waiting",
        "last_run": None,
        "last_backup_id": None,
        "last_error": None,
        "attempts": 0,
    }
    minute, hour, *rest = schedule["cron"].split()
    assert int(minute) < 60
    assert int(hour) < 6
    assert rest == ["*", "*", "*"]
    path = f"/backup_schedules/{schedule['id']}"
    assert api.demo.get(path).json()["backup_schedule"] == schedule
    assert api.demo.get("/backup_schedules").json() == {"backup_schedules": [schedule]}

    changes = {"cron": "30 3 * * SUN", "keep_last": None, "keep_days": 30, "verify_every_days": 7}
    changed = api.demo.patch(path, json={"backup_schedule": changes}).json()["backup_schedule"]
    assert changed == {**schedule, **changes, **{key: changed[key] for key in ("next_run", "updated")}}
    assert changed["next_run"].endswith("T03:30:00")
    off = api.demo.patch(path, json={"backup_schedule": {"enabled": False}}).json()["backup_schedule"]
    assert (off["state"], off["next_run"]) == ("off", None)
    assert (
        api.demo.patch(path, json={"backup_schedule": {}}).json()["backup_schedule"]["cron"]
        == changes["cron"]
    )

    assert api.demo.delete(path).status_code == 204
    assert sentence(api.demo.get(path), 404) == f"Backup schedule {schedule['id']} cannot be found."
    assert sentence(api.demo.delete(path), 404)
    told = [one["kind"] for one in api.demo.get(f"/events?instance_id={shop}").json()["events"]]
    assert told == [
        "backup_schedule.deleted",
        *["backup_schedule.changed"] * 3,
        "backup_schedule.created",
    ]


def test_the_first_backup_is_made_at_once_unless_there_is_one(api: Api, shop: str) -> None:
    first = create(api.demo, shop, cron="0 0 1 1 *")
    assert first["next_run"] == first["created"]
    now = datetime.now(UTC)
    with api.store.write() as tx:
        tx.backups.add(
            Backup(
                str(uuid.uuid4()), api.demo.project_id, "b", shop, "postgresql", "17", BackupStatus.COMPLETED,
                "directory", "c", "p", now, now,
            )
        )  # fmt: skip
    second = create(api.demo, shop, cron="0 0 1 1 *")
    assert second["next_run"].endswith("-01-01T00:00:00")


def test_what_is_wrong_is_named_with_its_bound(api: Api, shop: str) -> None:
    for asked, told in (
        ({"cron": "yearly"}, "backup_schedule.cron: 'yearly' is neither one of hourly, daily"),
        ({"cron": "0 0 30 2 *"}, "backup_schedule.cron"),
        ({"cron": ""}, "backup_schedule.cron"),
        ({"cron": 5}, "cron"),
        ({"keep_last": 0}, "backup_schedule.keep_last: it must be from 1 to 1000"),
        ({"keep_days": 10**30}, "backup_schedule.keep_days: it must be from 1 to 3650"),
        ({"full_every": -1}, "backup_schedule.full_every: it must be from 1 to 100"),
        ({"verify_every_days": 366}, "backup_schedule.verify_every_days: it must be from 1 to 365"),
        ({"keep_last": "7"}, "keep_last"),
        ({"retention": 7}, "retention"),
    ):
        assert told in sentence(post(api.demo, shop, **asked), 400), asked
    schedule = create(api.demo, shop)
    path = f"/backup_schedules/{schedule['id']}"
    wrong_changes: list[tuple[dict[str, Any], str]] = [
        ({"cron": None}, "cron: it cannot be null"),
        ({"full_every": None}, "full_every: it cannot be null"),
        ({"enabled": None}, "enabled: it cannot be null"),
        ({"keep_last": 0}, "keep_last"),
        ({"cron": "* * *"}, "cron"),
        ({"instance_id": shop}, "instance_id"),
    ]
    for change, refusal in wrong_changes:
        answer = api.demo.patch(path, json={"backup_schedule": change})
        assert refusal in sentence(answer, 400), change
    assert api.demo.get(path).json()["backup_schedule"] == schedule
    for wrong in ("x", NOBODY, "%00"):
        assert sentence(api.demo.get(f"/backup_schedules/{wrong}"), 404)
    assert sentence(post(api.demo, NOBODY), 404)


def test_a_datastore_without_incremental_backups_makes_full_ones_only(api: Api, shop: str) -> None:
    cache = made(api, api.demo.project_id, "valkey", "8")
    assert "no incremental backups" in sentence(post(api.demo, cache, full_every=2), 400)
    assert create(api.demo, cache)["full_every"] == 1


def test_an_instance_has_only_so_many_schedules(api: Api, shop: str) -> None:
    for _ in range(5):
        create(api.demo, shop)
    assert "has 5 backup schedules already" in sentence(post(api.demo, shop), 409)


def test_lists_are_paged_and_chosen_by_instance(api: Api, shop: str) -> None:
    other = made(api, api.demo.project_id)
    mine = {create(api.demo, shop)["id"] for _ in range(3)}
    theirs = create(api.demo, other)["id"]
    first = api.demo.get("/backup_schedules?limit=3").json()
    (link,) = first["links"]
    second = httpx.get(link["href"], headers=dict(api.demo.headers)).json()
    assert "links" not in second
    listed = [one["id"] for page in (first, second) for one in page["backup_schedules"]]
    assert sorted(listed) == listed
    assert set(listed) == mine | {theirs}
    chosen = api.demo.get(f"/backup_schedules?instance_id={shop}").json()["backup_schedules"]
    assert {one["id"] for one in chosen} == mine
    assert sentence(api.demo.get("/backup_schedules?limit=0"), 400)


def test_another_project_finds_none_of_it(api: Api, shop: str) -> None:
    schedule = create(api.demo, shop)
    path = f"/backup_schedules/{schedule['id']}"
    with api.store.write() as tx:
        tx.connection.exec_driver_sql("UPDATE backup_schedules SET project_id = 'other'")
    assert sentence(api.demo.get(path), 404)
    assert sentence(api.demo.patch(path, json={"backup_schedule": {"cron": "weekly"}}), 404)
    assert sentence(api.demo.delete(path), 404)
    assert api.demo.get("/backup_schedules").json() == {"backup_schedules": []}
    assert api.admin.get(path).status_code == 200


def test_an_instance_is_made_with_a_schedule(api: Api, shop: str) -> None:
    body = {
        "name": "crm", "flavorRef": "2", "volume": {"size": 1}, "datastore": {"type": "mariadb"},
        "backup_schedule": {"cron": "weekly", "keep_last": 3},
    }  # fmt: skip
    answer = api.demo.post("/instances", json={"instance": body})
    assert answer.status_code == 200, answer.text
    instance_id = answer.json()["instance"]["id"]
    (schedule,) = api.demo.get(f"/backup_schedules?instance_id={instance_id}").json()["backup_schedules"]
    assert (schedule["keep_last"], schedule["next_run"]) == (3, schedule["created"])
    body["backup_schedule"] = {"cron": "never"}
    assert "backup_schedule.cron" in sentence(api.demo.post("/instances", json={"instance": body}), 400)
    listed = api.demo.get("/instances").json()["instances"]
    assert sorted(one["name"] for one in listed) == ["crm", "shop"]
