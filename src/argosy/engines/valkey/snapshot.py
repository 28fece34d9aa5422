"""A snapshot of a running server in its own format (RDB), had by posing as a replica that wants nothing else.

The server forks, the child writes what was there at that moment, and nothing touches the volume. What the child cannot
get rid of keeps it alive, and as long as it lives every page that clients change is held twice. So it is read as
fast as it writes: what the store does not take at once waits in memory, then in a nameless file on the volume, and
only when that has no room either does the child wait.
"""

from __future__ import annotations

import contextlib
import os
import socket
import tempfile
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from argosy.domain.errors import EngineError, EngineNotReady, OutOfSpace
from argosy.engines.valkey.client import Refused, packed

_PART = 2**18
_IN_MEMORY = 16 * 2**20
# What is left of the volume for the server, whatever the store does: a tenth and this.
RESERVE = 64 * 2**20
# The server sends a newline a second while it prepares (replication.c, replicationCron).
_SILENCE_S = 60
# It hangs up on a replica that takes nothing for `repl-timeout`, 60 s unless the owner says otherwise.
_SIP_S = 5
_MARK = 40


@dataclass(frozen=True)
class Snapshot:
    """Of the moment `taken_at` (UTC). `read` gives its bytes, once, and raises when they are not all."""

    taken_at: datetime
    read: Callable[[], Generator[bytes]]


@contextlib.contextmanager
def snapshot(path: Path, user: str, password: str, version: str, volume: Path) -> Iterator[Snapshot]:
    """Of the server at a Unix socket, in the format of its own version; `volume` is a directory where what the store is late to take may wait.

    Raises EngineError, and EngineNotReady when the server does not answer.
    """
    with contextlib.closing(_Wire(path)) as wire:
        wire.ask("AUTH", user, password)
        wire.ask("REPLCONF", "rdb-only", "1")  # no commands after the snapshot; since Redis 7
        wire.ask("REPLCONF", "capa", "eof")
        # Valkey writes for the version of whom it writes for, of which it assumes little, and gives up on what that
        # would not understand, such as fields that expire. Redis 7 does not know the word, and has no need of it.
        with contextlib.suppress(Refused):
            wire.ask("REPLCONF", "version", version)
        wire.ask("PSYNC", "?", "-1")
        # The server forks before it does anything else (startBgsaveForReplication).
        yield Snapshot(datetime.now(UTC), lambda: _read(wire, volume))


def _read(wire: _Wire, volume: Path) -> Generator[bytes]:
    with contextlib.closing(_Backlog(volume)) as backlog:
        reader = threading.Thread(target=_fill, args=(wire, backlog), name="snapshot", daemon=True)
        reader.start()
        try:
            while part := backlog.take():
                yield part
        finally:
            backlog.close()
            wire.hang_up()
            reader.join()


def _fill(wire: _Wire, backlog: _Backlog) -> None:
    try:
        for part in wire.payload():
            backlog.put(part)
        backlog.end(None)
    except Exception as error:  # noqa: BLE001 - raised by whoever takes
        backlog.end(error)


