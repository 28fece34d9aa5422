"""Archiving the binary log: each of its files is a segment, counted in bytes since the history began.

What counts for a file's place is the sum of those before it, which a note beside them keeps. The server forgets
files by itself, after a day unless its owner chose otherwise, and archived ones when the volume runs full. An archive
that lags more than that has a gap, which shows in the count, as does a RESET MASTER.
"""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

from argosy.domain.errors import EngineError, NotFound
from argosy.engines.backups import POSITION, ArchivesLog, Segment
from argosy.engines.host import Host
from argosy.engines.mariadb import configuration, sql
from argosy.engines.mariadb.binlog import BinlogFile, State, Transaction
from argosy.engines.mariadb.management import Management

_NOTE = "argosy-log.json"
_NAME = re.compile(r"\d{15,}\.(mysql-bin\.\d{6,})")
_lock = threading.Lock()


@dataclass(frozen=True)
class LogFile:
    """A file of the binary log: where it begins in the count, how long it was when last seen, and when it was begun."""

    name: str
    starts: int
    size: int
    opened_at: int

    @property
    def ends(self) -> int:
        return self.starts + self.size


@dataclass(frozen=True)
class Note:
    """What is kept of the files: those there are, and, with `archived_to`, up to where they are in the archive."""

    files: tuple[LogFile, ...] = ()
    archived_to: int | None = None


class MariaDbLogArchive(ArchivesLog):
    host: Host
    management: Management

    def keep_log(self, *, on: bool) -> None:
        with _book(self.host) as book:
            if on and book.note.archived_to is None:
                # From the file that is being written: what was before is no log of any backup's.
                book.note = Note(book.note.files, book.note.files[-1].starts if book.note.files else 0)
            elif not on:
                book.note = Note(book.note.files)

    def finished_segments(self) -> list[Segment]:
        with _book(self.host) as book:
            archived_to, files = book.note.archived_to, book.note.files
        if archived_to is None:
            return []
        place = configuration.binlogs(self.host)
        return [_segment(place, one, after) for one, after in pairwise(files) if one.ends > archived_to]

    def segment_file(self, segment: Segment) -> Path:
        return configuration.binlogs(self.host) / file_name(segment)

    def archived(self, segment: Segment) -> None:
        with _book(self.host) as book:
            if book.note.archived_to is not None:
                book.note = Note(book.note.files, max(book.note.archived_to, segment.ends))

    def give_room(self, least_free: float = 0.1) -> None:
        """Have the server forget what is archived when less than this part of the volume is free."""
        volume = os.statvfs(self.host.data)
        if volume.f_bavail >= least_free * volume.f_blocks:
            return
        with _book(self.host) as book:
            archived_to, files = book.note.archived_to, book.note.files
        needed = [one for one in files if archived_to is not None and one.ends > archived_to]
        if needed and needed[0] != files[0]:
            with self.management.session() as session:
                session.run(f"PURGE BINARY LOGS TO {sql.literal(needed[0].name)}")

    def finish_segment(self) -> None:
        with _book(self.host) as book:
            last = book.note.files[-1] if book.note.files else None
        if last is not None and BinlogFile(configuration.binlogs(self.host) / last.name).has_transactions():
            with self.management.session() as session:
                session.run("FLUSH LOCAL BINARY LOGS")

    def position(self) -> int:
        with _book(self.host) as book:
            last = book.note.files[-1] if book.note.files else None
        if last is None:
            return 0
        written = BinlogFile(configuration.binlogs(self.host) / last.name).has_transactions()
        return last.ends if written else last.starts


def file_name(segment: Segment) -> str:
    """Of the file that a segment is."""
    found = _NAME.fullmatch(segment.name)
    if found is None:
        raise NotFound(f"There is no segment {segment.name!r} of MariaDB's log.")
    return found[1]


def place_of(host: Host, file: str, position: int) -> int | None:
    """Of a position in a file, in the count; None when the server has forgotten the file."""
    with _book(host) as book:
        return next((one.starts + position for one in book.note.files if one.name == file), None)


class _Book:
    """The note, brought up to what is there now."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.kept = _read(place / _NOTE)
        self.note = replace(self.kept, files=tuple(_counted(self.kept.files, place)))


@contextmanager
def _book(host: Host) -> Iterator[_Book]:
    """What the body makes of the note is kept."""
    with _lock:
        book = _Book(configuration.binlogs(host))
        yield book
        if book.note != book.kept and book.place.is_dir():
            host.write_file(book.place / _NOTE, json.dumps(asdict(book.note)), as_agent=True)


def _read(file: Path) -> Note:
    try:
        told: dict[str, Any] = json.loads(file.read_text())
        return Note(tuple(LogFile(**one) for one in told["files"]), told["archived_to"])
    except (OSError, ValueError, KeyError, TypeError):
        return Note()


def _counted(known: Sequence[LogFile], place: Path) -> Iterator[LogFile]:
    """The files there are, in order, each where the one before it ends unless something between them is gone."""
    by_name = {one.name: one for one in known}
    last = max(known, key=lambda one: one.starts, default=None)
    for name in _listed(place):
        try:
            opened_at, size = BinlogFile(place / name).opened_at(), (place / name).stat().st_size
        except (OSError, EngineError):
            continue  # forgotten meanwhile, or only being begun
        before = by_name.get(name)
        if before is not None and before.opened_at == opened_at:
            one = replace(before, size=size)
        elif last is None:
            one = LogFile(name, 0, size, opened_at)
        else:
            follows = _number(name) == _number(last.name) + 1
            one = LogFile(name, last.ends if follows else last.ends + 1, size, opened_at)
        yield one
        last = one


def _number(name: str) -> int:
    return int(name.rpartition(".")[2])


def _listed(place: Path) -> list[str]:
    """In the server's own index."""
    try:
        lines = (place / "mysql-bin.index").read_text().splitlines()
    except FileNotFoundError:
        return []
    return [Path(line).name for line in lines if line]


@lru_cache(maxsize=512)
def _segment(place: Path, one: LogFile, after: LogFile) -> Segment:
    """What is in a finished file. Times are held within those that the server itself gives for the file."""
    file = BinlogFile(place / one.name)
    state = State(file.begins_after())
    first = last = None
    for transaction in file.transactions():
        first = first or transaction
        last = transaction
        state.add(transaction.gtid)
    facts: dict[str, Any] = {"opened_at": one.opened_at, "closed_at": after.opened_at}
    if state.place:
        facts[POSITION] = state.place
    return Segment(
        name=f"{one.starts:015d}.{one.name}",
        starts=one.starts,
        ends=one.ends,
        size_bytes=one.size,
        first_at=_within(one, after, first),
        last_at=_within(one, after, last),
        facts=facts,
    )


def _within(one: LogFile, after: LogFile, transaction: Transaction | None) -> datetime | None:
    if transaction is None:
        return None
    return datetime.fromtimestamp(min(max(transaction.at, one.opened_at), after.opened_at), UTC)
