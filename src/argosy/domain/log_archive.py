"""Archived logs: to which moments an instance can be restored, where its log has gaps, and what a restore needs of it.

A log is archived in segments, each beginning where the one before ends, in the engine's own count. Segments that follow
each other so make a stretch. A moment can be restored to when one stretch leads there from a backup: from the point
that the backup's fact `log_from` names, up to that moment. So a gap ends what can be restored to, until the next
backup begins it anew.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, Literal

from argosy.domain.backup import RUNNING, Backup, Recovery, Users
from argosy.domain.errors import BackupUnusable, Invalid

Positions = Literal["lsn", "gtid"]

# Log that no backup needs yet is kept for a while: one may be under way that has not told where it begins.
KEPT_WITHOUT_BACKUP = timedelta(days=1)
_LSN = re.compile(r"([0-9A-Fa-f]{1,8})/([0-9A-Fa-f]{1,8})")
_GTID = re.compile(r"(\d{1,10})-(\d{1,10})-(\d{1,18})")


@dataclass(frozen=True)
class LogArchive:
    """The archive of an instance's log from when it was switched on until it ended; at most one of each goes on.

    `wrapped_key` and the place are as a backup's. `lag_bytes` is what its guest last told that waits in finished
    segments, `error` why it cannot be archived; `told_at` is when. Ended with the log's history: by being switched
    off, by a restore in place, by a new version.
    """

    id: str
    project_id: str
    instance_id: str
    datastore: str
    version: str
    store: str
    container: str
    prefix: str
    began_at: datetime
    wrapped_key: str = field(default="", repr=False)
    ended_at: datetime | None = None
    ended_because: str | None = None
    lag_bytes: int | None = None
    told_at: datetime | None = None
    error: str | None = None

    def can_follow(self, backup: Backup) -> bool:
        """Whether this is the log of the server that the backup is of, as it was then.

        Operations of an instance come one after the other, so a backup that was asked for while the archive went on
        was made while it went on.
        """
        ended = self.ended_at is not None and backup.created_at >= self.ended_at
        return backup.instance_id == self.instance_id and backup.created_at >= self.began_at and not ended


@dataclass(frozen=True)
class Segment:
    """One archived piece of log; `starts` and `ends` are in the engine's count, the times of its first and last commit."""

    name: str
    starts: int
    ends: int
    size_bytes: int
    first_at: datetime | None = None
    last_at: datetime | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Stretch:
    """Segments without a gap between them, the `number`-th such of their archive.

    Everything committed until `until` is in it; None while that is not known. `position` is the last one in it, as
    users name it.
    """

    archive_id: str
    number: int
    starts: int
    ends: int
    until: datetime | None = None
    position: str | None = None


@dataclass(frozen=True)
class Window:
    """The moments from a backup up to the end of a stretch; `backups` are those to begin at, oldest first."""

    archive: LogArchive
    stretch: Stretch
    backups: tuple[Backup, ...]
    earliest: datetime
    latest: datetime

    def __str__(self) -> str:
        return f"from {shown(self.earliest)} to {shown(self.latest)}"


@dataclass(frozen=True)
class Gap:
    """Log that was lost: nothing between the moments can be restored to. `until` is None before the next backup."""

    since: datetime | None
    until: datetime | None


