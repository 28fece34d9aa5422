"""What the conductor writes down of archived logs, and what it tells of it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from argosy.conductor.app import application
from argosy.domain.log_archive import LogArchive, Segment
from argosy.metadata import migrations
from argosy.metadata.store import Store
from argosy.metadata.tables import backup_schedules, instances
from argosy.rpc.server import PEER
from argosy.storage.backup_directory import DirectoryBackups
from argosy.storage.directory import DirectoryStore

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
INSTANCE = "11111111-1111-4111-8111-111111111111"
OTHER = "22222222-2222-4222-8222-222222222222"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(f"sqlite:///{tmp_path / 'argosy.db'}")
    migrations.migrate(store.engine, store.url)
    with store.write() as tx:
        tx.connection.execute(
            sa.insert(instances).values(
                id=INSTANCE, project_id="p", name="one", datastore="postgresql", version="17", flavor_id="1",
                volume_gb=1, access={}, platform={}, created_at=NOW, updated_at=NOW, tags={},
            )
        )  # fmt: skip
        tx.log_archives.add(
            LogArchive("a", "p", INSTANCE, "postgresql", "17", "directory", "c", "i/log-a/", NOW)
        )
    yield store
    store.close()


class Guest:
    """Speaks to the conductor with the certificate of an instance."""

    def __init__(self, store: Store, objects: Path, instance_id: str) -> None:
        app = application(store, DirectoryBackups(DirectoryStore(objects), "https://conductor", b"key"))

        async def as_guest(scope: Any, receive: Any, send: Any) -> None:
            scope.setdefault("extensions", {})[PEER] = f"guest:{instance_id}"
            await app(scope, receive, send)

        self._transport = httpx.ASGITransport(as_guest)

    def post(self, path: str, *, json: dict[str, Any]) -> httpx.Response:
        async def request() -> httpx.Response:
            async with httpx.AsyncClient(transport=self._transport, base_url="https://conductor") as client:
                return await client.post(path, json=json)

        return asyncio.run(request())


@pytest.fixture
def guest(store: Store, tmp_path: Path) -> Guest:
    return Guest(store, tmp_path / "backups", INSTANCE)


def segment(number: int, **more: Any) -> dict[str, Any]:
    starts = number * 10
    return {"name": f"s{number}", "starts": starts, "ends": starts + 10, "size_bytes": 7, **more}


def tell(guest: Guest, told: dict[str, Any] | None, archive: str = "a", instance: str = INSTANCE) -> Any:
    return guest.post("/v1/segments", json={"instance_id": instance, "archive_id": archive, "segment": told})


def events(store: Store) -> list[str]:
    with store.read() as tx:
        return [event.kind for event in tx.events.page(100)[0]]


def test_segments_are_written_down_once_and_the_last_is_told(store: Store, guest: Guest) -> None:
    assert tell(guest, None).json() == {"last": None, "ends": None}
    assert tell(guest, segment(1)).json() == {"last": None, "ends": None}
    assert tell(guest, segment(2, last_at="2026-11-28T12:05:00Z")).json() == {"last": "s1", "ends": 20}
    assert tell(guest, segment(2, last_at="2026-11-28T12:05:00Z")).json() == {"last": "s2", "ends": 30}
    assert tell(guest, None).json() == {"last": "s2", "ends": 30}
    with store.read() as tx:
        (stretch,) = tx.log_archives.stretches(["a"])
        assert (stretch.starts, stretch.ends) == (10, 30)
        assert stretch.until == NOW + timedelta(minutes=5)
        size = tx.log_archives.size("a")
        assert (size.segments, size.size_bytes) == (2, 14)
    assert events(store) == []


def test_a_gap_begins_another_stretch_and_is_told_once(store: Store, guest: Guest) -> None:
    tell(guest, segment(1))
    for _ in range(2):
        tell(guest, segment(3))
    with store.read() as tx:
        assert [(one.starts, one.ends) for one in tx.log_archives.stretches(["a"])] == [(10, 20), (30, 40)]
    assert events(store) == ["log_archive.gap"]


@pytest.mark.parametrize(
    ("archive", "instance", "status"), [("b", INSTANCE, 409), ("a", OTHER, 403)], ids=["unknown", "another's"]
)
def test_a_guest_may_archive_to_its_own_archive_alone(
    store: Store, guest: Guest, archive: str, instance: str, status: int
) -> None:
    assert tell(guest, segment(1), archive, instance).status_code == status
    with store.read() as tx:
        assert tx.log_archives.segments("a") == []


def test_an_archive_that_has_ended_takes_no_more(store: Store, guest: Guest) -> None:
    with store.write() as tx:
        assert tx.log_archives.end("a", "switched off")
        assert not tx.log_archives.end("a", "again")
    assert tell(guest, segment(1)).status_code == 409


@pytest.mark.parametrize(
    "bad",
    [
        segment(1, name="../x"), segment(1, name=""), segment(1, name="a/b"), segment(1, starts=-1),
        segment(1, ends=2**63), segment(1, first_at="2026-11-28T12:00:00"), {"name": "s1"},
    ],
)  # fmt: skip
def test_what_is_no_segment_is_refused(guest: Guest, bad: dict[str, Any]) -> None:
    assert tell(guest, bad).status_code == 422


def test_reports_say_how_far_the_archive_is(store: Store, guest: Guest) -> None:
    def report(number: int, until: str, error: str | None = None) -> None:
        log = {"archive_id": "a", "lag_bytes": 5, "until": until, "error": error}
        body = {"instance_id": INSTANCE, "number": number, "service": "healthy", "log": log}
        assert guest.post("/v1/reports", json=body).status_code == 204

    tell(guest, segment(1))
    report(1, "2026-11-28T12:10:00Z")
    report(2, "2026-11-28T12:09:00Z", "the store is away")
    with store.read() as tx:
        (stretch,) = tx.log_archives.stretches(["a"])
        assert stretch.until == NOW + timedelta(minutes=10)
        archive = tx.log_archives.open_of(INSTANCE)
    assert archive is not None
    assert (archive.lag_bytes, archive.error) == (5, "the store is away")


def test_an_older_report_that_comes_late_does_not_say_how_the_archive_is(store: Store, guest: Guest) -> None:
    """What happened is told all the same: it may be an agent's last words."""
    for number, error in ((2, None), (1, "the store is away")):
        log = {"archive_id": "a", "lag_bytes": 5, "error": error}
        happened = [{"kind": f"told.{number}", "message": ""}]
        body = {
            "instance_id": INSTANCE, "number": number, "service": "healthy", "log": log, "events": happened,
        }  # fmt: skip
        assert guest.post("/v1/reports", json=body).status_code == 204
    with store.read() as tx:
        archive = tx.log_archives.open_of(INSTANCE)
    assert archive is not None
    assert archive.error is None
    assert events(store) == ["told.1", "told.2"]


