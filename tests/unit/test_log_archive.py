"""Which moments an instance can be restored to: windows, gaps, and the log a restore needs."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from argosy.domain.backup import Backup, BackupStatus, Recovery
from argosy.domain.errors import BackupUnusable, Invalid
from argosy.domain.log_archive import (
    KEPT_WITHOUT_BACKUP,
    Gap,
    History,
    LogArchive,
    Segment,
    Stretch,
    is_of_no_use,
    kept_from,
    needed,
    place_of,
)

NOON = datetime(2026, 11, 28, 12, tzinfo=UTC)


def at(minutes: float) -> datetime:
    return NOON + timedelta(minutes=minutes)


def backup(name: str, minutes: float, log_from: int | None, **more: Any) -> Backup:
    """Asked for a minute before the moment whose state it has."""
    facts = {"consistent_at": at(minutes).isoformat()}
    return Backup(
        **{
            "id": name,
            "project_id": "p",
            "name": name,
            "instance_id": "i",
            "datastore": "postgresql",
            "version": "17",
            "status": BackupStatus.COMPLETED,
            "store": "directory",
            "container": "c",
            "prefix": f"i/{name}/",
            "created_at": at(minutes - 1),
            "updated_at": at(minutes),
            "facts": facts if log_from is None else {**facts, "log_from": log_from},
            **more,
        }
    )


def archive(name: str = "a", began: float = 0, ended: float | None = None) -> LogArchive:
    return LogArchive(
        id=name,
        project_id="p",
        instance_id="i",
        datastore="postgresql",
        version="17",
        store="directory",
        container="c",
        prefix=f"i/log-{name}/",
        began_at=at(began),
        ended_at=None if ended is None else at(ended),
    )


def history(
    backups: list[Backup], archives: list[LogArchive], stretches: list[Stretch], **more: Any
) -> History:
    return History("i", backups, archives, stretches, **{"positions": "lsn", **more})


def stretch(starts: int, ends: int, until: float | None, number: int = 0, name: str = "a") -> Stretch:
    return Stretch(name, number, starts, ends, None if until is None else at(until))


def test_it_can_be_restored_to_any_moment_from_its_oldest_backup_to_the_end_of_its_log() -> None:
    one = history([backup("b1", 10, 100), backup("b2", 20, 200)], [archive()], [stretch(50, 300, 30)])
    (window,) = one.windows()
    assert (window.earliest, window.latest) == (at(10), at(30))
    assert one.gaps() == []


@pytest.mark.parametrize(("minutes", "name"), [(10, "b1"), (19.99, "b1"), (20, "b2"), (30, "b2")])
def test_a_moment_is_reached_from_the_newest_backup_before_it(minutes: float, name: str) -> None:
    one = history([backup("b1", 10, 100), backup("b2", 20, 200)], [archive()], [stretch(50, 300, 30)])
    assert one.to_time(at(minutes)) == Recovery(name, "a", to_time=at(minutes))


@pytest.mark.parametrize("minutes", [9.99, 30.01])
def test_a_moment_outside_is_refused_with_what_there_is(minutes: float) -> None:
    one = history([backup("b1", 10, 100)], [archive()], [stretch(50, 300, 30)])
    with pytest.raises(
        Invalid, match=r"it can be from 2026-11-28T12:10:00Z to 2026-11-28T12:30:00Z\. Its log"
    ) as refused:
        one.to_time(at(minutes))
    assert refused.value.code == "not-restorable"


def test_a_gap_ends_the_window_and_the_next_backup_begins_another() -> None:
    one = history(
        [backup("b1", 10, 100), backup("b2", 40, 500)],
        [archive()],
        [stretch(50, 300, 30), stretch(400, 600, 50, number=1)],
    )
    assert [(window.earliest, window.latest) for window in one.windows()] == [
        (at(10), at(30)),
        (at(40), at(50)),
    ]
    assert one.gaps() == [Gap(at(30), at(40))]
    with pytest.raises(Invalid, match=r"12:30:00Z, and from 2026-11-28T12:40:00Z"):
        one.to_time(at(35))


def test_after_a_gap_nothing_is_restorable_before_the_next_backup() -> None:
    one = history(
        [backup("b1", 10, 100)], [archive()], [stretch(50, 300, 30), stretch(400, 600, 50, number=1)]
    )
    assert [window.latest for window in one.windows()] == [at(30)]
    assert one.gaps() == [Gap(at(30), None)]


def test_log_of_another_history_does_not_follow_a_backup() -> None:
    """After a restore in place the count begins again where the old history has gone on."""
    old, new = archive("old", 0, 30), archive("new", 31)
    one = history(
        [backup("b1", 25, 200), backup("b2", 40, 150)],
        [old, new],
        [stretch(50, 300, 30, name="old"), stretch(120, 400, 60, name="new")],
    )
    assert one.to_time(at(29)) == Recovery("b1", "old", to_time=at(29))
    assert one.to_time(at(50)) == Recovery("b2", "new", to_time=at(50))
    with pytest.raises(Invalid):
        one.to_time(at(35))


@pytest.mark.parametrize(
    "other",
    [
        backup("b", 10, None),
        backup("b", 10, 40),
        backup("b", 10, 301),
        backup("b", 0.5, 100),
        backup("b", 31, 300),
        backup("b", 10, 100, status=BackupStatus.FAILED),
        backup("b", 10, 100, instance_id="another"),
    ],
    ids=[
        "without log",
        "log before it is missing",
        "beyond the log",
        "older",
        "newer",
        "failed",
        "another's",
    ],
)
def test_a_backup_that_the_log_does_not_follow_opens_no_window(other: Backup) -> None:
    one = history([other], [archive()], [stretch(50, 300, 30)])
    assert one.windows() == []
    with pytest.raises(Invalid, match=r"make a backup\."):
        one.to_latest()


def test_without_an_archive_it_says_how_to_get_one() -> None:
    with pytest.raises(Invalid, match="argosy log-archive on"):
        history([backup("b1", 10, 100)], [], []).to_time(at(11))


def test_a_stretch_whose_end_is_not_known_yet_is_no_window() -> None:
    assert history([backup("b1", 10, 100)], [archive()], [stretch(50, 300, None)]).windows() == []


def test_the_latest_is_the_end_of_the_newest_window() -> None:
    one = history([backup("b1", 10, 100), backup("b2", 20, 200)], [archive()], [stretch(50, 300, 30)])
    assert one.to_latest(users="backup") == Recovery("b2", "a", users="backup")


def test_an_lsn_is_reached_from_the_newest_backup_before_it() -> None:
    backups = [backup("b1", 10, 100), backup("b2", 20, 200)]
    backups[1] = replace(backups[1], facts={**backups[1].facts, "position": "0/E0"})
    one = history(backups, [archive()], [stretch(50, 300, 30)])
    assert one.to_position("0/70") == Recovery("b1", "a", to_position="0/70")
    assert one.to_position("0/DF").backup_id == "b1"
    assert one.to_position("0/E0").backup_id == "b2"
    for outside in ("0/63", "0/12D"):
        with pytest.raises(Invalid, match="cannot be restored to position"):
            one.to_position(outside)


def test_a_gtid_is_found_by_what_segments_and_backups_say_of_theirs() -> None:
    backups = [backup("b1", 10, 3), backup("b2", 20, 5)]
    backups = [
        replace(one, facts={**one.facts, "position": position})
        for one, position in zip(backups, ("0-1-40", "0-1-90"), strict=True)
    ]
    stretches = [replace(stretch(1, 9, 30), position="0-1-170")]
    one = history(backups, [archive()], stretches, positions="gtid")
    assert [one.to_position(f"0-1-{number}").backup_id for number in (40, 89, 90, 170)] == [
        "b1", "b1", "b2", "b2",
    ]  # fmt: skip
    for outside in ("0-1-39", "0-1-171"):
        with pytest.raises(Invalid):
            one.to_position(outside)


@pytest.mark.parametrize(
    ("position", "positions", "place"),
    [("0/0", "lsn", 0), ("16/B374D848", "lsn", 0x16B374D848), ("0-1-270", "gtid", 270)],
)
def test_positions_have_a_place(position: str, positions: Any, place: int) -> None:
    assert place_of(position, positions) == place


@pytest.mark.parametrize("position", ["", "0/", "0/123456789", "0-1-1", "0/G", " 0/1", "0/1\n", "x" * 999])
def test_what_is_no_lsn_is_refused(position: str) -> None:
    with pytest.raises(Invalid, match="position must be an LSN such as 0/3000060"):
        place_of(position, "lsn")


@pytest.mark.parametrize("position", ["", "0/1", "0-1", "a-b-c", "0-1-" + "9" * 40, "0-1-1,1-1-1"])
def test_what_is_no_gtid_is_refused(position: str) -> None:
    with pytest.raises(Invalid, match="position must be a GTID such as 0-1-270"):
        place_of(position, "gtid")


def test_a_datastore_without_a_log_has_no_positions() -> None:
    with pytest.raises(Invalid, match="has no positions"):
        place_of("0/1", None)


SEGMENTS = [
    Segment(f"s{number}", number * 10, number * 10 + 10, 1, at(number), at(number + 0.9))
    for number in range(6)
]


def names(recovery: Recovery, log_from: int = 15) -> list[str]:
    return [one.name for one in needed(SEGMENTS, log_from, recovery, "lsn")]


def test_a_restore_needs_the_segments_from_its_backup_to_the_one_behind_its_target() -> None:
    assert names(Recovery("b", "a", to_time=at(2.5))) == ["s1", "s2", "s3"]
    assert names(Recovery("b", "a", to_time=at(2.95))) == ["s1", "s2", "s3", "s4"]
    assert names(Recovery("b", "a", to_position="0/1D")) == ["s1", "s2", "s3"]
    assert names(Recovery("b", "a", to_position="0/1E")) == ["s1", "s2", "s3", "s4"]
    assert names(Recovery("b", "a")) == ["s1", "s2", "s3", "s4", "s5"]
    assert names(Recovery("b", "a"), 59) == ["s5"]
    assert names(Recovery("b", "a"), 60) == []


def test_it_needs_nothing_behind_a_gap_and_cannot_begin_behind_one() -> None:
    torn = [one for one in SEGMENTS if one.name != "s3"]
    assert [one.name for one in needed(torn, 15, Recovery("b", "a"), "lsn")] == ["s1", "s2"]
    with pytest.raises(BackupUnusable, match="a gap before s4"):
        needed(torn, 35, Recovery("b", "a"), "lsn")


def test_log_is_kept_from_the_oldest_backup_on() -> None:
    mine = archive(began=0)
    backups = [backup("b1", 10, 100), backup("b2", 20, 200)]
    assert kept_from(mine, backups) == 100
    assert kept_from(mine, backups[1:]) == 200
    assert kept_from(mine, []) is None
    running = backup("b3", 30, None, status=BackupStatus.BUILDING)
    assert kept_from(mine, [*backups, running]) is None
    failed = backup("b4", 5, 50, status=BackupStatus.FAILED)
    assert kept_from(mine, [*backups, failed]) == 100


def test_an_ended_archive_is_of_no_use_once_its_backups_are_gone() -> None:
    ended = archive(ended=60)
    later = at(61) + KEPT_WITHOUT_BACKUP
    for deleted in (False, True):
        assert not is_of_no_use(ended, [backup("b1", 10, 100)], later, of_deleted=deleted)
        assert is_of_no_use(ended, [], at(61), of_deleted=deleted) is deleted
        assert is_of_no_use(ended, [], later, of_deleted=deleted)
        assert is_of_no_use(ended, [backup("b2", 70, 400)], later, of_deleted=deleted)
        assert not is_of_no_use(archive(), [], later, of_deleted=deleted)


@st.composite
def _histories(draw: st.DrawFn) -> History:
    """Some stretches one after the other in count and time, with backups anywhere."""
    stretches, count, minutes = [], 0, 1.0
    for number in range(draw(st.integers(1, 4))):
        starts = count + draw(st.integers(0, 30))
        ends = starts + draw(st.integers(1, 60))
        minutes += draw(st.integers(1, 30))
        stretches.append(stretch(starts, ends, minutes, number))
        count = ends + 1
    backups = [
        backup(f"b{number}", draw(st.integers(-5, 130)), draw(st.integers(0, 250)))
        for number in range(draw(st.integers(0, 5)))
    ]
    return history(backups, [archive(began=draw(st.integers(-10, 20)))], stretches)


@given(_histories(), st.integers(-10, 140))
def test_a_moment_is_restorable_exactly_when_it_lies_in_a_window(one: History, minutes: int) -> None:
    moment = at(minutes)
    within = [window for window in one.windows() if window.earliest <= moment <= window.latest]
    try:
        recovery = one.to_time(moment)
    except Invalid:
        assert not within
        return
    chosen = next(one for one in one.backups if one.id == recovery.backup_id)
    begins = chosen.facts["log_from"]
    assert datetime.fromisoformat(chosen.facts["consistent_at"]) <= moment
    assert any(
        window.stretch.starts <= begins <= window.stretch.ends and moment <= window.latest
        for window in within
    )


@given(st.sets(st.integers(0, 20), min_size=1), st.integers(0, 210), st.integers(0, 22))
def test_what_is_needed_follows_without_a_gap(there: set[int], log_from: int, target: int) -> None:
    segments = [
        Segment(f"s{number}", number * 10, number * 10 + 10, 1, at(number)) for number in sorted(there)
    ]
    try:
        chosen = needed(segments, log_from, Recovery("b", "a", to_time=at(target)), "lsn")
    except BackupUnusable:
        return
    assert all(before.ends == after.starts for before, after in pairwise(chosen))
    if chosen:
        assert chosen[0].starts <= log_from < chosen[0].ends
