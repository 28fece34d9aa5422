"""Archives of instances' logs in the metadata database: which there are, how far they are, and where they have gaps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from argosy.domain.backup import Backup
from argosy.domain.log_archive import History, LogArchive, Positions, Segment, Stretch
from argosy.metadata.tables import backup_schedules, instances, log_archives, log_segments, log_stretches
from argosy.metadata.tables import log_archive_choices as choices

_COLUMNS = tuple(field.name for field in fields(LogArchive))
_SEGMENT = tuple(field.name for field in fields(Segment))
_STRETCH = tuple(field.name for field in fields(Stretch))
_CHOOSING = instances.outerjoin(choices, choices.c.instance_id == instances.c.id)
_SCHEDULED = sa.exists().where(
    backup_schedules.c.instance_id == instances.c.id, backup_schedules.c.enabled.is_(True)
)
_WANTED = sa.func.coalesce(choices.c.wanted, _SCHEDULED)


@dataclass(frozen=True)
class Size:
    segments: int
    size_bytes: int


class LogArchives:
    """Those of one project, or of all."""

    def __init__(self, connection: sa.Connection, project_id: str | None) -> None:
        self._connection = connection
        self._project_id = project_id

    def find(self, archive_id: str) -> LogArchive | None:
        row = self._connection.execute(
            sa.select(log_archives).where(log_archives.c.id == archive_id, self._ours())
        ).first()
        return None if row is None else _archive(row)

    def of_instance(self, instance_id: str) -> list[LogArchive]:
        """Oldest first; also those that have ended."""
        query = sa.select(log_archives).where(log_archives.c.instance_id == instance_id, self._ours())
        return [_archive(row) for row in self._connection.execute(query.order_by(log_archives.c.began_at))]

    def open_of(self, instance_id: str) -> LogArchive | None:
        """The one that goes on."""
        return next((one for one in self.of_instance(instance_id) if one.ended_at is None), None)

    def all(self) -> list[LogArchive]:
        query = sa.select(log_archives).where(self._ours()).order_by(log_archives.c.began_at)
        return [_archive(row) for row in self._connection.execute(query)]

    def open_instances(self) -> frozenset[str]:
        """The ids of those whose log is archived now."""
        query = sa.select(log_archives.c.instance_id).where(log_archives.c.ended_at.is_(None), self._ours())
        return frozenset(self._connection.execute(query).scalars())

    def add(self, archive: LogArchive) -> None:
        values = {name: getattr(archive, name) for name in _COLUMNS}
        self._connection.execute(sa.insert(log_archives).values(**values))

    def rewrap(self, archive_id: str, wrapped_key: str) -> None:
        self._change(archive_id, wrapped_key=wrapped_key)

    def end(self, archive_id: str, because: str) -> bool:
        """It goes on no more; False when it did not anyway."""
        ended = self._connection.execute(
            sa.update(log_archives)
            .where(log_archives.c.id == archive_id, log_archives.c.ended_at.is_(None))
            .values(ended_at=datetime.now(UTC), ended_because=because, lag_bytes=None, error=None)
        )
        return ended.rowcount == 1

    def forget(self, archive_id: str) -> None:
        """Nothing of it is in the store any more."""
        for table in (log_segments, log_stretches):
            self._connection.execute(sa.delete(table).where(table.c.archive_id == archive_id))
        self._connection.execute(sa.delete(log_archives).where(log_archives.c.id == archive_id))

    def take(self, archive_id: str, segment: Segment) -> Stretch | None:
        """Write a segment down. Returns the stretch it did not continue, where it leaves a gap; told again, nothing changes."""
        known = self._connection.execute(
            sa.select(log_segments.c.name).where(
                log_segments.c.archive_id == archive_id, log_segments.c.name == segment.name
            )
        ).first()
        if known is not None:
            return None
        values = {name: getattr(segment, name) for name in _SEGMENT}
        values = {**values, "facts": dict(segment.facts)}
        self._connection.execute(
            sa.insert(log_segments).values(archive_id=archive_id, archived_at=datetime.now(UTC), **values)
        )
        before = self._last_stretch(archive_id)
        if before is not None and before.ends == segment.starts:
            self._prolong(before, segment)
            return None
        self._connection.execute(
            sa.insert(log_stretches).values(
                archive_id=archive_id,
                number=before.number + 1 if before else 0,
                starts=segment.starts,
                ends=segment.ends,
                until=segment.last_at,
                position=_position(segment),
                segments=1,
                size_bytes=segment.size_bytes,
            )
        )
        return before

    def last(self, archive_id: str) -> Segment | None:
        """The one that was written down last."""
        query = sa.select(log_segments).where(log_segments.c.archive_id == archive_id)
        newest = query.order_by(log_segments.c.archived_at.desc(), log_segments.c.starts.desc()).limit(1)
        row = self._connection.execute(newest).first()
        return None if row is None else _segment(row)

    def told(self, archive_id: str, *, lag_bytes: int, until: datetime | None, error: str | None) -> None:
        """What its guest says now: see `rpc.reports.LogReport`. Of one that has ended by now nothing is said any more."""
        going_on = sa.and_(log_archives.c.id == archive_id, log_archives.c.ended_at.is_(None))
        values = {"lag_bytes": lag_bytes, "error": error, "told_at": datetime.now(UTC)}
        if self._connection.execute(sa.update(log_archives).where(going_on).values(**values)).rowcount != 1:
            return
        last = self._last_stretch(archive_id)
        if last is not None and until is not None and (last.until is None or last.until < until):
            self._connection.execute(sa.update(log_stretches).where(_is(last)).values(until=until))

    def stretches(self, archive_ids: Sequence[str]) -> list[Stretch]:
        query = sa.select(log_stretches).where(log_stretches.c.archive_id.in_(archive_ids))
        ordered = query.order_by(log_stretches.c.archive_id, log_stretches.c.number)
        return [_stretch(row) for row in self._connection.execute(ordered)]

    def size(self, archive_id: str) -> Size:
        """How much of it is in the store."""
        stretches = log_stretches.c
        query = sa.select(sa.func.sum(stretches.segments), sa.func.sum(stretches.size_bytes))
        row = self._connection.execute(query.where(stretches.archive_id == archive_id)).one()
        # PostgreSQL adds large numbers up to decimals.
        return Size(int(row[0] or 0), int(row[1] or 0))

    def history(self, instance_id: str, backups: Sequence[Backup], positions: Positions | None) -> History:
        """What an instance, which may be gone, can be restored to by these backups of it."""
        archives = self.of_instance(instance_id)
        return History(
            instance_id, backups, archives, self.stretches([one.id for one in archives]), positions
        )

    def segments(self, archive_id: str, log_from: int = 0, limit: int | None = None) -> list[Segment]:
        """Those that end after `log_from`, in order."""
        query = sa.select(log_segments).where(
            log_segments.c.archive_id == archive_id, log_segments.c.ends > log_from
        )
        return self._segments(query, limit)

    def superfluous(self, archive_id: str, kept_from: int, limit: int) -> list[Segment]:
        """The first of those that end before or at a count."""
        query = sa.select(log_segments).where(
            log_segments.c.archive_id == archive_id, log_segments.c.ends <= kept_from
        )
        return self._segments(query, limit)

    def older(self, archive_id: str, than: datetime, limit: int) -> list[Segment]:
        """The first of those that were archived before a moment."""
        query = sa.select(log_segments).where(
            log_segments.c.archive_id == archive_id, log_segments.c.archived_at < than
        )
        return self._segments(query, limit)

    def drop(self, archive_id: str, segments: Sequence[Segment]) -> None:
        """The oldest ones are not in the store any more."""
        names = [segment.name for segment in segments]
        self._connection.execute(
            sa.delete(log_segments).where(
                log_segments.c.archive_id == archive_id, log_segments.c.name.in_(names)
            )
        )
        stretches = log_stretches.c
        for segment in segments:
            holds = sa.and_(
                stretches.archive_id == archive_id,
                stretches.starts == segment.starts,
                stretches.ends >= segment.ends,
            )
            self._connection.execute(
                sa.update(log_stretches)
                .where(holds)
                .values(
                    starts=segment.ends,
                    segments=stretches.segments - 1,
                    size_bytes=stretches.size_bytes - segment.size_bytes,
                )
            )
        # The last one stays, also empty: what is archived next continues it.
        newest = sa.select(sa.func.max(stretches.number)).where(stretches.archive_id == archive_id)
        self._connection.execute(
            sa.delete(log_stretches).where(
                stretches.archive_id == archive_id,
                stretches.segments <= 0,
                stretches.number < newest.scalar_subquery(),
            )
        )

    def choose(self, instance_id: str, *, wanted: bool | None) -> None:
        """What its owner wants; None leaves it to the instance's schedules."""
        self._connection.execute(sa.delete(choices).where(choices.c.instance_id == instance_id))
        if wanted is not None:
            self._connection.execute(sa.insert(choices).values(instance_id=instance_id, wanted=wanted))

    def chosen(self, instance_id: str) -> bool | None:
        query = sa.select(choices.c.wanted).where(choices.c.instance_id == instance_id)
        return self._connection.execute(query).scalar()

    def is_wanted(self, instance_id: str) -> bool:
        """What its owner chose, or else whether it is backed up by a schedule."""
        query = sa.select(_WANTED).select_from(_CHOOSING).where(instances.c.id == instance_id)
        return bool(self._connection.execute(query).scalar())

    def to_switch(self, datastores: Sequence[str]) -> dict[str, bool]:
        """Which instances' logs are to be archived from now on, and which no longer, by the instance's id."""
        open_now = sa.exists().where(
            log_archives.c.instance_id == instances.c.id, log_archives.c.ended_at.is_(None)
        )
        query = sa.select(instances.c.id, _WANTED.label("wanted")).select_from(_CHOOSING)
        there = sa.and_(instances.c.deleted_at.is_(None), instances.c.datastore.in_(datastores))
        rows = self._connection.execute(query.where(there, open_now != _WANTED))
        return {row.id: bool(row.wanted) for row in rows}

    def _prolong(self, stretch: Stretch, segment: Segment) -> None:
        until = stretch.until
        if segment.last_at is not None and (until is None or segment.last_at > until):
            until = segment.last_at
        self._connection.execute(
            sa.update(log_stretches)
            .where(_is(stretch))
            .values(
                ends=segment.ends,
                until=until,
                position=_position(segment) or stretch.position,
                segments=log_stretches.c.segments + 1,
                size_bytes=log_stretches.c.size_bytes + segment.size_bytes,
            )
        )

    def _last_stretch(self, archive_id: str) -> Stretch | None:
        query = sa.select(log_stretches).where(log_stretches.c.archive_id == archive_id)
        row = self._connection.execute(query.order_by(log_stretches.c.number.desc()).limit(1)).first()
        return None if row is None else _stretch(row)

    def _segments(self, query: sa.Select[Any], limit: int | None) -> list[Segment]:
        ordered = query.order_by(log_segments.c.starts, log_segments.c.ends).limit(limit)
        return [_segment(row) for row in self._connection.execute(ordered)]

    def _change(self, archive_id: str, **values: Any) -> None:
        self._connection.execute(
            sa.update(log_archives).where(log_archives.c.id == archive_id).values(**values)
        )

    def _ours(self) -> sa.ColumnElement[bool]:
        return sa.true() if self._project_id is None else log_archives.c.project_id == self._project_id


def _is(stretch: Stretch) -> sa.ColumnElement[bool]:
    return sa.and_(log_stretches.c.archive_id == stretch.archive_id, log_stretches.c.number == stretch.number)


def _position(segment: Segment) -> str | None:
    position = segment.facts.get("position")
    return position if isinstance(position, str) else None


def _archive(row: sa.Row[Any]) -> LogArchive:
    return LogArchive(**{name: row._mapping[name] for name in _COLUMNS})  # noqa: SLF001 - SQLAlchemy's public name


def _segment(row: sa.Row[Any]) -> Segment:
    return Segment(**{name: row._mapping[name] for name in _SEGMENT})  # noqa: SLF001 - SQLAlchemy's public name


def _stretch(row: sa.Row[Any]) -> Stretch:
    return Stretch(**{name: row._mapping[name] for name in _STRETCH})  # noqa: SLF001 - SQLAlchemy's public name