def test_a_report_that_comes_as_an_archive_ends_says_nothing_of_it(store: Store) -> None:
    with store.write() as tx:
        assert tx.log_archives.end("a", "Switched off.")
        tx.log_archives.told("a", lag_bytes=5, until=NOW, error="It waits for a restore to end.")
    with store.read() as tx:
        archive = tx.log_archives.find("a")
    assert archive is not None
    assert (archive.lag_bytes, archive.error) == (None, None)


def test_segments_no_backup_needs_are_dropped_from_the_front(store: Store) -> None:
    with store.write() as tx:
        for number in (1, 2, 4, 5):
            tx.log_archives.take("a", Segment(f"s{number}", number * 10, number * 10 + 10, 7))
        old = tx.log_archives.superfluous("a", 50, limit=10)
        assert [one.name for one in old] == ["s1", "s2", "s4"]
        tx.log_archives.drop("a", old)
        (stretch,) = tx.log_archives.stretches(["a"])
        assert (stretch.number, stretch.starts, stretch.ends) == (1, 50, 60)
        assert tx.log_archives.size("a").segments == 1
        tx.log_archives.drop("a", tx.log_archives.segments("a"))
        # The next one continues what is not there any more: no gap.
        assert tx.log_archives.take("a", Segment("s6", 60, 70, 7)) is None


def test_a_log_is_archived_where_its_owner_wants_or_else_where_a_schedule_is(store: Store) -> None:
    with store.write() as tx:
        logs = tx.log_archives
        assert not logs.is_wanted(INSTANCE)
        assert logs.to_switch(["postgresql"]) == {INSTANCE: False}
        tx.connection.execute(
            sa.insert(backup_schedules).values(
                id="s", project_id="p", instance_id=INSTANCE, cron="@daily", full_every=1, enabled=True,
                attempts=0, created_at=NOW, updated_at=NOW,
            )
        )  # fmt: skip
        assert logs.is_wanted(INSTANCE)
        assert logs.to_switch(["postgresql"]) == {}
        logs.choose(INSTANCE, wanted=False)
        assert (logs.chosen(INSTANCE), logs.is_wanted(INSTANCE)) == (False, False)
        logs.choose(INSTANCE, wanted=True)
        logs.forget("a")
        assert logs.find("a") is None
        assert logs.to_switch(["postgresql"]) == {INSTANCE: True}
        assert logs.to_switch(["valkey"]) == {}
        logs.choose(INSTANCE, wanted=None)
        assert logs.chosen(INSTANCE) is None
