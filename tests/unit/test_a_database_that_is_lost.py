"""On PostgreSQL, whose transactions can be cut off, and hold up those of others: work goes on all the same."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any, NoReturn

import pytest
import sqlalchemy as sa

from argosy.metadata.migrations import migrate
from argosy.metadata.store import Store
from argosy.metadata.task_managers import Leases
from argosy.taskmanager.membership import Membership
from argosy.taskmanager.steps.again import step
from tests.support.metadata import postgresql
from tests.support.server import wait_until


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with postgresql() as database:
        store = Store(database.url)
        migrate(store.engine, store.url)
        store.close()
        yield database.url


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    store = Store(url, patience_s=60)
    yield store
    store.close()


@pytest.fixture
def others_store(url: str) -> Iterator[Store]:
    store = Store(url)
    yield store
    store.close()


def test_a_step_whose_transaction_is_cut_off_is_done_again(store: Store, others_store: Store) -> None:
    turns = 0

    @step(name="tests.publish")
    def publish() -> str:
        nonlocal turns
        turns += 1
        with store.write() as tx:
            tx.images.publish("valkey", "8", phase="READY", detail=f"turn {turns}", source=None)
            if turns == 1:
                own = tx.connection.execute(sa.text("SELECT pg_backend_pid()")).scalar()
                with others_store.read() as other:
                    other.connection.execute(sa.text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": own})
        return "done"

    assert publish() == "done"
    with others_store.read() as tx:
        assert [one.detail for one in tx.images.all()] == ["turn 2"]


def test_what_a_step_does_wrong_is_not_done_again(store: Store) -> None:
    turns = 0

    @step(name="tests.wrong")
    def wrong() -> None:
        nonlocal turns
        turns += 1
        with store.read() as tx:
            tx.connection.execute(sa.text("SELECT nonsense"))

    with pytest.raises(sa.exc.ProgrammingError):
        wrong()
    assert turns == 1


def end() -> NoReturn:
    raise AssertionError("declared lost")


def test_one_that_is_frozen_while_it_tells_that_it_lives_does_not_stop_the_others(
    store: Store, others_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    frozen = Membership(store, "frozen", silent_after_s=2, end=end)
    other = Membership(others_store, "other", silent_after_s=2, end=end)
    for one in (frozen, other):
        one.join()
    holds, wakes = threading.Event(), threading.Event()
    take: Any = Leases.take

    def take_and_freeze(self: Leases, name: str, holder: str, duration: timedelta) -> bool:
        taken = bool(take(self, name, holder, duration))
        if holder == frozen.id:
            holds.set()
            wakes.wait(60)
        return taken

    monkeypatch.setattr(Leases, "take", take_and_freeze)
    failed: list[BaseException] = []

    def beat() -> None:
        try:
            frozen._beat()
        except sa.exc.DBAPIError as error:
            failed.append(error)

    freezes = threading.Thread(target=beat)
    freezes.start()
    try:
        assert holds.wait(60)
        taken: list[str] = []

        def took_over() -> bool:
            other.take_over(taken.extend)
            return bool(taken)

        wait_until("it is taken over from", took_over, every_s=0.2)
        assert taken == [frozen.id]
        assert other.leads
    finally:
        wakes.set()
        freezes.join()
    assert len(failed) == 1
