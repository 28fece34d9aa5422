"""Archives the server's log continuously: each finished segment into the store, then told, and only then forgotten.

What is archived, and by which key, is kept in a file that the agent alone reads, so that a later life of the agent goes
on with it. The log never waits for the store: when that is away segments wait, as many as the engine has room for.
"""

from __future__ import annotations

import json
import logging
import math
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from argosy.agent.transfer import Transfers
from argosy.domain.errors import ArgosyError, Conflict, EngineNotReady, Unsupported
from argosy.engines.backups import ArchivesLog, Segment
from argosy.engines.base import Engine
from argosy.rpc.messages import Archive
from argosy.rpc.reports import ConductorClient, LogReport
from argosy.rpc.segments import ArchivedSegment, SegmentTold

log = logging.getLogger(__name__)

LOOK_EVERY_S = 2.0
PATIENCE_S = 20.0  # with the store, before it is told that it is away
PAUSES_S = (1.0, 2.0, 5.0, 10.0, 30.0)
# A segment that was ended comes up among the finished ones within this, if anything was in it.
COMES_UP_S = 5.0
_PART = 2**20


@dataclass
class _Progress:
    """How far an archive is. Before it was `asked`, nothing is known of what earlier lives archived.

    `aim` is a moment, and the place of the log then: when the log is archived up to there, the archive has all of it
    `until` that moment.
    """

    asked: bool = False
    ends: int | None = None
    until: datetime | None = None
    aim: tuple[datetime, int] | None = None
    advanced_at: float = -math.inf
    lag_bytes: int = 0
    failures: int = 0
    error: str | None = None
    stalled: bool = False


