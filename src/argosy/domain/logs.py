"""Logs of database servers: their names and types, the status each shows, and cutting text at line ends."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Type = Literal["USER", "SYS"]

ERROR, GUEST = "error", "guest"
# Every instance has its agent's own log; what else, its datastore says.
SYSTEM = frozenset({ERROR, GUEST})
CONTAINER = "database_logs"
KEPT_S = 2592000  # 30 days
PART_MAX = 1_000_000  # bytes of one published object


def type_of(name: str) -> Type:
    """USER logs are switched on and off by the instance's owner; SYS ones are always on, and administrators'."""
    return "SYS" if name in SYSTEM else "USER"


@dataclass(frozen=True)
class GuestLog:
    """A log as its guest tells of it.

    Positions count the bytes ever written: what can be read is from `begins` to `ends`, and the file now written
    to began at `rotated`.
    """

    name: str
    is_on: bool
    waits: bool
    begins: int
    ends: int
    rotated: int
    digest: str
    file: str


@dataclass(frozen=True)
class Published:
    """What of a log is in the object store: from one position up to another, in so many objects."""

    begins: int
    ends: int
    rotated: int
    parts: int
    container: str
    prefix: str


def is_rotated(log: GuestLog, published: Published | None) -> bool:
    """Whether the file was rotated, or is another one, since it was published (contract 2.9)."""
    return published is not None and (published.rotated != log.rotated or published.ends > log.ends)


def status(log: GuestLog | None, published: Published | None) -> str:
    """One of contract 3.6; None for a guest that does not answer."""
    if log is None:
        return "Unavailable"
    if log.waits:
        return "Restart Required"
    if not log.is_on:
        return "Disabled"
    if is_rotated(log, published):
        return "Rotated"
    if published is not None and published.ends > published.begins:
        return "Partial" if log.ends > published.ends else "Published"
    return "Ready" if log.ends > log.begins else "Enabled"


def pending(log: GuestLog | None, published: Published | None) -> int:
    """Bytes that a publish would add."""
    if log is None:
        return 0
    if published is None or is_rotated(log, published):
        return log.ends - log.begins
    return log.ends - max(published.ends, log.begins)


def cut(text: bytes, most: int = PART_MAX) -> Iterator[bytes]:
    """Text in parts of at most so many bytes, cut at line ends where there are any, never within a character."""
    while len(text) > most:
        end = text.rfind(b"\n", 0, most) + 1
        if end == 0:
            end = most
            while text[end] & 0xC0 == 0x80:
                end -= 1
        yield text[:end]
        text = text[end:]
    if text:
        yield text
