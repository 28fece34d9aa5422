"""Reading binary log files: which transactions are in them, where, and when they were committed.

A file is a mark of four bytes and events; each begins with nineteen bytes that say what it is, how long, and when its
statement began, to the second (MariaDB knowledge base, Replication Protocol, 2-Binlog Event Header; GTID_EVENT).
"""

from __future__ import annotations

import mmap
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from argosy.domain.errors import EngineError, Invalid

MAGIC = b"\xfebin"
_HEADER = struct.Struct("<IBIIIH")
_GTID_BODY = struct.Struct("<QIB")
_LISTED = struct.Struct("<IIQ")
_QUERY, _STOP, _ROTATE, _FORMAT, _XID, _XA_PREPARE = 2, 3, 4, 15, 16, 38
_CHECKPOINT, _GTID, _GTID_LIST, _START_ENCRYPTION = 161, 162, 163, 164
_BETWEEN = frozenset({_STOP, _ROTATE, _FORMAT, _CHECKPOINT, _GTID_LIST})
_ENDS = frozenset({_XID, _XA_PREPARE})
# Nothing yet, and what only prepares for a statement: INTVAR, RAND, USER_VAR, ANNOTATE_ROWS.
_BEFORE_QUERY = frozenset({0, 5, 13, 14, 160})
_STANDALONE = 1
_TEXT = re.compile(r"(\d{1,10})-(\d{1,10})-(\d{1,20})", re.ASCII)


@dataclass(frozen=True)
class Gtid:
    domain: int
    server: int
    sequence: int

    def __str__(self) -> str:
        return f"{self.domain}-{self.server}-{self.sequence}"

    @classmethod
    def parse(cls, text: str) -> Gtid:
        """Raises Invalid."""
        match = _TEXT.fullmatch(text.strip())
        if match is None:
            raise Invalid(
                f"{text[:64]!r} is no GTID: it has the form domain-server-sequence, such as 0-1-270."
            )
        return cls(*map(int, match.groups()))


@dataclass(frozen=True)
class Transaction:
    """`begins` and `ends` are offsets in its file. `at` is when its last statement began, seconds since 1970.

    That is what the session says, which may have been told another time (SET TIMESTAMP).
    """

    gtid: Gtid
    at: int
    begins: int
    ends: int


class State:
    """The last transaction of each domain and server, as `gtid_binlog_state` writes it."""

    def __init__(self, text: str = "") -> None:
        self._domains: dict[int, dict[int, Gtid]] = {}
        for one in filter(None, text.split(",")):
            self.add(Gtid.parse(one))

    def add(self, gtid: Gtid) -> None:
        servers = self._domains.setdefault(gtid.domain, {})
        # The one that was written to last stands last.
        servers.pop(gtid.server, None)
        servers[gtid.server] = gtid

    def includes(self, gtid: Gtid) -> bool:
        """Whether it, or one after it in its domain, was there."""
        return any(one.sequence >= gtid.sequence for one in self._domains.get(gtid.domain, {}).values())

    @property
    def position(self) -> str:
        """The last of each domain."""
        return ",".join(str(list(servers.values())[-1]) for _, servers in sorted(self._domains.items()))

    @property
    def place(self) -> str:
        """What users name it by: the last of the server's own domain, where there is one."""
        own = self._domains.get(0)
        return str(list(own.values())[-1]) if own else self.position

    def __str__(self) -> str:
        return ",".join(str(one) for _, servers in sorted(self._domains.items()) for one in servers.values())


class BinlogFile:
    """One file, which may still be written to: what is complete of it counts."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def opened_at(self) -> int:
        """When the server began it, seconds since 1970. Raises EngineError when it is no binary log."""
        with self.path.open("rb") as file:
            start = file.read(len(MAGIC) + _HEADER.size)
        if start[: len(MAGIC)] != MAGIC or len(start) < len(MAGIC) + _HEADER.size:
            raise EngineError(f"{self.path.name} is no binary log.")
        return int(_HEADER.unpack_from(start, len(MAGIC))[0])

    def begins_after(self) -> str:
        """The GTIDs that were there before it."""
        with self._mapped() as content:
            for begins, kind, _, _ in _events(content, len(MAGIC)):
                if kind == _GTID_LIST:
                    place = begins + _HEADER.size
                    (count,) = struct.unpack_from("<I", content, place)
                    listed = _LISTED.iter_unpack(
                        content[place + 4 : place + 4 + (count & 0xFFFFFFF) * _LISTED.size]
                    )
                    return ",".join(str(Gtid(*one)) for one in listed)
                if kind == _GTID:
                    break
        return ""

    def transactions(self, since: int = 0) -> Iterator[Transaction]:
        """Those that are complete, in order, from an offset on at which one begins."""
        with self._mapped() as content:
            begun: tuple[Gtid, int, int, bool] | None = None
            last, end = 0, 0
            for begins, kind, at, size in _events(content, max(since, len(MAGIC))):
                if kind == _START_ENCRYPTION:
                    raise EngineError(f"{self.path.name} is encrypted by the server: it cannot be read.")
                if kind == _GTID or kind in _BETWEEN:
                    if begun is not None:
                        yield Transaction(*begun[:3], begins)
                    begun = None
                if kind == _GTID:
                    sequence, domain, flags = _GTID_BODY.unpack_from(content, begins + _HEADER.size)
                    server = _HEADER.unpack_from(content, begins)[2]
                    begun = Gtid(domain, server, sequence), at, begins, bool(flags & _STANDALONE)
                    last = 0
                else:
                    last = kind
                end = begins + size
            # What the file ends with may be torn: a server that is killed does not finish what it writes.
            if begun is not None and _is_end(content, last, end, standalone=begun[3]):
                yield Transaction(*begun[:3], end)

    def has_transactions(self) -> bool:
        with self._mapped() as content:
            return any(kind == _GTID for _, kind, _, _ in _events(content, len(MAGIC)))

    def _mapped(self) -> mmap.mmap:
        with self.path.open("rb") as file:
            try:
                return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            except ValueError as error:
                raise EngineError(f"{self.path.name} is empty.") from error


def _events(content: mmap.mmap, offset: int) -> Iterator[tuple[int, int, int, int]]:
    """Offset, kind, time and size of each that is wholly there."""
    length = len(content)
    while offset + _HEADER.size <= length:
        at, kind, _, size, _, _ = _HEADER.unpack_from(content, offset)
        if size < _HEADER.size or offset + size > length:
            return
        yield offset, kind, at, size
        offset += size


def _is_end(content: mmap.mmap, kind: int, end: int, *, standalone: bool) -> bool:
    """Whether the last event ends a transaction."""
    if kind in _ENDS:
        return True
    if standalone:
        return kind not in _BEFORE_QUERY
    if kind != _QUERY:
        return False
    # A checksum of four bytes may follow.
    return any(content[max(0, end - 12) : end - cut].endswith((b"COMMIT", b"ROLLBACK")) for cut in (0, 4))