class _Wire:
    """A connection on which one thing is asked after the other, and then a payload is read."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(_SILENCE_S)
        self._received = bytearray()
        try:
            self._socket.connect(str(path))
        except OSError as error:
            self._socket.close()
            raise EngineNotReady(
                f"The database server does not answer: {error.strerror or error}."
            ) from error

    def ask(self, *command: str) -> None:
        """Raises Refused for any answer but a plain one."""
        with contextlib.suppress(BrokenPipeError):  # what it said before it hung up can still be read
            self._socket.sendall(packed(command))
        answer = self._line()
        if not answer.startswith(b"+"):
            raise Refused(answer.decode(errors="replace").lstrip("-"))

    def payload(self) -> Iterator[bytes]:
        """The bytes between `$EOF:<mark>` and the mark, or as many as `$<number>` says (replication.c, readSyncBulkPayload)."""
        header = self._line()
        if header.startswith(b"$EOF:") and len(header) == len(b"$EOF:") + _MARK:
            yield from self._until(header[-_MARK:])
        elif header[:1] == b"$" and header[1:].isdigit():
            yield from self._exactly(int(header[1:]))
        else:
            raise EngineError(
                f"The database server sent no snapshot: {header.decode(errors='replace')[:200]}"
            )

    def _until(self, mark: bytes) -> Iterator[bytes]:
        while True:
            if bytes(self._received[-_MARK:]) == mark:
                yield bytes(self._received[:-_MARK])
                return
            if len(self._received) > _PART:
                yield bytes(self._received[:-_MARK])
                del self._received[:-_MARK]
            self._receive()

    def _exactly(self, size: int) -> Iterator[bytes]:
        while size > 0:
            if not self._received:
                self._receive()
            part = bytes(self._received[:size])
            del self._received[: len(part)]
            size -= len(part)
            yield part

    def _line(self) -> bytes:
        """Without its end; the newlines that keep the connection alive are skipped."""
        while True:
            while self._received[:1] == b"\n":
                del self._received[:1]
            end = self._received.find(b"\r\n")
            if end >= 0:
                line = bytes(self._received[:end])
                del self._received[: end + 2]
                return line
            self._receive()

    def _receive(self) -> None:
        try:
            received = self._socket.recv(_PART)
        except TimeoutError as error:
            raise EngineNotReady(f"The database server sent nothing for {_SILENCE_S} s.") from error
        except OSError as error:
            raise EngineError(f"The database server's snapshot was cut off: {error.strerror}.") from error
        if not received:
            raise EngineError("The database server broke its snapshot off: see its log.")
        self._received += received

    def hang_up(self) -> None:
        """Wakes whoever is reading. The server then ends its child."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._socket.close()


class _Closed(Exception):
    """Nobody takes any more."""


class _Backlog:
    """What was read and not yet taken, in order: the oldest in memory, the rest in a file without a name.

    Such a file is gone with the process that has it open.
    """

    def __init__(self, volume: Path) -> None:
        self._volume = volume
        self._memory: deque[bytes] = deque()
        self._in_memory = 0
        self._file: IO[bytes] | None = None
        self._written = self._taken = 0
        self._ended = self._closed = False
        self._error: Exception | None = None
        self._changed = threading.Condition()

    def put(self, part: bytes) -> None:
        """Waits while there is no room; but takes it all the same before the server loses patience."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._has_room(), timeout=_SIP_S)
            if self._closed:
                raise _Closed
            if self._written == self._taken and self._in_memory < _IN_MEMORY:
                self._memory.append(part)
                self._in_memory += len(part)
            else:
                self._append(part)
            self._changed.notify_all()

    def take(self) -> bytes:
        """The next part; empty at the end. Raises what the reading raised."""
        with self._changed:
            self._changed.wait_for(lambda: self._memory or self._written > self._taken or self._ended)
            if self._memory:
                part = self._memory.popleft()
                self._in_memory -= len(part)
            elif self._written > self._taken:
                part = self._fetch()
            elif self._error is not None:
                raise self._error
            else:
                part = b""
            self._changed.notify_all()
            return part

    def end(self, error: Exception | None) -> None:
        with self._changed:
            self._ended, self._error = True, error
            self._changed.notify_all()

    def close(self) -> None:
        """Repeated, it does nothing."""
        with self._changed:
            self._closed = True
            if self._file is not None:
                self._file.close()
                self._file = None
            self._changed.notify_all()

    def _has_room(self) -> bool:
        if self._written == self._taken and self._in_memory < _IN_MEMORY:
            return True
        volume = os.statvfs(self._volume)
        return volume.f_bavail * volume.f_frsize > RESERVE + volume.f_blocks * volume.f_frsize // 10

    def _append(self, part: bytes) -> None:
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(dir=self._volume, buffering=0)  # noqa: SIM115 - closed by close()
            written = 0
            while written < len(part):
                written += os.pwrite(self._file.fileno(), part[written:], self._written + written)
        except OSError as error:
            raise OutOfSpace(
                "The store takes the backup too slowly, and the volume has no room for it to wait there: "
                f"{error.strerror}."
            ) from error
        self._written += len(part)

    def _fetch(self) -> bytes:
        if self._file is None:
            raise _Closed
        part = os.pread(self._file.fileno(), min(_PART, self._written - self._taken), self._taken)
        self._taken += len(part)
        if self._taken == self._written:
            self._file.truncate(0)
            self._written = self._taken = 0
        return part
