"""Which history an instance's data is of.

A restore begins another: what is written from there on follows the backup, and may have the same positions in the log as
what the instance wrote before, so increments of the one must never be laid upon the other. A file in the data
directory says which it is; data that was never restored has that of its template's copy, the system identifier.
"""

from __future__ import annotations

import os
import re
import secrets
import struct
from pathlib import Path

FILE = "argosy-history"


def new() -> str:
    return secrets.token_hex(8)


def name(data: Path) -> str:
    """What tells it from every other."""
    told = _beginning(data / FILE, 32).decode(errors="replace").strip()
    control = _beginning(data / "global/pg_control", 8)  # it begins with the system identifier
    identifier = struct.unpack("<Q", control)[0] if len(control) == 8 else ""
    return f"{identifier}/{told if re.fullmatch(r'[0-9a-f]{16}', told) else ''}"


def _beginning(file: Path, size: int) -> bytes:
    """Of a file of the server's, whose account could have put a link or a pipe there."""
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return b""
    try:
        return os.read(descriptor, size)
    except OSError:
        return b""
    finally:
        os.close(descriptor)