@dataclass(frozen=True)
class History:
    """What there is to restore an instance from: its backups, the archives of its log, and their stretches."""

    instance_id: str
    backups: Sequence[Backup]
    archives: Sequence[LogArchive]
    stretches: Sequence[Stretch]
    positions: Positions | None = None

    def windows(self) -> list[Window]:
        """Oldest first. One ends at a gap, at a restore in place, and where archiving ended."""
        archives = {archive.id: archive for archive in self.archives}
        found = [
            window
            for stretch in self.stretches
            if stretch.archive_id in archives
            if (window := self._window(archives[stretch.archive_id], stretch)) is not None
        ]
        return sorted(found, key=lambda window: window.earliest)

    def gaps(self) -> list[Gap]:
        """Between windows of one archive, and after the last when its log has gone on without a backup."""
        windows = {(one.archive.id, one.stretch.number): one for one in self.windows()}
        found = []
        for archive in self.archives:
            mine = [stretch for stretch in self.stretches if stretch.archive_id == archive.id]
            for before, after in pairwise(sorted(mine, key=lambda stretch: stretch.number)):
                follows = windows.get((archive.id, after.number))
                found.append(Gap(before.until, follows.earliest if follows else None))
        return found

    def to_time(self, moment: datetime, users: Users = "current") -> Recovery:
        """From the newest backup before the moment, so that little log has to be replayed.

        Raises Invalid (code `not-restorable`) saying what it could be restored to.
        """
        moment = moment.astimezone(UTC)
        fitting = [
            (backup, window)
            for window in self.windows()
            if window.earliest <= moment <= window.latest
            for backup in window.backups
            if _moment_of(backup) <= moment
        ]
        if not fitting:
            raise self._not_restorable(f"to {shown(moment)}")
        backup, window = max(fitting, key=lambda one: _moment_of(one[0]))
        return Recovery(backup.id, window.archive.id, to_time=moment, users=users)

    def to_position(self, position: str, users: Users = "current") -> Recovery:
        """From the newest backup before the position. Raises Invalid, also for one that is none of the datastore's."""
        place = place_of(position, self.positions)
        fitting = []
        for window in self.windows():
            reached = _place_in(window.stretch.position, self.positions)
            end = window.stretch.ends if reached is None and self.positions == "lsn" else reached
            if end is not None and place <= end:
                fitting += [(one, window) for one in window.backups if self._is_before(one, place)]
        if not fitting:
            raise self._not_restorable(f"to position {position}")
        backup, window = max(fitting, key=lambda one: _moment_of(one[0]))
        return Recovery(backup.id, window.archive.id, to_position=position, users=users)

    def to_latest(self, users: Users = "current") -> Recovery:
        """From the newest backup to the end of its log. Raises Invalid."""
        windows = self.windows()
        if not windows:
            raise self._not_restorable("from its log")
        window = windows[-1]
        return Recovery(window.backups[-1].id, window.archive.id, users=users)

    def _window(self, archive: LogArchive, stretch: Stretch) -> Window | None:
        if stretch.until is None:
            return None
        usable = [
            backup
            for backup in self.backups
            if backup.is_usable and archive.can_follow(backup)
            if (begins := _log_from(backup)) is not None and stretch.starts <= begins <= stretch.ends
            if _moment_of(backup) <= stretch.until
        ]
        if not usable:
            return None
        usable.sort(key=_moment_of)
        return Window(archive, stretch, tuple(usable), _moment_of(usable[0]), stretch.until)

    def _is_before(self, backup: Backup, place: int) -> bool:
        known = _place_in(backup.facts.get("position"), self.positions)
        if known is None and self.positions == "lsn":
            known = _log_from(backup)
        return known is not None and known <= place

    def _not_restorable(self, where: str) -> Invalid:
        windows = self.windows()
        if not windows:
            why = (
                "its log is not archived: switch that on (argosy log-archive on), and make a backup."
                if not self.archives
                else "there is no backup with archived log behind it: make a backup."
            )
        else:
            why = f"it can be {', and '.join(str(window) for window in windows)}."
            if windows[-1].archive.ended_at is None:
                why += " Its log is archived on: what came later can be had in a minute."
        return Invalid(
            f"Instance {self.instance_id} cannot be restored {where}: {why}", code="not-restorable"
        )


def place_of(position: str, positions: Positions | None) -> int:
    """A position as a number that grows with the log. Raises Invalid when it is none of this datastore's.

    An LSN of PostgreSQL counts bytes. Of a GTID of MariaDB it is the sequence number: within one domain, which is
    how our servers are set up, they are given in order.
    """
    place = _place_in(position, positions)
    if place is not None:
        return place
    if positions == "lsn":
        raise Invalid(f"position must be an LSN such as 0/3000060, not {position[:64]!r}.")
    if positions == "gtid":
        raise Invalid(f"position must be a GTID such as 0-1-270, not {position[:64]!r}.")
    raise Invalid("This datastore has no positions to restore to.")


