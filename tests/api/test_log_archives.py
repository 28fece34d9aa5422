"""/instances/{id}/log_archive, and restores to a moment: what is shown, and what is refused with which reason."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from argosy.domain.backup import Backup, BackupStatus
from argosy.domain.log_archive import LogArchive, Segment
from tests.api.conftest import Api
from tests.api.test_backup_schedules import NOBODY, made
from tests.support.server import Client

NOON = datetime(2026, 11, 28, 12, tzinfo=UTC)
MIB = 2**20


def at(minutes: float) -> datetime:
    return NOON + timedelta(minutes=minutes)


@pytest.fixture
def shop(api: Api) -> Iterator[str]:
    yield made(api, api.demo.project_id)
    with api.store.write() as tx:
        for table in (
            "instances", "backups", "operations", "events", "log_archives", "log_segments", "log_stretches",
            "log_archive_choices",
        ):  # fmt: skip
            tx.connection.exec_driver_sql(f"DELETE FROM {table}")


def with_log(api: Api, instance_id: str) -> str:
    """A backup of 12:10, log until 12:30, then a gap, a backup of 12:40, log until 12:50."""
    project_id = api.demo.project_id
    backups = [backup(project_id, instance_id, 10, 100), backup(project_id, instance_id, 40, 500)]
    archive = LogArchive(
        str(uuid.uuid4()), api.demo.project_id, instance_id, "postgresql", "17", "directory", "c", "p/", at(0)
    )
    with api.store.write() as tx:
        for one in backups:
            tx.backups.add(one)
        tx.log_archives.add(archive)
        for segment, until in (((50, 200), 20), ((200, 300), 30), ((400, 600), 50)):
            tx.log_archives.take(archive.id, Segment(f"s{segment[0]}", *segment, MIB))
            tx.log_archives.told(archive.id, lag_bytes=7, until=at(until), error=None)
    return backups[0].id


def backup(project_id: str, instance_id: str, minutes: float, log_from: int) -> Backup:
    consistent_at = at(minutes) + timedelta(seconds=0.25)
    return Backup(
        id=str(uuid.uuid4()), project_id=project_id, name="b", instance_id=instance_id, datastore="postgresql", version="17",
        status=BackupStatus.COMPLETED, store="directory", container="c", prefix="p/", created_at=at(minutes - 1),
        updated_at=at(minutes), volume_gb=1, data_bytes=MIB,
        facts={"log_from": log_from, "consistent_at": consistent_at.isoformat(), "position": f"0/{log_from:X}"},
    )  # fmt: skip


def show(client: Client, instance_id: str) -> dict[str, Any]:
    answer = client.get(f"/instances/{instance_id}/log_archive")
    assert answer.status_code == 200, answer.text
    shown: dict[str, Any] = answer.json()["log_archive"]
    return shown


def switch(client: Client, instance_id: str, mode: Any) -> httpx.Response:
    return client.put(f"/instances/{instance_id}/log_archive", json={"log_archive": {"mode": mode}})


def restore(client: Client, instance_id: str, **asked: Any) -> httpx.Response:
    return client.post(f"/instances/{instance_id}/action", json={"restore": asked})


def create(client: Client, **point: Any) -> httpx.Response:
    return client.post("/instances", json={"instance": {"name": "again", "restorePoint": point}})


def operations(api: Api, instance_id: str) -> list[str]:
    listed = api.demo.get(f"/operations?instance_id={instance_id}").json()["operations"]
    return [one["kind"] for one in listed]


def test_windows_gaps_and_lag_are_shown(api: Api, shop: str) -> None:
    with_log(api, shop)
    shown = show(api.demo, shop)
    assert [(one["earliest"], one["latest"]) for one in shown["windows"]] == [
        ("2026-11-28T12:10:01", "2026-11-28T12:30:00"),
        ("2026-11-28T12:40:01", "2026-11-28T12:50:00"),
    ]
    assert shown["gaps"] == [{"since": "2026-11-28T12:30:00", "until": "2026-11-28T12:40:01"}]
    assert (shown["mode"], shown["archiving"], shown["error"]) == ("auto", True, None)
    assert (shown["archived_until"], shown["lag_bytes"]) == ("2026-11-28T12:50:00", 7)
    assert (shown["segments"], shown["size"]) == (3, 0.003)
    recovery = api.demo.get(f"/instances/{shop}").json()["instance"]["argosy"]["recovery"]
    assert (recovery["earliest"], recovery["latest"]) == ("2026-11-28T12:40:01", "2026-11-28T12:50:00")


def test_nothing_is_shown_of_an_instance_whose_log_never_was_archived(api: Api, shop: str) -> None:
    shown = show(api.demo, shop)
    assert (shown["archiving"], shown["windows"], shown["segments"]) == (False, [], 0)
    assert api.demo.get(f"/instances/{shop}").json()["instance"]["argosy"]["recovery"] is None


def test_it_is_switched_on_once(api: Api, shop: str) -> None:
    assert switch(api.demo, shop, "on").status_code == 202
    assert operations(api, shop) == ["instance.archive_logs"]
    assert show(api.demo, shop)["mode"] == "on"
    assert switch(api.demo, shop, "on").status_code == 422


def test_what_is_so_already_needs_no_operation(api: Api, shop: str) -> None:
    for mode in ("off", "auto", "off"):
        assert switch(api.demo, shop, mode).status_code == 202
    assert operations(api, shop) == []
    assert show(api.demo, shop)["mode"] == "off"


@pytest.mark.parametrize("mode", ["yes", "", None, 1, True, [], "on "])
def test_other_modes_are_refused(api: Api, shop: str, mode: Any) -> None:
    answer = switch(api.demo, shop, mode)
    assert answer.status_code == 400
    assert "log_archive.mode" in answer.text


def test_a_datastore_without_a_log_says_so(api: Api, shop: str) -> None:
    cache = made(api, api.demo.project_id, "valkey", "8")
    for answer in (
        api.demo.get(f"/instances/{cache}/log_archive"),
        switch(api.demo, cache, "on"),
        restore(api.demo, cache, time="2026-11-28T12:20:00Z"),
        create(api.demo, instance=cache),
    ):
        assert answer.status_code == 501, answer.text
        assert "no-point-in-time" in answer.text


@pytest.mark.parametrize(
    "moment", ["2026-11-28T12:10:01", "2026-11-28T12:30:00Z", "2026-11-28T13:45:00+01:00"]
)
def test_a_moment_of_a_window_is_restored_to(api: Api, shop: str, moment: str) -> None:
    with_log(api, shop)
    assert restore(api.demo, shop, time=moment).status_code == 202
    assert operations(api, shop) == ["instance.restore"]


@pytest.mark.parametrize(
    "moment",
    ["2026-11-28T12:10:00Z", "2026-11-28T12:35:00Z", "2026-11-28T12:50:01Z", "1970-01-01", "9999-12-31"],
)
def test_another_moment_is_refused_with_what_there_is(api: Api, shop: str, moment: str) -> None:
    with_log(api, shop)
    for answer in (restore(api.demo, shop, time=moment), create(api.demo, instance=shop, time=moment)):
        assert answer.status_code == 400, answer.text
        assert "not-restorable" in answer.text
        assert "to 2026-11-28T12:30:00Z, and from 2026-11-28T12:40:00" in answer.text


@pytest.mark.parametrize(
    "asked",
    [
        {"time": "yesterday"}, {"time": ""}, {"time": "9999-12-31T23:59:59-12:00"}, {"time": 1}, {"time": "x" * 99},
        {"time": "2026-11-28T12:20:00Z", "position": "0/80"}, {"position": "0-1-2"}, {"position": ""}, {"position": 5},
        {"position": "0/80", "backup": NOBODY}, {}, {"users": "both", "time": "2026-11-28T12:20:00Z"}, {"latest": True},
        {"position": "FFFFFFFF/FFFFFFFF"}, {"position": "0/1"},
    ],
)  # fmt: skip
def test_what_is_no_target_is_refused(api: Api, shop: str, asked: dict[str, Any]) -> None:
    with_log(api, shop)
    answer = restore(api.demo, shop, **asked)
    assert answer.status_code == 400, answer.text
    assert operations(api, shop) == []


def test_a_position_is_restored_to(api: Api, shop: str) -> None:
    with_log(api, shop)
    assert restore(api.demo, shop, position="0/100").status_code == 202


@pytest.mark.parametrize(
    "point",
    [
        {}, {"instance": "x", "backupRef": NOBODY}, {"backupRef": NOBODY, "time": "2026-11-28T12:20:00Z"},
        {"time": "2026-11-28T12:20:00Z"}, {"instance": None}, {"instance": []},
    ],
)  # fmt: skip
def test_what_is_no_restore_point_is_refused(api: Api, shop: str, point: dict[str, Any]) -> None:
    assert create(api.demo, **point).status_code == 400


def test_a_new_instance_is_what_the_other_was(api: Api, shop: str) -> None:
    with_log(api, shop)
    answer = create(api.demo, instance=shop, time="2026-11-28T12:20:00Z")
    assert answer.status_code == 400  # its backups do not say which flavor: made by this test
    assert "flavor" in answer.text
    body = {"name": "again", "flavorRef": "2", "restorePoint": {"instance": shop}}
    answer = api.demo.post("/instances", json={"instance": body})
    assert answer.status_code == 200, answer.text
    assert answer.json()["instance"]["datastore"]["version"] == "17"


def test_another_projects_log_is_not_there(api: Api, shop: str) -> None:
    theirs = made(api, "ffffffffffffffffffffffffffffffff")
    for answer in (
        api.demo.get(f"/instances/{theirs}/log_archive"),
        switch(api.demo, theirs, "on"),
        restore(api.demo, theirs, time="2026-11-28T12:20:00Z"),
        create(api.demo, instance=theirs),
        create(api.demo, instance="no-id"),
    ):
        assert answer.status_code == 404, answer.text
    assert api.admin.get(f"/instances/{theirs}/log_archive").status_code == 200
