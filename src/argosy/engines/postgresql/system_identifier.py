"""Giving a data directory copied from a template an identity of its own.

PostgreSQL tells clusters apart by a 64-bit system identifier, and refuses log files of another; copies of
one template would all pass for the same. It is kept in `global/pg_control` and in the long header at the
start of every log segment (source: pg_control.h, xlog_internal.h). The control file also holds the nonce
from which logins of unknown users are answered, which is a secret of each cluster's own.
"""

from __future__ import annotations

import os
import re
import secrets
import struct
import time
from pathlib import Path

from argosy.domain.errors import EngineError

_CASTAGNOLI = 0x82F63B78  # the polynomial of CRC-32C, bits reversed
_SEGMENT = re.compile(r"[0-9A-F]{24}")
_SEGMENT_IDENTIFIER_AT = 24  # XLogLongPageHeaderData.xlp_sysid
_CONTROL_VERSION_AT = 8
_NONCE_SIZE = 32
_SMALLEST_CONTROL, _LARGEST_CONTROL = 200, 512  # ControlFileData fits in a disk sector


def _table() -> tuple[int, ...]:
    table = []
    for index in range(256):
        value = index
        for _ in range(8):
            value = (value >> 1) ^ (_CASTAGNOLI if value & 1 else 0)
        table.append(value)
    return tuple(table)


_TABLE = _table()


def _extend(state: int, data: bytes | bytearray) -> int:
    for byte in data:
        state = _TABLE[(state ^ byte) & 0xFF] ^ (state >> 8)
    return state


def crc32c(data: bytes | bytearray) -> int:
    """CRC-32C (Castagnoli) as in RFC 3720, appendix B.4."""
    return _extend(0xFFFFFFFF, data) ^ 0xFFFFFFFF


def new_identifier() -> int:
    """Seconds in the upper half as PostgreSQL makes it, chance in the lower instead of its process id."""
    return (int(time.time()) << 32) | secrets.randbits(32)


def make_unique(data: Path) -> int:
    """Give a cleanly stopped cluster a new system identifier, which is returned, and a new nonce.

    Raises EngineError when the control file is not one.
    """
    identifier = new_identifier()
    packed = struct.pack("<Q", identifier)
    with (data / "global/pg_control").open("r+b") as file:
        control = bytearray(file.read())
        end = _checksum_at(control)
        old = bytes(control[:8])
        control[:8] = packed
        nonce = _nonce_at(control, end)
        control[nonce : nonce + _NONCE_SIZE] = secrets.token_bytes(_NONCE_SIZE)
        struct.pack_into("<I", control, end, crc32c(control[:end]))
        file.seek(0)
        file.write(control)
        file.flush()
        os.fsync(file.fileno())
    for segment in (data / "pg_wal").iterdir():
        if not _SEGMENT.fullmatch(segment.name):
            continue
        with segment.open("r+b") as file:
            file.seek(_SEGMENT_IDENTIFIER_AT)
            if file.read(8) == old:
                file.seek(_SEGMENT_IDENTIFIER_AT)
                file.write(packed)
    return identifier


def _checksum_at(control: bytes | bytearray) -> int:
    """Where the control file's checksum is: its last member, behind a struct whose size differs by version."""
    state = _extend(0xFFFFFFFF, control[:_SMALLEST_CONTROL])
    for offset in range(_SMALLEST_CONTROL, _LARGEST_CONTROL, 4):
        if struct.unpack_from("<I", control, offset)[0] == state ^ 0xFFFFFFFF:
            return offset
        state = _extend(state, control[offset : offset + 4])
    raise EngineError("global/pg_control is damaged or of an unknown version: its checksum is not found.")


def _nonce_at(control: bytes | bytearray, checksum_at: int) -> int:
    """The nonce stands right before the checksum; since 18 a boolean before it leaves three bytes of padding."""
    version = struct.unpack_from("<I", control, _CONTROL_VERSION_AT)[0]
    padding = 3 if version >= 1800 else 0
    return int(checksum_at - padding - _NONCE_SIZE)
