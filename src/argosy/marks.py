"""Processes of this machine, known by marks in their environment, from /proc.

What must be found again after a crash carries marks such as `ARGOSY_INSTANCE` in the environment it was
started with, which its children inherit. A pid file only makes finding quick: it may be missing or stale.
Engines look for servers this way and the local platform for agents, and neither may import the other.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

INSTANCE = "ARGOSY_INSTANCE"
ROLE = "ARGOSY_ROLE"


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


def parent(pid: int) -> int | None:
    fields = _stat(pid)
    return None if fields is None else int(fields[1])


def environment(pid: int) -> dict[str, str]:
    """What a process was started with; empty for one that is gone, dying or somebody else's to see."""
    try:
        text = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="surrogateescape")
    except OSError:
        return {}
    return dict(entry.split("=", 1) for entry in text.split("\0") if "=" in entry)


def marked(marks: Mapping[str, str], pids: Iterable[int] | None = None) -> list[int]:
    """The living processes, among all or these, whose environment holds every mark."""
    return [
        pid for pid in (everyone() if pids is None else pids) if marks.items() <= environment(pid).items()
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
        return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return []


def _stat(pid: int) -> list[str] | None:
    """The fields after the name, which may hold spaces and parentheses."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
