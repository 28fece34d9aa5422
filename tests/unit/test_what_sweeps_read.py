"""Sweeps read what concerns them, and of all instances it is the same ones as if they had looked at each."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa

from argosy.domain.guest import RELEASE
from argosy.domain.instance import Flavor, Instance
from argosy.domain.operations import CreateInstance, DeleteInstance, RestartInstance
from argosy.domain.status import Report, Service
from argosy.metadata.migrations import migrate
from argosy.metadata.store import Store
from argosy.metadata.tables import instances
from argosy.taskmanager.autogrow import FULL, wants_to_grow
from tests.support.metadata import postgresql

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
GIB = 2**30


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    if request.param == "sqlite":
        yield from opened(f"sqlite:///{tmp_path / 'argosy.db'}")
        return
    with postgresql() as database:
        yield from opened(database.url)


def opened(url: str) -> Iterator[Store]:
    store = Store(url)
    migrate(store.engine, url)
    with store.write() as tx:
        tx.flavors.publish([Flavor("1", "small", 512, 1)])
    yield store
    store.close()


def add(store: Store, report: Report | None = None, **columns: object) -> str:
    """Healthy and free, but for what is told otherwise."""
    made = Instance(
        str(uuid.uuid4()), "p", "db", "valkey", "8", "1", 4, NOW, NOW, address="10.0.0.1", autogrow_limit_gb=6
    )
    with store.write() as tx:
        tx.instances.add(made)
        if report is not None:
            assert tx.instances.report(made.id, report)
        values = {"address": made.address, "autogrow_limit_gb": made.autogrow_limit_gb, **columns}
        tx.connection.execute(sa.update(instances).where(instances.c.id == made.id).values(**values))
    return made.id


def everything(store: Store) -> list[Instance]:
    with store.read() as tx:
        return tx.instances.all()


def test_what_may_have_to_be_booted_has_a_server_and_is_nobody_elses(store: Store) -> None:
    free, restarting = add(store), add(store, operation_kind=RestartInstance.kind)
    for other in ({"address": None}, {"deleted_at": NOW}, {"operation_kind": DeleteInstance.kind}):
        add(store, **other)
    with store.read() as tx:
        held = tx.instances.booted(but_held_by={CreateInstance.kind, DeleteInstance.kind})
    assert sorted(held) == sorted([free, restarting])


def test_every_volume_that_is_to_grow_is_found(store: Store) -> None:
    told = Report(Service.HEALTHY, 1, NOW)
    edge = int(FULL * GIB)
    for used, size in itertools.product(
        (None, 0, edge - 1, edge, edge + 1, 4 * edge, 9 * GIB), (None, 0, GIB)
    ):
        add(store, replace(told, volume_used_bytes=used, volume_size_bytes=size))
    full = replace(told, volume_used_bytes=3999 * GIB)
    add(store, full, volume_gb=4000)
    for other in ({"autogrow_limit_gb": None}, {"broken": True}, {"operation_id": "another"}):
        add(store, full, **other)
    with store.read() as tx:
        found = tx.instances.filled(FULL - 0.01)
    wanted = {one.id for one in everything(store) if wants_to_grow(one, NOW)}
    assert len(wanted) > 3
    assert {one.id for one in found if wants_to_grow(one, NOW)} == wanted
    assert len(found) < len(everything(store)) / 2


def test_every_agent_of_an_older_release_that_is_free_is_found(store: Store) -> None:
    old = Report(Service.HEALTHY, 1, NOW, release=RELEASE - 1)
    found = [add(store, old), add(store, replace(old, release=1, service=Service.SHUTDOWN))]
    add(store, replace(old, release=RELEASE))
    add(store, None)
    for other in ({"broken": True}, {"operation_id": "another"}, {"deleted_at": NOW}):
        add(store, old, **other)
    with store.read() as tx:
        assert sorted(one.id for one in tx.instances.of_older_agents(RELEASE)) == sorted(found)