def needed(
    segments: Sequence[Segment], log_from: int, recovery: Recovery, positions: Positions | None
) -> list[Segment]:
    """Of an archive's segments in order: those to replay, from `log_from` up to a gap, or to the one after that which goes past the target.

    Whatever was acknowledged by a moment is in the first segment that was written to later, or before it. The one after it
    lets a server that looks for something beyond the target find it.

    Raises BackupUnusable when the first is missing.
    """
    wanted: list[Segment] = []
    place = None if recovery.to_position is None else place_of(recovery.to_position, positions)
    past = False
    for segment in segments:
        if segment.ends <= log_from:
            continue
        if wanted and segment.starts > wanted[-1].ends:
            break
        if not wanted and segment.starts > log_from:
            raise BackupUnusable(
                f"The archived log has a gap before {segment.name}: nothing leads there from this backup."
            )
        wanted.append(segment)
        if past:
            break
        past = _goes_past(segment, recovery.to_time, place, positions)
    return wanted


def kept_from(archive: LogArchive, backups: Sequence[Backup]) -> int | None:
    """Log that ends before this is needed by no backup; None when it is not known yet, or there is none to need any."""
    mine = [backup for backup in backups if archive.can_follow(backup)]
    if any(backup.status in RUNNING for backup in mine):
        return None
    begins = [_log_from(backup) for backup in mine if backup.is_usable]
    known = [one for one in begins if one is not None]
    return min(known) if known else None


def needs_none(archive: LogArchive, backups: Sequence[Backup]) -> bool:
    """Whether no backup can go on with this log, and none is being made that might."""
    mine = [backup for backup in backups if archive.can_follow(backup)]
    return not any(backup.status in RUNNING or backup.is_usable for backup in mine)


def is_of_no_use(archive: LogArchive, backups: Sequence[Backup], now: datetime, *, of_deleted: bool) -> bool:
    """Whether it has ended and nothing can be restored by it any more. No backup of a deleted instance is to come."""
    if archive.ended_at is None or not needs_none(archive, backups):
        return False
    return of_deleted or now - archive.ended_at >= KEPT_WITHOUT_BACKUP


def shown(moment: datetime) -> str:
    """As it may be given back: to the second, or finer when it is."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _goes_past(
    segment: Segment, moment: datetime | None, place: int | None, positions: Positions | None
) -> bool:
    if moment is not None:
        return any(at is not None and at > moment for at in (segment.first_at, segment.last_at))
    if place is not None:
        reached = _place_in(segment.facts.get("position"), positions)
        if reached is not None:
            return reached > place
        return positions == "lsn" and segment.ends > place
    return False


def _place_in(position: str | None, positions: Positions | None) -> int | None:
    if position is None or positions is None:
        return None
    return _PLACES[positions](position)


def _lsn(position: str) -> int | None:
    found = _LSN.fullmatch(position)
    return None if found is None else int(found[1], 16) << 32 | int(found[2], 16)


def _gtid(position: str) -> int | None:
    found = _GTID.fullmatch(position)
    return None if found is None else int(found[3])


_PLACES: Mapping[Positions, Callable[[str], int | None]] = {"lsn": _lsn, "gtid": _gtid}


def _log_from(backup: Backup) -> int | None:
    begins = backup.facts.get("log_from")
    return begins if isinstance(begins, int) else None


def _moment_of(backup: Backup) -> datetime:
    """The moment whose state it has; it may be asked of backups that say where log goes on from them."""
    told = backup.facts.get("consistent_at")
    if not isinstance(told, str):
        return backup.completed_at or backup.updated_at
    moment = datetime.fromisoformat(told)
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
