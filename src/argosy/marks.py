"""Processes of this machine, known by marks in their environment, from /proc, and by files they hold.

What must be found again after a crash carries marks such as `ARGOSY_INSTANCE` in the environment it was
started with, which its children inherit. A file it holds makes finding quick, and keeps it the only one;
that may be missing. Engines look for servers this way and the local platform for agents, and neither may
import the other.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

INSTANCE = "ARGOSY_INSTANCE"
ROLE = "ARGOSY_ROLE"
ROOM = "ARGOSY_ROOM"  # means nothing: its length makes room for what `put_on` writes

_FLOCK = "hhqqi"  # struct flock, fcntl(2): type, whence, start, length, pid


@dataclass(frozen=True)
class Process:
    """A process for good: pids are reused, a pid with the time it began is not (until the next boot)."""

    pid: int
    started_at: int

    @property
    def alive(self) -> bool:
        return started_at(self.pid) == self.started_at


def started_at(pid: int) -> int | None:
    """Clock ticks after boot at which a process began, or None when there is no such (living) process.

    proc(5): field 22 of /proc/PID/stat.
    """
    fields = _stat(pid)
    return None if fields is None or fields[0] in "ZX" else int(fields[19])


def hold(path: Path) -> bool:
    """Hold a file, with our pid in it for people to read, until this process ends; False when another does.

    A lock of the process, not of the descriptor: children do not have it, and the kernel tells whose it is.
    It goes with the first descriptor of the file that is closed, so nothing else here may open it.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return False
    os.ftruncate(descriptor, 0)
    os.write(descriptor, json.dumps({"pid": os.getpid(), "started_at": started_at(os.getpid())}).encode())
    return True


def holder(path: Path) -> Process | None:
    """The process that holds a file; None when none does, or there is no such file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        asked = struct.pack(_FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        kind, *_, pid = struct.unpack(_FLOCK, fcntl.fcntl(descriptor, fcntl.F_GETLK, asked))
    finally:
        os.close(descriptor)
    ticks = None if kind == fcntl.F_UNLCK else started_at(pid)
    return None if ticks is None else Process(pid, ticks)


def put_on(environment: Mapping[str, str], title: str) -> None:
    """Have this process look as if it had been started with this environment and, in `ps`, this title.

    For a process that was forked and not started: what it was started with is its parent's. Linux shows the
    memory where that was put, so it is written over, as PostgreSQL does with its titles. Raises OSError
    when the environment does not fit: whoever is started for this leaves room, by `ROOM`.
    """
    # Before: C's own pointers lead into that memory, and setting anew makes copies elsewhere.
    os.environ.clear()
    os.environ.update(environment)
    # proc(5): fields 48 to 51 of /proc/PID/stat. A title must leave the last byte of its place a NUL.
    fields = _stat(os.getpid()) or []
    title_at, title_end, marks_at, marks_end = map(int, fields[45:49])
    _write_over(title_at, title_end - title_at, os.fsencode(title)[: title_end - title_at - 1])
    block = b"".join(os.fsencode(f"{name}={value}") + b"\0" for name, value in environment.items())
    _write_over(marks_at, marks_end - marks_at, block)
    Path("/proc/self/comm").write_text(title.split(maxsplit=1)[0])


def _write_over(start: int, size: int, block: bytes) -> None:
    if len(block) > size:
        raise OSError(f"{len(block)} bytes do not fit into the {size} there are")
    with Path("/proc/self/mem").open("r+b", buffering=0) as memory:
        memory.seek(start)
        memory.write(block.ljust(size, b"\0"))


def parent(pid: int) -> int | None:
    fields = _stat(pid)
    return None if fields is None else int(fields[1])


def environment(pid: int) -> dict[str, str]:
    """What a process was started with; empty for one that is gone, dying or somebody else's to see."""
    text = os.fsdecode(_read(f"/proc/{pid}/environ"))
    return dict(entry.split("=", 1) for entry in text.split("\0") if "=" in entry)


def marked(marks: Mapping[str, str], pids: Iterable[int] | None = None) -> list[int]:
    """The living processes, among all or these, whose environment holds every mark."""
    entries = {os.fsencode(f"{name}={value}") for name, value in marks.items()}
    return [
        pid
        for pid in (everyone() if pids is None else pids)
        if entries <= set(_read(f"/proc/{pid}/environ").split(b"\0"))
    ]


def with_descendants(pids: Iterable[int]) -> set[int]:
    """These processes and all that came from them.

    PostgreSQL's children write their title over their environment, marks and all; only their parent tells.
    """
    family = set(pids)
    children: dict[int, list[int]] = {}
    if family:
        for pid in everyone():
            children.setdefault(parent(pid) or 0, []).append(pid)
    unseen = list(family)
    while unseen:
        new = set(children.get(unseen.pop(), ())) - family
        family |= new
        unseen += new
    return family


def everyone() -> list[int]:
    with contextlib.suppress(OSError):
        return [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208 - see _read
    return []


def _stat(pid: int) -> list[str] | None:
    """The fields after the name, which may hold spaces and parentheses."""
    return _read(f"/proc/{pid}/stat").decode(errors="replace").rpartition(")")[2].split() or None


def _read(path: str) -> bytes:
    """A file of /proc, empty when it cannot be read. Every process is looked at, so it is worth being quick."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError:
        return b""
    try:
        text = b""
        while part := os.read(descriptor, 65536):
            text += part
    except OSError:
        return b""
    else:
        return text
    finally:
        os.close(descriptor)
