"""Several task managers on one database: who lives, who takes over from whom, who leads."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NoReturn

import pytest

from argosy.metadata import migrations
from argosy.metadata.store import Store
from argosy.taskmanager.membership import SOLE, SWEEPS, Membership, place_of
from tests.support.server import wait_until


class Ended(BaseException):
    """What a process does that was told that it is lost."""


def end() -> NoReturn:
    raise Ended


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(f"sqlite:///{tmp_path / 'argosy.db'}")
    migrations.migrate(store.engine, store.url)
    yield store
    store.close()


def member(store: Store, place: str, clock: Clock | None = None) -> Membership:
    one = Membership(store, place, silent_after_s=15, end=end, clock=clock or Clock())
    one.join()
    return one


def silence(store: Store, one: Membership) -> None:
    """Have it not been heard of for longer than it may."""
    with store.write() as tx:
        tx.connection.exec_driver_sql(
            "update task_managers set seen_at = '2026-01-01 00:00:00.000000' where id = ?", (one.id,)
        )


def seen_at(store: Store, one: Membership) -> datetime:
    with store.read() as tx:
        return next(each.seen_at for each in tx.task_managers.all() if each.id == one.id)


def test_what_a_silent_one_had_begun_is_taken_over_once(store: Store) -> None:
    silent, other = member(store, "a"), member(store, "b")
    taken: list[str] = []
    silence(store, silent)
    other.take_over(taken.extend)
    other.take_over(taken.extend)
    assert taken == [silent.id]


def test_one_that_died_while_taking_over_leaves_it_to_the_next(store: Store) -> None:
    silent, dying, other = member(store, "a"), member(store, "b"), member(store, "c")
    silence(store, silent)

    def die(_: list[str]) -> None:
        raise Ended

    with pytest.raises(Ended):
        dying.take_over(die)
    taken: list[str] = []
    other.take_over(taken.extend)
    assert taken == [silent.id]


def test_one_that_was_frozen_for_long_does_nothing_once_others_took_over(store: Store) -> None:
    clock = Clock()
    frozen, other = member(store, "a", clock), member(store, "b")
    clock.now += 3600
    silence(store, frozen)
    other.take_over(lambda _: None)
    with pytest.raises(Ended):
        frozen.check()


def test_one_that_was_frozen_alone_goes_on(store: Store) -> None:
    clock = Clock()
    alone = member(store, "a", clock)
    clock.now += 3600
    assert not alone.is_well
    alone.check()
    assert alone.is_well


def test_the_next_of_the_same_home_takes_over_at_once(store: Store) -> None:
    killed = member(store, "a")
    taken: list[str] = []
    member(store, "a").take_over(taken.extend)
    assert taken == [killed.id]


def test_one_that_takes_long_to_get_ready_lives_and_takes_nothing_over_yet(store: Store) -> None:
    slow = Membership(store, "a", silent_after_s=1, end=end)
    slow.join()
    silence(store, slow)
    member(store, "b").leave()
    ended, too_early = threading.Event(), list[str]()
    telling = threading.Thread(target=slow.run, args=(ended, too_early.extend))
    telling.start()
    try:
        wait_until(
            "it tells that it lives", lambda: seen_at(store, slow) > datetime.now(UTC) - timedelta(days=1)
        )
    finally:
        ended.set()
        telling.join()
    taken: list[str] = []
    member(store, "c").take_over(taken.extend)
    assert slow.id not in taken
    assert len(taken) == 1
    assert too_early == []


def test_one_that_leaves_is_taken_over_from_at_once(store: Store) -> None:
    leaving, other = member(store, "a"), member(store, "b")
    leaving.leave()
    taken: list[str] = []
    other.take_over(taken.extend)
    assert taken == [leaving.id]


def test_one_leads_until_it_is_lost(store: Store) -> None:
    first, second = member(store, "a"), member(store, "b")
    first.take_over(lambda _: None)
    second.take_over(lambda _: None)
    assert (first.leads, second.leads) == (True, False)
    silence(store, first)
    second.take_over(lambda _: None)
    assert second.leads


def test_a_lease_that_ran_out_is_anybodys(store: Store) -> None:
    with store.write() as tx:
        assert tx.leases.take(SWEEPS, "one", timedelta(seconds=-1))
        assert tx.leases.holder(SWEEPS) is None
        assert tx.leases.take(SWEEPS, "other", timedelta(seconds=60))
        assert not tx.leases.take(SWEEPS, "one", timedelta(seconds=60))


def test_a_home_whose_task_manager_had_no_name_yet_is_inherited_from(store: Store, tmp_path: Path) -> None:
    place = place_of(tmp_path, store, ran_before=True)
    assert place_of(tmp_path, store, ran_before=True) == place
    taken: list[str] = []
    member(store, place).take_over(taken.extend)
    assert taken == [SOLE]


def test_a_new_home_takes_nothing_from_one_that_may_still_run(store: Store, tmp_path: Path) -> None:
    taken: list[str] = []
    member(store, place_of(tmp_path, store, ran_before=False)).take_over(taken.extend)
    assert taken == []
