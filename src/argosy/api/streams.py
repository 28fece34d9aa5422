"""Live streams of events and operations: server-sent events, from one reader of the metadata database.

However many follow, each journal is asked once every POLL_S what is new in it, by a thread that runs while
anybody follows. What it read lately is kept in memory for all; a stream that falls behind, or is taken up
again after its client was cut off, reads what it missed from the database. So each stream sends every entry
once and in order, and waits without holding a thread.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import structlog
from starlette.concurrency import run_in_threadpool
from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from argosy.domain.errors import ArgosyError, OverLimit, Unavailable
from argosy.domain.operations import Choice, JournalEntry
from argosy.metadata.journals import AT_ONCE, Follower, Journal
from argosy.metadata.store import Store, Transaction

log = structlog.get_logger()

POLL_S = 0.2
KEPT = 2000  # entries in memory, of each journal
RETRY_MS = 1000  # after which a client that was cut off comes back

JOURNALS: Mapping[str, Callable[[Transaction], Journal]] = {
    "events": lambda tx: tx.events.journal,
    "operations": lambda tx: tx.operations.journal,
}


class Streams:
    """All streams of this process: `at_most` of them, and `per_project` of one project.

    Every `heartbeat_s` each shows that it lives, and looks whether its caller may still follow.
    """

    def __init__(self, store: Store, *, at_most: int, per_project: int, heartbeat_s: float) -> None:
        self.heartbeat_s = heartbeat_s
        self._at_most = at_most
        self._per_project = per_project
        self._lock = threading.Lock()
        self._open: Counter[str] = Counter()
        self.channels = {name: Channel(store, name, read) for name, read in JOURNALS.items()}

    def open(self, project_id: str) -> None:
        """Raises OverLimit when the project has as many as it may, Unavailable when this process has."""
        with self._lock:
            if self._open[project_id] >= self._per_project:
                raise OverLimit(
                    f"The project follows {self._per_project} streams, which is as many as it may: end one first.",
                    code="too-many-streams",
                )
            if self._open.total() >= self._at_most:
                raise Unavailable(
                    f"This server sends {self._at_most} streams, which is as many as it does: try again later.",
                    code="too-many-streams",
                )
            self._open[project_id] += 1

    def end(self, project_id: str) -> None:
        with self._lock:
            self._open[project_id] -= 1
            if not self._open[project_id]:
                del self._open[project_id]

    def close(self) -> None:
        """The server ends: have all streams end now."""
        for channel in self.channels.values():
            channel.close()


class Channel:
    """What all streams of one journal share."""

    def __init__(self, store: Store, name: str, read: Callable[[Transaction], Journal]) -> None:
        self._store = store
        self._name = name
        self._read = read
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._reader: threading.Thread | None = None
        self._waiting: dict[asyncio.Event, asyncio.AbstractEventLoop] = {}
        self._recent: deque[JournalEntry] = deque(maxlen=KEPT)
        # Ids up to `_floor` are not in memory (any more); all up to `position` were read.
        self._floor = 0
        self.position: int | None = None

    @property
    def is_closed(self) -> bool:
        return self._ended.is_set()

    @contextmanager
    def followed(self) -> Iterator[asyncio.Event]:
        """While this lasts the journal is read, and the event is set whenever there is news."""
        news = asyncio.Event()
        with self._lock:
            self._waiting[news] = asyncio.get_running_loop()
            if self._reader is None and not self.is_closed:
                self._reader = threading.Thread(target=self._run, name=f"stream-{self._name}", daemon=True)
                self._reader.start()
        try:
            yield news
        finally:
            with self._lock:
                self._waiting.pop(news)

    def since(self, entry_id: int) -> list[JournalEntry] | None:
        """What was read behind an id, None when not all of that is in memory."""
        with self._lock:
            if entry_id < self._floor:
                return None
            if not self._recent or self._recent[-1].id <= entry_id:
                return []
            return [entry for entry in self._recent if entry.id > entry_id]

    def bounds(self) -> tuple[int, int]:
        with self._store.read() as tx:
            return self._read(tx).bounds()

    def stored(self, after: int, up_to: int, choice: Choice) -> list[JournalEntry]:
        """The next few chosen from the database."""
        with self._store.read() as tx:
            return self._read(tx).after(after, up_to=up_to, choice=choice)

    def close(self) -> None:
        self._ended.set()
        self._wake()

    def _run(self) -> None:
        follower = Follower()
        with self._lock:
            self._recent.clear()
            self.position = None
        while not self._ended.wait(POLL_S if follower.position is not None else POLL_S / 10):
            try:
                with self._store.read() as tx:
                    news = follower.read(self._read(tx))
            except Exception:
                # The database is away; the streams stay, and go on when it is back.
                log.exception("journal cannot be read", journal=self._name)
                self._ended.wait(1)
                continue
            with self._lock:
                if not self._waiting:
                    self._reader = None
                    self.position = None
                    return
                began = self.position is None and follower.position is not None
                if began and follower.position is not None:
                    self._floor = follower.position
                for entry in news:
                    if len(self._recent) == KEPT:
                        self._floor = self._recent[0].id
                    self._recent.append(entry)
                self.position = follower.position
            if news or began:
                self._wake()

    def _wake(self) -> None:
        with self._lock:
            waiting = list(self._waiting.items())
        for news, loop in waiting:
            loop.call_soon_threadsafe(news.set)


@dataclass(frozen=True)
class Following:
    """One stream: of what, for whom, from where on.

    `last_seen` is the id that the client has seen last; None begins now. `check` raises when the caller may not
    follow any more.
    """

    streams: Streams
    journal: str
    project_id: str
    choice: Choice
    view: Callable[[JournalEntry], dict[str, Any]]
    check: Callable[[], None]
    last_seen: int | None = None

    async def frames(self) -> AsyncIterator[str]:
        """The stream's text, piece by piece, until its client hangs up, its token ends or the server does."""
        channel = self.streams.channels[self.journal]
        loop, heartbeat_s = asyncio.get_running_loop(), self.streams.heartbeat_s
        yield f"retry: {RETRY_MS}\n\n"
        with channel.followed() as news:
            checked_at = loop.time()
            while channel.position is None and not channel.is_closed:
                await _wait(news, heartbeat_s)
                if channel.position is None:
                    yield ": waiting for the database\n\n"
            at = channel.position or 0
            if self.last_seen is not None:
                first, last = await run_in_threadpool(channel.bounds)
                # Another server's number, or one from before the database was put back: as good as none.
                at = self.last_seen if self.last_seen <= max(last, at) else at
                if first > at + 1 and at > 0:
                    gap = {"first": first, "message": f"What came before {first} is not kept any more."}
                    yield _frame(gap, event="gap")
            yield f": from {at} on\nid: {at}\n\n"
            while not channel.is_closed:
                async for entry_id, frame in self._missed(channel, at):
                    at = entry_id
                    if frame:
                        yield frame
                if loop.time() - checked_at >= heartbeat_s:
                    checked_at = loop.time()
                    try:
                        await run_in_threadpool(self.check)
                    except Unavailable:
                        pass  # the database is away, and says nothing against it
                    except ArgosyError as error:
                        yield _frame({"code": error.code, "message": error.sentence}, event="end")
                        return
                    yield ": still here\n\n"
                await _wait(news, max(0.0, checked_at + heartbeat_s - loop.time()))
            yield _frame({"code": "stopping", "message": "The server stops: come back."}, event="end")

    async def _missed(self, channel: Channel, at: int) -> AsyncIterator[tuple[int, str]]:
        """What came behind an id up to now; ids without a text were read and not chosen."""
        while True:
            position = channel.position or 0
            entries = channel.since(at)
            if entries is not None:
                for entry in entries:
                    yield entry.id, self._told(entry) if self.choice.fits(entry) else ""
                return
            stored = await run_in_threadpool(channel.stored, at, position, self.choice)
            for entry in stored:
                at = entry.id
                yield at, self._told(entry)
            if len(stored) < AT_ONCE:
                at = max(at, position)
                yield at, ""

    def _told(self, entry: JournalEntry) -> str:
        return _frame(self.view(entry), entry_id=entry.id)


class EventStream(StreamingResponse):
    """Server-sent events (HTML standard, section 9.2). Counts against the streams' limits until it has ended."""

    media_type = "text/event-stream"

    def __init__(self, following: Following) -> None:
        """Raises OverLimit or Unavailable when there are too many streams."""
        following.streams.open(following.project_id)
        self._following = following
        # Not to be kept by a proxy, nor gathered into larger pieces by one (nginx).
        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        super().__init__(following.frames(), headers=headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope.setdefault("state", {})["is_stream"] = True
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._following.streams.end(self._following.project_id)


async def _wait(news: asyncio.Event, at_most_s: float) -> None:
    try:
        await asyncio.wait_for(news.wait(), at_most_s)
    except TimeoutError:
        return
    news.clear()


def _frame(data: dict[str, Any], *, event: str | None = None, entry_id: int | None = None) -> str:
    """One event. JSON in ASCII has no line ends, which would end it early."""
    lines = [] if entry_id is None else [f"id: {entry_id}"]
    lines += [] if event is None else [f"event: {event}"]
    return "\n".join([*lines, f"data: {json.dumps(data)}", "", ""])