class LogArchiver:
    """`record` keeps an event until it is told, `soon` asks for a report."""

    def __init__(
        self,
        engine: Engine,
        transfers: Transfers,
        conductor: ConductorClient,
        *,
        record: Callable[[str, str], None],
        soon: Callable[[], None],
    ) -> None:
        self._engine = engine
        self._log = engine if isinstance(engine, ArchivesLog) else None
        self._instance_id = engine.host.instance_id
        self._file = engine.host.etc / "log_archive.json"
        self._transfers = transfers
        self._conductor = conductor
        self._record = record
        self._soon = soon
        # Held during a turn: an archive that was switched off takes nothing more.
        self._lock = threading.RLock()
        self._wake = threading.Event()
        self._ended = False
        self._archive: Archive | None = None
        self._every_s = 60.0
        self._suspended = False
        self._at = _Progress()
        self._read()

    def switch_on(self, archive: Archive, every_s: float) -> None:
        """Archive from now on, so that what is not archived is never more than `every_s` seconds old. Safe to repeat."""
        server = self._capable()
        with self._lock:
            server.keep_log(on=True)
            if self._archive is None or self._archive.id != archive.id:
                self._at = _Progress()
            self._archive, self._every_s, self._suspended = archive, every_s, False
            self._write()
        self._wake.set()

    def switch_off(self, tell: Callable[[], object]) -> str | None:
        """Archive what there is, have it told, and no more from now on. Returns why something could not be archived."""
        server = self._capable()
        with self._lock:
            missing = None
            if self._archive is not None:
                missing = self._finish(server, self._archive)
                tell()
            server.keep_log(on=False)
            self._clear()
        return missing

    @contextmanager
    def another_history(self, tell: Callable[[], object]) -> Iterator[None]:
        """Within, the server's data is exchanged, and its log begins another history, which this archive is not of.

        The last of the old one is archived first, and nothing after it, also when the agent dies within and comes here
        again. When the data is not exchanged after all, the archive goes on.
        """
        with self._lock:
            archive = self._archive
            if archive is not None and self._log is not None and not self._suspended:
                self._finish(self._log, archive)
                tell()
                self._suspend(on=True)
        try:
            yield
        except BaseException:
            self.go_on()
            raise
        with self._lock:
            if self._log is not None and archive is not None:
                # What waits is of the old history.
                self._log.keep_log(on=False)
                self._clear()

    def go_on(self) -> None:
        """The data will not be exchanged, and the archive goes on: also one that an earlier life left waiting for that."""
        with self._lock:
            self._suspend(on=False)
        self._wake.set()

    def status(self) -> LogReport | None:
        """How far the archive is; None while there is none."""
        archive = self._archive
        if archive is None:
            return None
        waits = "It waits for a restore or an upgrade to end." if self._suspended else None
        return LogReport(
            archive_id=archive.id,
            lag_bytes=self._at.lag_bytes,
            until=self._at.until,
            error=self._at.error or waits,
        )

    def run(self) -> None:
        """The archiver's loop, until `end`."""
        # Calls are answered already, and one may be switching it off.
        with self._lock, suppress(ArgosyError, OSError):
            if self._archive is not None and self._log is not None:
                self._log.keep_log(on=True)
        while not self._ended:
            self._wake.wait(self._look())
            self._wake.clear()

    def end(self) -> None:
        self._ended = True
        self._wake.set()

    def _look(self) -> float:
        """Do a turn; returns for how long to wait for the next."""
        with self._lock:
            if self._archive is None or self._log is None or self._suspended:
                return LOOK_EVERY_S
            try:
                self._archive_all(self._log, self._archive)
            except (ArgosyError, OSError) as error:
                self._failed(error)
                return PAUSES_S[min(self._at.failures, len(PAUSES_S)) - 1]
            self._worked()
        return min(LOOK_EVERY_S, self._every_s)

    def _archive_all(self, server: ArchivesLog, archive: Archive) -> None:
        if not self._at.asked:
            self._catch_up(server, archive)
        self._archive_finished(server, archive)
        if time.monotonic() - self._at.advanced_at >= self._every_s:
            self._advance(server, archive)
        self._note_arrival()

    def _catch_up(self, server: ArchivesLog, archive: Archive) -> None:
        """What was told by an earlier life is not archived again: it would be written over while it is relied on."""
        known = self._conductor.tell_segment(
            SegmentTold(instance_id=self._instance_id, archive_id=archive.id)
        )
        waiting = server.finished_segments()
        names = [segment.name for segment in waiting]
        if known.last in names:
            for segment in waiting[: names.index(known.last) + 1]:
                server.archived(segment)
        self._at.ends = known.ends
        self._at.asked = True

    def _archive_finished(self, server: ArchivesLog, archive: Archive) -> None:
        waiting = server.finished_segments()
        self._at.lag_bytes = sum(segment.size_bytes for segment in waiting)
        for segment in waiting:
            self._put(server, archive, segment)
            self._at.lag_bytes -= segment.size_bytes

    def _put(self, server: ArchivesLog, archive: Archive, segment: Segment) -> None:
        # Slow to load, and not needed by an agent that starts.
        from argosy.storage.archive import Below, Writer

        below = Below(self._transfers.objects(archive), segment.name)
        with (
            Writer(below, f"{archive.id}/{segment.name}", bytes.fromhex(archive.key)) as writer,
            open(server.segment_file(segment), "rb", opener=_not_through_a_link) as file,
        ):
            while part := file.read(_PART):
                writer.write(part)
            manifest = writer.finish(_facts(segment))
        told = replace(segment, size_bytes=manifest.size_bytes)
        # Should the answer be lost, the next turn asks what is known.
        self._at.asked = False
        self._conductor.tell_segment(
            SegmentTold(
                instance_id=self._instance_id,
                archive_id=archive.id,
                segment=ArchivedSegment(**{**vars(told), "facts": dict(segment.facts)}),
            )
        )
        self._at.asked = True
        self._at.ends = segment.ends
        server.archived(segment)

    def _advance(self, server: ArchivesLog, archive: Archive) -> None:
        """Have the log of until now come up, so that the archive reaches this moment."""
        moment, place = datetime.now(UTC), server.position()
        if not self._reaches(place):
            server.finish_segment()
            self._archive_finished(server, archive)
        if self._at.aim is None:
            self._at.aim = (moment, place)
        self._at.advanced_at = time.monotonic()

    def _note_arrival(self) -> None:
        if self._at.aim is not None and self._reaches(self._at.aim[1]):
            self._at.until, self._at.aim = self._at.aim[0], None
            self._soon()

    def _reaches(self, place: int) -> bool:
        return self._at.ends is not None and self._at.ends >= place

    def _finish(self, server: ArchivesLog, archive: Archive) -> str | None:
        """The last turn. Returns why it did not get through."""
        deadline = time.monotonic() + COMES_UP_S
        self._at.advanced_at = -math.inf
        try:
            self._archive_all(server, archive)
            while self._at.aim is not None and time.monotonic() < deadline:
                time.sleep(0.05)
                self._archive_all(server, archive)
        except (ArgosyError, OSError) as error:
            self._failed(error)
            return _sentence(error)
        return None

    def _failed(self, error: Exception) -> None:
        self._at.failures += 1
        self._at.error = _sentence(error)
        if isinstance(error, Conflict):
            log.warning("the archive of the log has ended")
        elif self._at.failures == 1 and not isinstance(error, EngineNotReady):
            log.warning("log cannot be archived", extra={"error": self._at.error})
            self._record(
                "log_archive.stalled",
                f"The log cannot be archived now, and is tried again and again: {self._at.error}",
            )
            self._at.stalled = True
        self._soon()

    def _worked(self) -> None:
        before = self._at
        if before.stalled:
            self._record("log_archive.resumed", "The log is archived again.")
        self._at = replace(before, failures=0, error=None, stalled=False)
        if before.error is not None:
            self._soon()

    def _capable(self) -> ArchivesLog:
        if self._log is None:
            raise Unsupported("This datastore has no log that can be archived.")
        return self._log

    def _suspend(self, *, on: bool) -> None:
        if self._archive is not None and self._suspended is not on:
            self._suspended = on
            self._write()

    def _clear(self) -> None:
        self._archive, self._suspended = None, False
        self._file.unlink(missing_ok=True)
        self._at = _Progress()

    def _read(self) -> None:
        try:
            stored = json.loads(self._file.read_text())
        except FileNotFoundError:
            return
        self._archive = Archive.model_validate(stored["archive"])
        self._every_s, self._suspended = stored["every_s"], stored["suspended"]

    def _write(self) -> None:
        archive = None if self._archive is None else self._archive.model_dump()
        state = {"archive": archive, "every_s": self._every_s, "suspended": self._suspended}
        self._engine.host.write_file(self._file, json.dumps(state, indent=1), as_agent=True)


def _not_through_a_link(path: str, flags: int) -> int:
    """The directory is the server's, whose account could have put one there."""
    return os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK)


def _facts(segment: Segment) -> dict[str, Any]:
    """What the segment's own archive says of it, for whoever has nothing but the store."""
    times = {"first_at": segment.first_at, "last_at": segment.last_at}
    told = {key: value.isoformat() for key, value in times.items() if value is not None}
    return {"name": segment.name, "starts": segment.starts, "ends": segment.ends, **told, **segment.facts}


def _sentence(error: Exception) -> str:
    return error.sentence if isinstance(error, ArgosyError) else f"{type(error).__name__}: {error}"
