"""When an instance is backed up by itself, whole or not, and which of those backups are kept.

All of it is pure: what is due, what a backup is built on and what is past its time follow from rows and a clock.
Times are aware, UTC; so are cron expressions.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from cronsim import CronSim, CronSimError

from argosy.domain.backup import RUNNING, Backup, BackupStatus
from argosy.domain.errors import Invalid

CRON_MAX = 255
FULL_EVERY_MAX = 100
KEEP_LAST_MAX = 1000
KEEP_DAYS_MAX = 3650
VERIFY_DAYS_MAX = 365
PER_INSTANCE_MAX = 5
# What a schedule has that was told nothing else.
FULL_EVERY, KEEP_LAST = 7, 7

WORDS = ("hourly", "daily", "weekly", "monthly")
ATTEMPTS = 4  # of one run, the first included
RETRY_AFTER = (timedelta(minutes=5), timedelta(minutes=15), timedelta(hours=1))
FAILED_KEPT = timedelta(days=7)
# A backup that could not be proved for a reason outside of it is tried again after this.
VERIFY_AGAIN = timedelta(hours=6)
_NIGHT_H = 6  # by a word it is at night, UTC: from midnight on, so many hours
_EXPRESSION = re.compile(r"[\w*/,#\- \t]+", re.ASCII)


@dataclass(frozen=True)
class BackupSchedule:
    """A row of the metadata database; it goes with its instance, and its backups stay.

    `full_every` n makes every n-th backup a full one. A backup is kept while either `keep_last` or `keep_days` keeps
    it; with neither it is kept until somebody deletes it. `next_run_at` is None while it is not enabled.
    `running_id` is the backup that is being made, `last_backup_id` the last that succeeded; `last_error` says why the
    last run failed or was left out, None after one that succeeded, and `attempts` how often it was tried in vain.
    """

    id: str
    project_id: str
    instance_id: str
    cron: str
    full_every: int
    created_at: datetime
    updated_at: datetime
    keep_last: int | None = None
    keep_days: int | None = None
    verify_every_days: int | None = None
    enabled: bool = True
    next_run_at: datetime | None = None
    last_run_at: datetime | None = None
    running_id: str | None = None
    last_backup_id: str | None = None
    last_error: str | None = None
    attempts: int = 0

    @property
    def state(self) -> str:
        """In a word, for users."""
        if self.running_id is not None:
            return "running"
        if not self.enabled:
            return "off"
        return "waiting" if self.last_error is None else "failing"


def cron_of(asked: str, instance_id: str, what: str = "backup_schedule.cron") -> str:
    """The cron expression of a word or an expression. Raises Invalid, naming the field and what it may be.

    A word's hour and minute follow from the instance's id, so that not all of them are backed up at midnight.
    """
    text = " ".join(asked.split())
    if text.lower() in WORDS:
        return _of_word(text.lower(), instance_id)
    if len(text) > CRON_MAX or not _EXPRESSION.fullmatch(text) or len(text.split()) != 5:
        raise _invalid(
            what, asked, "it has five fields: minute, hour, day of the month, month, day of the week"
        )
    try:
        next(CronSim(text, datetime.fromisoformat("2024-01-01T00:00:00+00:00")))
    except CronSimError as error:
        raise _invalid(what, asked, str(error).lower()) from error
    except StopIteration as error:
        raise _invalid(what, asked, "that never comes") from error
    return text.upper()


def next_run(cron: str, after: datetime) -> datetime:
    """The first time after that."""
    # cronsim counts from whole seconds on, and never answers the second it was given.
    return next(CronSim(cron, after))


def next_attempt(cron: str, failures: int, now: datetime) -> datetime:
    """When a run that has failed so often is tried again, the next regular one where that comes first."""
    regular = next_run(cron, now)
    if failures >= ATTEMPTS:
        return regular
    return min(regular, now + RETRY_AFTER[min(failures, len(RETRY_AFTER)) - 1])


def parent_for(full_every: int, backups: Sequence[Backup], version: tuple[str, str]) -> Backup | None:
    """What a schedule's next backup is built on, of all it made; None for a full one.

    The newest that is whole, unless that ends a chain which is long enough, lacks a parent or was found to be no good,
    or is of another datastore or version than the instance has by now.
    """
    by_id = {one.id: one for one in backups}
    usable = [one for one in backups if one.status is BackupStatus.COMPLETED]
    if full_every <= 1 or not usable:
        return None
    newest = max(usable, key=lambda one: one.created_at)
    length, one = 1, newest
    while one.parent_id is not None:
        parent = by_id.get(one.parent_id)
        if parent is None or not parent.is_good:
            return None
        length, one = length + 1, parent
    same = (newest.datastore, newest.version) == version
    return newest if same and newest.is_good and length < full_every else None


def expired(schedule: BackupSchedule, backups: Sequence[Backup], now: datetime) -> list[Backup]:
    """Which of a schedule's backups may go, children before their parents. `backups` are all of its instance.

    The newest good one always stays, also when it is older than all that is to be kept, because the newer ones failed or
    were found to be no good; and so does every backup that another one needs, whoever made that, and what an
    operation holds.
    """
    mine = [one for one in backups if one.schedule_id == schedule.id]
    good = [one.created_at for one in mine if one.is_good]
    going = set()
    for one in mine:
        newer = sum(at > one.created_at for at in good)
        if _is_old_failure(one, now) or (one.is_usable and not _is_kept(schedule, newer, one, now)):
            going.add(one.id)
    by_id = {one.id: one for one in backups}
    for one in backups:
        if one.id not in going or one.operation_id is not None:
            going -= _with_parents(one, by_id)
    return _children_first([one for one in mine if one.id in going], by_id)


def to_verify(schedule: BackupSchedule, backups: Sequence[Backup], now: datetime) -> Backup | None:
    """The schedule's backup that is to be proved now; None while the last proof is fresh enough."""
    if schedule.verify_every_days is None or not schedule.enabled:
        return None
    mine = [one for one in backups if one.schedule_id == schedule.id and one.is_usable]
    if not mine:
        return None
    proved = [one.verified_at for one in mine if one.verified and one.verified_at is not None]
    if proved and now - max(proved) < timedelta(days=schedule.verify_every_days):
        return None
    newest = max(mine, key=lambda one: one.created_at)
    if not newest.is_good:
        return None  # that is known; the next one is tried
    tried = newest.verification.get("tried_at")
    if tried is not None and now - datetime.fromisoformat(tried) < VERIFY_AGAIN:
        return None
    return newest if newest.operation_id is None else None


