"""The instance's log files: read from any place, and kept from filling the machine.

A file that has grown beyond its bound is copied to `.1` beside it and cut to nothing, while the server goes on
writing to it: every writer appends, so it goes on at the new end. Lines written between the end of the copy and the
cut, some microseconds, are lost. Positions count all bytes ever written, so they outlive this; how many were cut
away is kept in `etc/logs.json`, which is written before and after each cut.

The directory is the server's, whose users' root may put anything there: nothing is opened through a link, and
nothing is read but plain files of the right owner.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import stat
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from argosy.domain.errors import Invalid
from argosy.domain.logs import GUEST
from argosy.engines.base import Engine, Logs
from argosy.engines.host import Host
from argosy.engines.logs import Belongs, Log
from argosy.rpc import messages

log = logging.getLogger(__name__)

FILE_MAX = 64 * 2**20
LOOK_EVERY_S = 1.0
MOST_AT_ONCE = 1_000_000
_BLOCK = 256 * 1024
_SEARCHED = 32 * 2**20  # for the last lines of a log that shares its file
_HEAD = 4096


@dataclass(frozen=True)
class _Cut:
    """`base` bytes were cut away so far, of which the last `previous` are in the file's `.1`.

    `cutting` says up to where the file is being cut this moment, and `head` what it began with before.
    """

    base: int = 0
    previous: int = 0
    cutting: int = 0
    kept: int = 0
    head: str = ""


class _View:
    """A log's file and the one before it, as one stretch of positions."""

    def __init__(self, cut: _Cut, previous: int | None, current: int | None) -> None:
        self._previous, self._current = previous, current
        size = os.fstat(current).st_size if current is not None else 0
        held = previous is not None and os.fstat(previous).st_size == cut.previous
        self.rotated = cut.base
        self.begins = cut.base - cut.previous if held else cut.base
        self.ends = cut.base + size

    def read(self, start: int, length: int) -> bytes:
        """What there is from a position on; less than asked for at the end only."""
        text = b""
        if start < self.rotated and self._previous is not None:
            text = os.pread(self._previous, min(length, self.rotated - start), start - self.begins)
        if len(text) < length and self._current is not None:
            at = start + len(text) - self.rotated
            text += os.pread(self._current, length - len(text), at)
        return text


