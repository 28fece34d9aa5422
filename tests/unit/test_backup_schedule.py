"""Backups by schedule: when they are made, on what they are built, and what is kept of them."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from argosy.domain.backup import Backup, BackupStatus, chain_of
from argosy.domain.backup_schedule import (
    ATTEMPTS,
    BackupSchedule,
    check_numbers,
    cron_of,
    expired,
    next_attempt,
    next_run,
    parent_for,
    to_verify,
)
from argosy.domain.errors import Failed, Invalid
from argosy.domain.instance import Flavor, Instance
from argosy.domain.operations import CreateBackup, DeleteBackups, DeleteInstance, RestartInstance
from argosy.domain.status import Report, Service
from argosy.metadata.migrations import migrate
from argosy.metadata.store import Store
from argosy.taskmanager import scheduled_backups
from argosy.taskmanager.scheduled_backups import FAILED, PATIENCE, SKIPPED, run, take_away

NOW = datetime(2026, 11, 28, 14, 0, tzinfo=UTC)  # a Saturday
DAY = timedelta(days=1)
INSTANCE = "0f2b7c1e-7f43-4d55-9d2e-0d8a4c8f1a10"
ids = st.uuids().map(str)


# When


@pytest.mark.parametrize(
    ("cron", "after", "at"),
    [
        ("30 3 * * *", "2026-11-28T03:29:59+00:00", "2026-11-28T03:30:00+00:00"),
        ("30 3 * * *", "2026-11-28T03:30:00+00:00", "2026-11-29T03:30:00+00:00"),
        ("30 3 * * *", "2026-11-28T03:30:00.5+00:00", "2026-11-29T03:30:00+00:00"),
        ("0 0 * * SUN", "2026-11-28T14:00:00+00:00", "2026-11-29T00:00:00+00:00"),
        ("0 0 29 2 *", "2026-11-28T14:00:00+00:00", "2028-02-29T00:00:00+00:00"),
        ("*/15 * * * *", "2026-11-28T14:01:00+00:00", "2026-11-28T14:15:00+00:00"),
        ("0 0 L * *", "2026-11-28T14:00:00+00:00", "2026-11-30T00:00:00+00:00"),
    ],
)
def test_a_cron_expression_is_read_in_utc(cron: str, after: str, at: str) -> None:
    assert next_run(cron_of(cron, INSTANCE), datetime.fromisoformat(after)) == datetime.fromisoformat(at)


@given(ids)
def test_a_word_means_a_time_of_night_that_is_the_instances_own(instance_id: str) -> None:
    for word, least, most in (("daily", 1, 1), ("weekly", 7, 7), ("monthly", 28, 31)):
        cron = cron_of(word, instance_id)
        assert cron == cron_of(f" {word.upper()} ", instance_id)
        first = next_run(cron, NOW)
        assert first.hour < 6
        assert timedelta(days=least) <= next_run(cron, first) - first <= timedelta(days=most)
    hourly = next_run(cron_of("hourly", instance_id), NOW)
    assert hourly - NOW <= timedelta(hours=1)


@pytest.mark.parametrize(
    "wrong",
    [
        "", "yearly", "* * * *", "* * * * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * * 13 *", "* * * * 8",
        "0 0 30 2 *", "0 0 31 4 *", "a b c d e", "*/0 * * * *", "5-1 * * * *", "1,,2 * * * *", "* * * * MONDAY",
        "0 3 * * *\x00", "٣ * * * *", "0 3 * * * ; rm", "1" * 300 + " * * * *", "² * * * *",
    ],
)  # fmt: skip
def test_what_is_no_schedule_is_refused_by_name(wrong: str) -> None:
    with pytest.raises(Invalid, match=r"^Validation error: backup_schedule.cron: .* cron expression in UTC"):
        cron_of(wrong, INSTANCE)


@given(st.text(alphabet="0123456789*/,-#LWSUNMO \t", max_size=40) | st.text(max_size=40))
def test_any_text_is_a_schedule_or_refused(text: str) -> None:
    try:
        cron = cron_of(text, INSTANCE)
    except Invalid:
        return
    assert next_run(cron, NOW) > NOW
    assert cron_of(cron, INSTANCE) == cron


def test_a_failed_run_is_tried_again_further_apart_and_then_waits_for_its_next_regular_time() -> None:
    waits = [next_attempt("0 3 * * *", failures, NOW) - NOW for failures in range(1, ATTEMPTS + 2)]
    assert waits == sorted(waits)
    assert waits[0] == timedelta(minutes=5)
    assert waits[ATTEMPTS - 1] == waits[ATTEMPTS] == timedelta(hours=13)
    assert next_attempt("*/2 * * * *", 3, NOW) - NOW == timedelta(minutes=2)


def test_numbers_out_of_bounds_are_refused_by_name() -> None:
    for name, most in (
        ("full_every", 100),
        ("keep_last", 1000),
        ("keep_days", 3650),
        ("verify_every_days", 365),
    ):
        for good in (1, most, None):
            check_numbers({name: good}, has_increments=True)
        for bad in (0, -1, most + 1, 10**30):
            with pytest.raises(Invalid, match=rf"backup_schedule.{name}: it must be from 1 to {most}"):
                check_numbers({name: bad}, has_increments=True)
    with pytest.raises(Invalid, match="has no incremental backups"):
        check_numbers({"full_every": 2}, has_increments=False)
    check_numbers({"full_every": 1}, has_increments=False)


# What it is built on, and what is kept


def backup(at: datetime, parent: Backup | None = None, **more: Any) -> Backup:
    made = Backup(
        str(uuid.uuid4()), "p", "b", INSTANCE, "postgresql", "17", BackupStatus.COMPLETED, "directory",
        "c", "", at, at, parent_id=None if parent is None else parent.id, schedule_id="s",
    )  # fmt: skip
    return replace(made, **more)


def schedule(**more: Any) -> BackupSchedule:
    made = BackupSchedule("s", "p", INSTANCE, "0 3 * * *", 7, NOW - 100 * DAY, NOW - 100 * DAY)
    return replace(made, **more)


def series(count: int, full_every: int) -> list[Backup]:
    """One a day up to now, as a schedule makes them."""
    made: list[Backup] = []
    for number in range(count):
        parent = parent_for(full_every, made, ("postgresql", "17"))
        made.append(backup(NOW - (count - 1 - number) * DAY, parent))
    return made


def test_every_nth_backup_is_a_full_one() -> None:
    assert [one.parent_id is None for one in series(8, 3)] == [True, False, False] * 2 + [True, False]
    assert all(one.parent_id is None for one in series(4, 1))


def test_nothing_is_built_on_what_failed_lost_its_parent_or_is_of_another_version() -> None:
    full, first, second = series(3, 7)
    failed = replace(second, status=BackupStatus.FAILED)
    assert parent_for(7, [full, first, failed], ("postgresql", "17")) == first
    assert parent_for(7, [first, second], ("postgresql", "17")) is None
    assert parent_for(
        7, [replace(full, status=BackupStatus.DELETE_FAILED), first], ("postgresql", "17")
    ) is None  # fmt: skip
    assert parent_for(7, [full, first, second], ("postgresql", "18")) is None


def test_what_was_found_to_be_no_good_is_neither_built_on_nor_counted() -> None:
    full, first, second = series(3, 7)
    refuted = replace(second, verified=False, verified_at=NOW)
    assert parent_for(7, [full, first, refuted], ("postgresql", "17")) is None
    assert parent_for(7, [replace(full, verified=False), first, second], ("postgresql", "17")) is None
    made = series(3, 1)
    bad = [made[0], made[1], replace(made[2], verified=False)]
    assert expired(schedule(keep_last=1), bad, NOW) == [made[0]]
    weekly = schedule(verify_every_days=7)
    assert to_verify(weekly, bad, NOW) is None
    assert to_verify(weekly, [*bad, (newer := backup(NOW + DAY))], NOW) == newer


def test_with_neither_rule_all_are_kept_and_with_both_either_keeps() -> None:
    made = series(10, 1)
    assert expired(schedule(), made, NOW) == []
    assert expired(schedule(keep_last=3), made, NOW) == made[:7]
    assert expired(schedule(keep_days=3), made, NOW) == made[:7]
    assert expired(schedule(keep_last=2, keep_days=5), made, NOW) == made[:5]
    assert expired(schedule(keep_last=5, keep_days=2), made, NOW) == made[:5]


def test_a_chain_goes_as_a_whole_the_last_first() -> None:
    made = series(8, 3)
    gone = expired(schedule(keep_last=2), made, NOW)
    assert {one.id for one in gone} == {one.id for one in made[:6]}
    assert expired(schedule(keep_last=3), made, NOW) == [made[2], made[1], made[0]]


def test_the_newest_that_can_be_restored_stays_however_old_it_is() -> None:
    old = backup(NOW - 400 * DAY)
    since = [backup(NOW - days * DAY, status=BackupStatus.FAILED) for days in range(1, 5)]
    assert expired(schedule(keep_days=3, keep_last=1), [old, *since], NOW) == []


def test_old_failures_go_and_young_ones_are_left_to_be_seen() -> None:
    good = backup(NOW)
    old, young = (backup(NOW - days * DAY, status=BackupStatus.FAILED) for days in (8, 6))
    assert expired(schedule(), [old, young, good], NOW) == [old]


def test_what_others_built_on_and_what_is_held_stays() -> None:
    made = series(6, 1)
    by_hand = backup(NOW, made[0], schedule_id=None)
    held = replace(made[1], operation_id="verifying")
    gone = expired(schedule(keep_last=1), [made[0], held, *made[2:], by_hand], NOW)
    assert gone == made[2:5]


@st.composite
def histories(draw: st.DrawFn) -> list[Backup]:
    made: list[Backup] = []
    for _ in range(draw(st.integers(0, 14))):
        parent = draw(st.sampled_from([None, *made]))
        at = (made[-1].created_at if made else NOW - 200 * DAY) + draw(st.integers(0, 20)) * DAY / 2
        made.append(
            backup(
                at,
                parent,
                status=draw(st.sampled_from(list(BackupStatus))),
                schedule_id=draw(st.sampled_from(["s", "s", "t", None])),
                operation_id=draw(st.sampled_from([None, None, None, "held"])),
                verified=draw(st.sampled_from([None, None, True, False])),
            )
        )
    return made


limits = st.none() | st.integers(1, 20)


@given(histories(), limits, limits)
def test_retention_never_breaks_a_chain(
    made: list[Backup], keep_last: int | None, keep_days: int | None
) -> None:
    gone = expired(schedule(keep_last=keep_last, keep_days=keep_days), made, NOW)
    left = [one for one in made if one not in gone]
    by_id = {one.id: one for one in left}
    for one in left:
        chain_of(one, by_id)  # raises KeyError when a parent is missing
    assert len({one.id for one in gone}) == len(gone)
    assert all(one.schedule_id == "s" and one.operation_id is None for one in gone)
    # Children before their parents, so that a deletion that ends half way breaks none either.
    for number, one in enumerate(gone):
        assert one.parent_id not in {earlier.id for earlier in gone[:number]}
    good = [one for one in made if one.schedule_id == "s" and one.is_good]
    if good:
        assert max(good, key=lambda one: one.created_at).created_at in {one.created_at for one in left}
    if keep_last is None and keep_days is None:
        assert not any(one.is_usable for one in gone)


def test_the_newest_is_verified_when_the_last_proof_is_old_enough() -> None:
    weekly = schedule(verify_every_days=7)
    made = series(3, 7)
    assert to_verify(weekly, made, NOW) == made[2]
    assert to_verify(schedule(), made, NOW) is None
    assert to_verify(replace(weekly, enabled=False), made, NOW) is None
    proved = replace(made[0], verified=True, verified_at=NOW - 6 * DAY)
    assert to_verify(weekly, [proved, *made[1:]], NOW) is None
    assert to_verify(weekly, [proved, *made[1:]], NOW + 2 * DAY) == made[2]
    tried = replace(made[2], verification={"tried_at": (NOW - timedelta(hours=1)).isoformat()})
    assert to_verify(weekly, [*made[:2], tried], NOW) is None
    assert to_verify(weekly, [*made[:2], tried], NOW + timedelta(hours=6)) == tried
    assert to_verify(weekly, [*made[:2], replace(made[2], operation_id="held")], NOW) is None
    assert to_verify(weekly, [], NOW) is None


# The sweep


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    url = f"sqlite:///{tmp_path / 'argosy.db'}"
    made = Store(url, {"instances": 10, "ram": -1, "volumes": 40, "backups": 50})
    migrate(made.engine, url)
    scheduled_backups._silent_since.clear()
    with made.write() as tx:
        tx.flavors.publish([Flavor("1", "db.tiny", 256, 1)])
    yield made
    made.close()


def an_instance(store: Store, service: Service = Service.HEALTHY, **more: Any) -> Instance:
    values: dict[str, Any] = {
        "id": str(uuid.uuid4()), "project_id": "p", "name": "shop", "datastore": "postgresql", "version": "17",
        "flavor_id": "1", "volume_gb": 1, "created_at": NOW, "updated_at": NOW, "access": {},
    }  # fmt: skip
    instance = Instance(**values | more)
    with store.write() as tx:
        tx.instances.add(instance)
        tx.instances.set_address(instance.id, "127.77.1.9")
    report(store, instance.id, service, NOW, 1)
    return instance


def report(store: Store, instance_id: str, service: Service, at: datetime, number: int) -> None:
    with store.write() as tx:
        tx.instances.report(instance_id, Report(service, number, at))


def scheduled(store: Store, instance: Instance, **more: Any) -> str:
    made = schedule(
        id=str(uuid.uuid4()), instance_id=instance.id, next_run_at=NOW - 3 * DAY, keep_last=7, **more
    )
    with store.write() as tx:
        tx.backup_schedules.add(made)
    return made.id


def look(store: Store, schedule_id: str) -> BackupSchedule:
    with store.read() as tx:
        return tx.backup_schedules.get(schedule_id)


def backups_of(store: Store, instance: Instance) -> list[Backup]:
    with store.read() as tx:
        return tx.backups.of_instance(instance.id)


def events(store: Store, kind: str) -> list[str]:
    with store.read() as tx:
        found, _ = tx.events.page(100)
    return [one.message for one in found if one.kind == kind]


def sweep(store: Store, now: datetime) -> None:
    run(store, "directory", "database_backups", now)


def end(store: Store, made: Backup, error: str | None = None) -> None:
    """What the workflow of a backup comes to."""
    with store.write() as tx:
        if error is not None:
            tx.operations.fail(made.operation_id or "", Failed(error))
        else:
            tx.backups.change(made.id, status="COMPLETED")
            tx.operations.succeed(made.operation_id or "")


def test_missed_runs_are_caught_up_with_once(store: Store) -> None:
    instance = an_instance(store)
    mine = scheduled(store, instance)
    sweep(store, NOW)
    sweep(store, NOW)
    (made,) = backups_of(store, instance)
    assert (made.status, made.schedule_id, made.parent_id) == (BackupStatus.NEW, mine, None)
    assert made.name == "shop-20261128-1400"
    assert made.prefix == f"{instance.id}/{made.id}/"
    with store.read() as tx:
        (operation,) = tx.operations.running()
    assert (operation.kind, operation.id) == (CreateBackup.kind, made.operation_id)
    now = look(store, mine)
    assert (now.state, now.running_id) == ("running", made.id)
    assert now.next_run_at == datetime(2026, 11, 29, 3, tzinfo=UTC)
    end(store, made)
    sweep(store, NOW)
    now = look(store, mine)
    assert (now.state, now.last_backup_id, now.last_error) == ("waiting", made.id, None)
    assert len(backups_of(store, instance)) == 1
    following = NOW + DAY
    report(store, instance.id, Service.HEALTHY, following, 2)
    sweep(store, following)
    assert [one.parent_id for one in backups_of(store, instance)] == [None, made.id]


def test_a_run_that_would_overlap_is_left_out_and_told(store: Store) -> None:
    instance = an_instance(store)
    mine = scheduled(store, instance)
    sweep(store, NOW)
    sweep(store, NOW + DAY)
    assert len(backups_of(store, instance)) == 1
    assert look(store, mine).next_run_at == datetime(2026, 11, 30, 3, tzinfo=UTC)
    (told,) = events(store, SKIPPED)
    assert "still goes on" in told


def test_a_busy_instance_is_backed_up_when_it_is_free(store: Store) -> None:
    instance = an_instance(store)
    mine = scheduled(store, instance)
    request = RestartInstance(str(uuid.uuid4()), instance.id)
    with store.write() as tx:
        tx.operations.begin(instance, request, requested_by="ann")
    sweep(store, NOW)
    assert backups_of(store, instance) == []
    with store.write() as tx:
        tx.operations.succeed(request.operation_id)
    sweep(store, NOW)
    assert len(backups_of(store, instance)) == 1
    assert look(store, mine).last_error is None


def test_a_failure_is_shown_told_and_tried_again_then_left_to_the_next_regular_time(store: Store) -> None:
    instance = an_instance(store)
    mine = scheduled(store, instance)
    now = NOW
    for attempt in range(1, ATTEMPTS + 1):
        report(store, instance.id, Service.HEALTHY, now, attempt + 1)
        sweep(store, now)
        end(store, backups_of(store, instance)[-1], "The store is full.")
        sweep(store, now)
        after = look(store, mine)
        assert len(backups_of(store, instance)) == attempt
        assert (after.state, after.last_error) == ("failing", "The store is full.")
        assert after.next_run_at is not None
        now = after.next_run_at
    assert now == datetime(2026, 11, 29, 3, tzinfo=UTC)
    assert len(events(store, FAILED)) == ATTEMPTS
    report(store, instance.id, Service.HEALTHY, now, 99)
    sweep(store, now)
    end(store, backups_of(store, instance)[-1])
    sweep(store, now)
    after = look(store, mine)
    assert (after.state, after.last_error, after.attempts) == ("waiting", None, 0)


def test_a_server_that_does_not_answer_is_waited_for_and_that_is_told_once(store: Store) -> None:
    instance = an_instance(store, Service.SHUTDOWN)
    mine = scheduled(store, instance)
    sweep(store, NOW)
    assert look(store, mine).last_error is None
    for seconds in range(0, 60, 10):
        later = NOW + PATIENCE + timedelta(seconds=seconds)
        report(store, instance.id, Service.SHUTDOWN, later, 2 + seconds)
        sweep(store, later)
    after = look(store, mine)
    assert after.state == "failing"
    assert "when its database server answers" in (after.last_error or "")
    assert len(events(store, FAILED)) == 1
    report(store, instance.id, Service.HEALTHY, NOW + 2 * PATIENCE, 99)
    sweep(store, NOW + 2 * PATIENCE)
    assert len(backups_of(store, instance)) == 1


def test_without_room_in_the_quota_the_reason_is_shown(store: Store) -> None:
    instance = an_instance(store)
    mine = scheduled(store, instance)
    with store.write() as tx:
        tx.quotas.set("p", {"backups": 0})
    sweep(store, NOW)
    assert backups_of(store, instance) == []
    assert "Quota exceeded for resources: ['backups']" in (look(store, mine).last_error or "")
    assert look(store, mine).next_run_at == NOW + timedelta(minutes=5)


def test_one_that_is_off_makes_none(store: Store) -> None:
    instance = an_instance(store)
    mine = scheduled(store, instance)
    with store.write() as tx:
        tx.backup_schedules.change(mine, enabled=False, next_run_at=None)
    sweep(store, NOW)
    assert backups_of(store, instance) == []
    assert look(store, mine).state == "off"


def test_retention_deletes_whole_chains_after_a_success_and_spares_what_is_being_restored(
    store: Store,
) -> None:
    instance = an_instance(store)
    mine = scheduled(store, instance, full_every=2)
    with store.write() as tx:
        tx.backup_schedules.change(mine, keep_last=2)
        for one in series(4, 2):
            tx.backups.add(replace(one, instance_id=instance.id, schedule_id=mine, prefix=f"{one.id}/"))
    made = backups_of(store, instance)
    with store.write() as tx:
        tx.grants.give("other", "c", made[0].prefix, "GET", "restoring")
    take_away(store, NOW)
    assert all(one.operation_id is None for one in backups_of(store, instance))
    with store.write() as tx:
        tx.grants.take_with("restoring")
    take_away(store, NOW)
    take_away(store, NOW)
    held = [one for one in backups_of(store, instance) if one.operation_kind == DeleteBackups.kind]
    assert held == [
        replace(one, operation_id=held[0].operation_id, operation_kind=DeleteBackups.kind) for one in made[:2]
    ]
    with store.read() as tx:
        assert [one.kind for one in tx.operations.running()] == [DeleteBackups.kind]


def test_a_schedule_goes_with_its_instance_and_its_backups_stay(store: Store) -> None:
    instance = an_instance(store)
    mine = scheduled(store, instance)
    with store.write() as tx:
        tx.backups.add(backup(NOW - 90 * DAY, instance_id=instance.id, schedule_id=mine))
        tx.backups.add(backup(NOW - 80 * DAY, instance_id=instance.id, schedule_id=mine))
        request = DeleteInstance(str(uuid.uuid4()), instance.id)
        tx.backup_schedules.change(mine, keep_last=1)
        tx.operations.begin(instance, request, requested_by="ann")
        tx.operations.bury(request.operation_id)
        tx.operations.succeed(request.operation_id)
    sweep(store, NOW)
    take_away(store, NOW)
    with store.read() as tx:
        assert tx.backup_schedules.of_instance(instance.id) == []
        assert len(tx.backups.of_instance(instance.id)) == 2
        assert all(one.operation_id is None for one in tx.backups.of_instance(instance.id))
