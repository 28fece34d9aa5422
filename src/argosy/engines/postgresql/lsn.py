"""Places in the write-ahead log, and the names of the files it is kept in (source: xlog_internal.h)."""

from __future__ import annotations

import re

SEGMENT = re.compile(r"[0-9A-F]{24}")


def number(text: str) -> int:
    """Of an LSN such as 0/3000060."""
    high, _, low = text.partition("/")
    return (int(high, 16) << 32) | int(low, 16)


def segment_name(timeline: int, index: int, segment_bytes: int) -> str:
    """Of the `index`-th segment since the log's beginning."""
    in_each = 2**32 // segment_bytes
    return f"{timeline:08X}{index // in_each:08X}{index % in_each:08X}"


def starts(name: str, segment_bytes: int) -> int:
    """Where a segment begins in the log."""
    in_each = 2**32 // segment_bytes
    return (int(name[8:16], 16) * in_each + int(name[16:24], 16)) * segment_bytes