class LogFiles:
    """The logs of one engine and the agent's own. Methods may be called from any thread."""

    def __init__(self, engine: Engine, *, most_bytes: int = FILE_MAX) -> None:
        self._engine = engine
        self._host: Host = engine.host
        self._most_bytes = most_bytes
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._state = self._host.etc / "logs.json"
        self._cuts = self._remembered()

    def every(self) -> list[messages.Log]:
        with self._lock:
            return [self._told(one) for one in self._logs()]

    def switch(self, name: str, *, on: bool) -> None:
        """Raises Invalid."""
        found = self._find(name)
        if found.switch is None or not isinstance(self._engine, Logs):
            raise Invalid(f"The log {name} cannot be switched: it is always on.")
        self._engine.switch_log(name, on=on)

    def read(self, name: str, position: int | None, last: int, limit: int) -> messages.LogPart:
        """Whole lines from a position; from the start of the last lines without one. Raises Invalid."""
        found = self._find(name)
        limit = max(1, min(limit, MOST_AT_ONCE))
        with self._lock, self._view(found.file) as view:
            missed = False
            if position is None:
                position = _start_of_last(view, found.belongs, last)
            elif not view.begins <= position <= view.ends:
                missed = True
                position = view.begins if position < view.begins else view.rotated
            text = _whole_lines(view.read(position, limit), limit)
            following = position + len(text)
            if found.belongs is not None:
                text = b"".join(_of(text, found.belongs, _began(view, position, found.belongs)))
            return messages.LogPart(
                text=text.decode("utf-8", "replace"),
                position=position,
                next=following,
                missed=missed,
                log=self._told(found, view),
            )

    def run(self) -> None:
        """Keep the files within their bound, until `end`."""
        while not self._ended.wait(LOOK_EVERY_S):
            try:
                self.keep()
            except Exception:
                log.exception("logs cannot be rotated")

    def end(self) -> None:
        self._ended.set()

    def keep(self) -> None:
        """Rotate what has grown too large."""
        for file in {one.file for one in self._logs()}:
            with self._lock, self._open(file) as descriptor:
                if descriptor is not None and os.fstat(descriptor).st_size > self._most_bytes:
                    self._rotate(file, descriptor)

    def _rotate(self, file: Path, descriptor: int) -> None:
        cut = self._cuts.get(file.name, _Cut())
        size = os.fstat(descriptor).st_size
        # Of one that outran us only the end is kept.
        start = max(0, size - self._most_bytes)
        head = _digest(os.pread(descriptor, _HEAD, 0))
        before, making = _before(file), file.with_name(f".{file.name}.new")
        end = start
        kept = True
        try:
            with contextlib.suppress(FileNotFoundError):
                making.unlink()
            copy = os.open(making, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o640)
            try:
                os.fchown(copy, *self._owner(file))
                # A writer that outruns us is not chased for ever: it loses what is too much for the file.
                most = size + self._most_bytes
                while end < most and (part := os.pread(descriptor, min(_BLOCK, most - end), end)):
                    end += os.write(copy, part)
            finally:
                os.close(copy)
        except OSError as error:
            # No room for a copy: all the more reason to cut.
            log.warning("a log is cut without a copy", extra={"file": file.name, "error": str(error)})
            with contextlib.suppress(OSError):
                making.unlink()
            kept, end = False, size
        self._remember(file, _Cut(cut.base, cut.previous, end, end - start if kept else 0, head))
        if kept:
            making.replace(before)
        writing = os.open(file, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            if os.fstat(writing).st_ino == os.fstat(descriptor).st_ino:
                os.ftruncate(writing, 0)
        finally:
            os.close(writing)
        self._remember(file, _Cut(cut.base + end, end - start if kept else 0))
        log.info("log rotated", extra={"file": file.name, "bytes": end})

    def _remembered(self) -> dict[str, _Cut]:
        try:
            stored = json.loads(self._state.read_text())
            cuts = {name: _Cut(**one) for name, one in stored.items()}
        except (OSError, ValueError, TypeError):
            return {}
        for name, cut in cuts.items():
            if cut.cutting:
                cuts[name] = self._settled(self._host.logs / name, cut)
        return cuts

    def _settled(self, file: Path, cut: _Cut) -> _Cut:
        """What an agent that died while it cut a file has done of it."""
        with self._open(file) as descriptor:
            whole = (
                descriptor is not None
                and os.fstat(descriptor).st_size >= cut.cutting
                and _digest(os.pread(descriptor, _HEAD, 0)) == cut.head
            )
        return _Cut(cut.base) if whole else _Cut(cut.base + cut.cutting, cut.kept)

    def _remember(self, file: Path, cut: _Cut) -> None:
        self._cuts[file.name] = cut
        stored = {name: asdict(one) for name, one in self._cuts.items()}
        self._host.write_file(self._state, json.dumps(stored), as_agent=True)

    def _logs(self) -> list[Log]:
        own = Log(GUEST, self._host.logs / "agent.log")
        return [*(self._engine.logs() if isinstance(self._engine, Logs) else ()), own]

    def _find(self, name: str) -> Log:
        for one in self._logs():
            if one.name == name:
                return one
        raise Invalid(f"There is no log {name[:64]!r} here.", code="log-undefined")

    def _told(self, one: Log, view: _View | None = None) -> messages.Log:
        if view is None:
            with self._view(one.file) as found:
                return self._told(one, found)
        return messages.Log(
            name=one.name,
            is_on=one.is_on,
            waits=one.waits,
            begins=view.begins,
            ends=view.ends,
            rotated=view.rotated,
            digest=_digest(view.read(view.begins, _HEAD).partition(b"\n")[0]),
            file=str(one.file),
        )

    @contextlib.contextmanager
    def _view(self, file: Path) -> Iterator[_View]:
        with self._open(_before(file)) as previous, self._open(file) as current:
            yield _View(self._cuts.get(file.name, _Cut()), previous, current)

    @contextlib.contextmanager
    def _open(self, file: Path) -> Iterator[int | None]:
        """A plain file of its rightful owner; None for anything else."""
        try:
            descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            yield None
            return
        try:
            status = os.fstat(descriptor)
            is_ours = stat.S_ISREG(status.st_mode) and status.st_uid == self._owner(file)[0]
            yield descriptor if is_ours and status.st_nlink == 1 else None
        finally:
            os.close(descriptor)

    def _owner(self, file: Path) -> tuple[int, int]:
        if file.name.startswith("agent.log"):
            return os.geteuid(), os.getegid()
        return self._host.account.uid, self._host.account.gid


def _before(file: Path) -> Path:
    return file.with_name(f"{file.name}.1")


def _digest(text: bytes) -> str:
    return hashlib.md5(text, usedforsecurity=False).hexdigest()


def _whole_lines(text: bytes, limit: int) -> bytes:
    """Up to the last line end; a line longer than all there may be is cut."""
    end = text.rfind(b"\n") + 1
    if end:
        return text[:end]
    if len(text) < limit:
        return b""
    # Not within a character.
    cut = len(text)
    while cut > 1 and text[cut - 1] & 0xC0 == 0x80 and len(text) - cut < 3:
        cut -= 1
    return text[: cut - 1] if cut > 1 and text[cut - 1] >= 0xC0 else text


def _of(text: bytes, belongs: Belongs, inside: bool) -> Iterator[bytes]:
    for line in text.splitlines(keepends=True):
        verdict = belongs(line)
        inside = inside if verdict is None else verdict
        if inside:
            yield line


def _began(view: _View, position: int, belongs: Belongs) -> bool:
    """Whether the entry that a position is in belongs: the last line before it that says so."""
    start = max(view.begins, position - _BLOCK)
    for line in reversed(view.read(start, position - start).split(b"\n")):
        verdict = belongs(line) if line else None
        if verdict is not None:
            return verdict
    return False


def _start_of_last(view: _View, belongs: Belongs | None, last: int) -> int:
    """Where the last lines begin, of those that belong; a little more where an entry has several lines."""
    position = view.ends
    found = following = 0
    for start in _line_starts(view):
        if found >= last:
            break
        verdict = True if belongs is None else belongs(view.read(start, _HEAD))
        if verdict is None:
            following += 1
            continue
        if verdict:
            found += 1 + following
            position = start
        following = 0
    return position


def _line_starts(view: _View) -> Iterator[int]:
    """Where whole lines begin, the last first, as far back as is searched."""
    least = max(view.begins, view.ends - _SEARCHED)
    end = view.ends
    is_whole = False
    while end > least:
        start = max(least, end - _BLOCK)
        text = view.read(start, end - start)
        at = len(text)
        while (at := text.rfind(b"\n", 0, at)) >= 0:
            # What stands behind the last line end is no whole line yet.
            if is_whole:
                yield start + at + 1
            is_whole = True
        end = start
    if is_whole and least == view.begins:
        yield least
