"""Volumes that grow by themselves: by how much, when, and what is said when they cannot."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from argosy.domain.errors import Failed
from argosy.domain.instance import Flavor, Instance
from argosy.domain.operations import Operation
from argosy.domain.status import Report, Service
from argosy.metadata.migrations import migrate
from argosy.metadata.store import Store
from argosy.taskmanager.autogrow import (
    FULL,
    PAUSE,
    PAUSE_AFTER_FAILURE,
    STOPPED,
    grow_full_volumes,
    next_size_gb,
    wants_to_grow,
)

GIB = 2**30
sizes = st.integers(1, 100_000)


@given(sizes, sizes)
def test_a_step_is_a_tenth_and_one_gb_at_least_and_never_above_the_limit(size_gb: int, limit_gb: int) -> None:
    after = next_size_gb(size_gb, limit_gb)
    assert size_gb <= after <= max(size_gb, limit_gb)
    if limit_gb > size_gb:
        assert after > size_gb
        assert after - size_gb <= max(1, size_gb / 10 + 1)
    else:
        assert after == size_gb


def instance(used: float = 0.9, **more: object) -> Instance:
    now = datetime.now(UTC)
    report = Report(Service.HEALTHY, 1, now, int(used * GIB), None, volume_size_bytes=GIB)
    made = Instance(
        str(uuid.uuid4()), "p", "db", "valkey", "8", "2", 4, now, now, report=report, autogrow_limit_gb=6
    )
    return replace(made, **more)  # type: ignore[arg-type]  # each test names real ones


def test_only_what_is_full_free_and_allowed_to_grows() -> None:
    now = datetime.now(UTC)
    assert wants_to_grow(instance(), now)
    assert wants_to_grow(instance(FULL + 0.001), now)
    for not_that in (
        instance(0.8),
        instance(autogrow_limit_gb=None),
        instance(operation_id="another", operation_kind="instance.restart"),
        instance(broken=True),
        instance(report=None),
    ):
        assert not wants_to_grow(not_that, now)
    assert not wants_to_grow(instance(), now + timedelta(minutes=5)), "a guest that is silent may be wrong"


class Home:
    """A metadata database with one full instance."""

    def __init__(self, directory: Path, volumes: int = 40) -> None:
        url = f"sqlite:///{directory / 'argosy.db'}"
        self.store = Store(url, {"instances": 10, "ram": -1, "volumes": volumes, "backups": 50})
        migrate(self.store.engine, url)
        self.instance = instance()
        with self.store.write() as tx:
            tx.flavors.publish([Flavor("2", "small", 512, 1)])
            tx.instances.add(self.instance)
        self.report(self.instance.created_at)

    def report(self, at: datetime) -> None:
        with self.store.write() as tx:
            number = int(at.timestamp() * 1000)
            told = Report(Service.HEALTHY, number, at, int(0.9 * GIB), None, volume_size_bytes=GIB)
            assert tx.instances.report(self.instance.id, told)

    def sweep(self, after: timedelta = timedelta()) -> None:
        now = datetime.now(UTC) + after
        if after:
            self.report(now)
        grow_full_volumes(self.store, now)

    def operations(self) -> list[Operation]:
        with self.store.read() as tx:
            return tx.operations.page(100)[0]

    def stops(self) -> list[str]:
        with self.store.read() as tx:
            return [event.message for event in tx.events.page(100)[0] if event.kind == STOPPED]

    def end(self, size_gb: int | None) -> None:
        (running,) = [one for one in self.operations() if one.ended_at is None]
        with self.store.write() as tx:
            if size_gb is None:
                tx.operations.fail(running.id, Failed("no room"))
            else:
                tx.instances.set_volume_gb(self.instance.id, size_gb)
                tx.operations.succeed(running.id)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    home = Home(tmp_path)
    yield home
    home.store.close()


def test_it_grows_one_step_at_a_time_with_pauses_and_stops_at_its_limit_saying_so_once(home: Home) -> None:
    home.sweep()
    home.sweep()
    assert [one.requested_by for one in home.operations()] == ["autogrow"]
    home.end(5)
    home.sweep()
    assert len(home.operations()) == 1, "the guest has not spoken since"
    home.sweep(PAUSE * 2)
    assert len(home.operations()) == 2
    home.end(6)
    for turn in range(3, 6):
        home.sweep(PAUSE * turn)
    assert len(home.operations()) == 2
    assert home.stops() == [
        "The volume is full and cannot grow by itself. It has reached its limit of 6 GB: raise the limit."
    ]


def test_a_growth_that_failed_is_not_tried_again_for_a_while(home: Home) -> None:
    home.sweep()
    home.end(None)
    home.sweep(PAUSE * 2)
    assert len(home.operations()) == 1
    home.sweep(PAUSE_AFTER_FAILURE * 2)
    assert len(home.operations()) == 2


def test_a_quota_stops_it_and_is_told_once(tmp_path: Path) -> None:
    home = Home(tmp_path, volumes=4)
    home.sweep()
    home.sweep()
    assert home.operations() == []
    (told,) = home.stops()
    assert "Quota exceeded" in told
    home.store.close()
