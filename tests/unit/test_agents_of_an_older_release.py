"""Agents of an older release are renewed when every task manager has the newer one, and never the other way."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest

import argosy
from argosy.domain.guest import RELEASE
from argosy.domain.instance import Flavor, Instance
from argosy.domain.status import Report, Service
from argosy.metadata.migrations import migrate
from argosy.metadata.store import Store
from argosy.taskmanager import parts as installed
from argosy.taskmanager import sweeps


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(f"sqlite:///{tmp_path / 'argosy.db'}")
    migrate(store.engine, store.url)
    nothing = cast("Any", None)
    installed.install(
        installed.Parts(store, nothing, nothing, nothing, nothing, nothing, "", nothing, nothing, nothing)
    )
    with store.write() as tx:
        tx.flavors.publish([Flavor("1", "small", 512, 1)])
        tx.task_managers.join("mine", argosy.__version__)
    yield store
    store.close()


def instance(store: Store, agent_release: int) -> str:
    now = datetime.now(UTC)
    made = Instance(str(uuid.uuid4()), "p", "db", "valkey", "8", "1", 1, now, now)
    with store.write() as tx:
        tx.instances.add(made)
        assert tx.instances.report(made.id, Report(Service.HEALTHY, 1, now, release=agent_release))
    return made.id


def renewing(store: Store) -> list[str | None]:
    with store.read() as tx:
        return [one.instance_id for one in tx.operations.running()]


def test_those_of_an_older_release_are_renewed_once_and_no_others(store: Store) -> None:
    old = instance(store, RELEASE - 1)
    for release in (RELEASE, RELEASE + 1):
        instance(store, release)
    sweeps.renew_old_agents()
    sweeps.renew_old_agents()
    assert renewing(store) == [old]


def test_while_a_task_manager_of_another_release_lives_they_wait(store: Store) -> None:
    """It would take the operation off the queue and boot its own agent again."""
    old = instance(store, RELEASE - 1)
    with store.write() as tx:
        tx.task_managers.join("before", "0.0.9")
    sweeps.renew_old_agents()
    assert renewing(store) == []
    with store.write() as tx:
        tx.task_managers.lose_these(["before"])
    sweeps.renew_old_agents()
    assert renewing(store) == [old]
