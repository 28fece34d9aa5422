"""What the head of a snapshot tells (RDB file format, rdb.h): its format, and how many keys its first database has."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

HEAD = 2**16
_AUX, _FUNCTION, _RESIZE, _SELECT = 0xFA, 0xF5, 0xFB, 0xFE
_BYTES_OF_NUMBER = {0: 1, 1: 2, 2: 4}  # strings that are integers of 8, 16 and 32 bits


@dataclass(frozen=True)
class Head:
    """`format` is its first nine letters, such as REDIS0011 or VALKEY080.

    The first database's number, keys, and those of them that expire; None when the head does not tell, as when
    there are more functions than fit into it. `used_memory` is what the server held that wrote it, bytes.
    """

    format: str
    used_memory: int = 0
    database: int | None = None
    keys: int = 0
    expiring: int = 0


def read_head(head: bytes) -> Head | None:
    """Of the first `HEAD` bytes; None when they are not a snapshot's."""
    magic = re.match(rb"(REDIS\d{4}|VALKEY\d{3})", head)
    if magic is None:
        return None
    told = Head(magic[1].decode())
    cursor = _Cursor(head, len(told.format))
    database = None
    try:
        while True:
            kind = cursor.byte()
            if kind == _AUX:
                name, value = cursor.string(), cursor.string()
                if name == b"used-mem" and value.isdigit():
                    told = replace(told, used_memory=int(value))
            elif kind == _FUNCTION:
                cursor.string()
            elif kind == _SELECT:
                database = cursor.number()
            elif kind == _RESIZE and database is not None:
                return replace(told, database=database, keys=cursor.number(), expiring=cursor.number())
            else:
                return told
    except IndexError:
        return told


class _Cursor:
    """Raises IndexError beyond the end."""

    def __init__(self, content: bytes, position: int) -> None:
        self._content = content
        self._position = position

    def byte(self) -> int:
        value = self._content[self._position]
        self._position += 1
        return value

    def number(self) -> int:
        """A length (rdbLoadLen). Raises IndexError for what is none."""
        first = self.byte()
        kind = first >> 6
        if kind == 0:
            return first
        if kind == 1:
            return (first & 0x3F) << 8 | self.byte()
        if first in {0x80, 0x81}:
            return int.from_bytes(self._take(4 if first == 0x80 else 8), "big")
        raise IndexError

    def string(self) -> bytes:
        """Empty for one that is compressed."""
        first = self._content[self._position]
        if first >> 6 != 3:
            return self._take(self.number())
        self.byte()
        if first & 0x3F in _BYTES_OF_NUMBER:
            number = self._take(_BYTES_OF_NUMBER[first & 0x3F])
            return str(int.from_bytes(number, "little", signed=True)).encode()
        # Its size, then that of what it unfolds to.
        compressed = self.number()
        self.number()
        self._take(compressed)
        return b""

    def _take(self, size: int) -> bytes:
        if self._position + size > len(self._content):
            raise IndexError
        taken = self._content[self._position : self._position + size]
        self._position += size
        return taken
