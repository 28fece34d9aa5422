"""Which history an instance's data is of.

A restore begins another: what is written from there on follows the backup, and may have the same positions in the log as
what the instance wrote before, so increments of the one must never be laid upon the other. A file in the data
directory says which it is; data that was never restored has that of its template's copy, the system identifier.
"""

from __future__ import annotations

import re
import secrets
from pathlib import Path

from argosy.engines.host import Host
from argosy.engines.postgresql.session import Connection

_FILE = "argosy-history"


def name(session: Connection, data: Path) -> str:
    """What tells it from every other."""
    try:
        told = (data / _FILE).read_text(errors="replace").strip()
    except OSError:
        told = ""
    row = session.execute("SELECT system_identifier FROM pg_control_system()").fetchone()
    return f"{row[0] if row else ''}/{told if re.fullmatch(r'[0-9a-f]{16}', told) else ''}"


def begin(host: Host, data: Path) -> None:
    """Have this data directory, which was restored, be of a new history."""
    host.write_file(data / _FILE, secrets.token_hex(8))