def check_numbers(numbers: Mapping[str, int | None], *, has_increments: bool) -> None:
    """Raises Invalid, naming the field and its bounds, for what a schedule cannot have."""
    for name, most in (
        ("full_every", FULL_EVERY_MAX),
        ("keep_last", KEEP_LAST_MAX),
        ("keep_days", KEEP_DAYS_MAX),
        ("verify_every_days", VERIFY_DAYS_MAX),
    ):
        value = numbers.get(name)
        if value is not None and not 1 <= value <= most:
            raise Invalid(f"Validation error: backup_schedule.{name}: it must be from 1 to {most}.")
    if (numbers.get("full_every") or 1) > 1 and not has_increments:
        raise Invalid(
            "Validation error: backup_schedule.full_every: it must be 1, as this datastore has no incremental backups.",
            code="no-incremental-backups",
        )


def _of_word(word: str, instance_id: str) -> str:
    drawn = zlib.crc32(instance_id.encode())
    minute, hour, day = drawn % 60, drawn // 60 % _NIGHT_H, drawn // 3600
    return {
        "hourly": f"{minute} * * * *",
        "daily": f"{minute} {hour} * * *",
        "weekly": f"{minute} {hour} * * {day % 7}",
        "monthly": f"{minute} {hour} {day % 28 + 1} * *",
    }[word]


def _invalid(what: str, asked: str, reason: str) -> Invalid:
    return Invalid(
        f"Validation error: {what}: {asked[:64]!r} is neither one of {', '.join(WORDS)} nor a cron expression in UTC, "
        f"such as '30 3 * * *': {reason}."
    )


def _is_kept(schedule: BackupSchedule, newer: int, one: Backup, now: datetime) -> bool:
    """`newer` is how many good ones are newer."""
    if newer == 0 or (schedule.keep_last is None and schedule.keep_days is None):
        return True
    counted = schedule.keep_last is not None and newer < schedule.keep_last
    young = schedule.keep_days is not None and now - one.created_at < timedelta(days=schedule.keep_days)
    return counted or young


def _is_old_failure(one: Backup, now: datetime) -> bool:
    over = not one.is_usable and one.status not in RUNNING
    return over and now - one.created_at > FAILED_KEPT


def _with_parents(one: Backup, by_id: Mapping[str, Backup]) -> set[str]:
    ids = {one.id}
    while one.parent_id is not None and one.parent_id in by_id and one.parent_id not in ids:
        one = by_id[one.parent_id]
        ids.add(one.id)
    return ids


def _children_first(going: Sequence[Backup], by_id: Mapping[str, Backup]) -> list[Backup]:
    return sorted(going, key=lambda one: len(_with_parents(one, by_id)), reverse=True)
