"""Places in the write-ahead log, and the names of the files it is kept in (source: xlog_internal.h)."""

from __future__ import annotations

import re

from argosy.domain.errors import Invalid

SEGMENT = re.compile(r"[0-9A-F]{24}")
_LSN = re.compile(r"([0-9A-Fa-f]{1,8})/([0-9A-Fa-f]{1,8})", re.ASCII)
# A segment's first record stands behind a header (SizeOfXLogLongPHD).
_HEADER_BYTES = 40


def number(written: str) -> int:
    """Of an LSN such as 0/3000060. Raises Invalid."""
    found = _LSN.fullmatch(written.strip())
    if found is None:
        raise Invalid(f"{written[:64]!r} is no LSN: it has the form 0/3000060.")
    return (int(found[1], 16) << 32) | int(found[2], 16)


def text(place: int) -> str:
    return f"{place >> 32:X}/{place & 0xFFFFFFFF:X}"


def segment_name(timeline: int, index: int, segment_bytes: int) -> str:
    """Of the `index`-th segment since the log's beginning."""
    in_each = 2**32 // segment_bytes
    return f"{timeline:08X}{index // in_each:08X}{index % in_each:08X}"


def starts(name: str, segment_bytes: int) -> int:
    """Where a segment begins in the log."""
    in_each = 2**32 // segment_bytes
    return (int(name[8:16], 16) * in_each + int(name[16:24], 16)) * segment_bytes


def without_header(place: int, segment_bytes: int) -> int:
    """Where only a segment's header was written, or is to be, nothing is: then it is where the one before ends."""
    offset = place % segment_bytes
    return place - offset if offset <= _HEADER_BYTES else place


def segment_end(place: int, segment_bytes: int) -> int:
    """Where the segment ends that has what is before a place."""
    place = without_header(place, segment_bytes)
    return -(-place // segment_bytes) * segment_bytes
