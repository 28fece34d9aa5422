"""Which parameters are Argosy's to set, and why: read from a table of reasons and the names under each."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase


def reason_for(name: str, table: Mapping[str, str]) -> str | None:
    """The reason whose names, parted by blanks, have this one among them; `*` stands for any letters."""
    for reason, names in table.items():
        if any(fnmatchcase(name, pattern) for pattern in names.split()):
            return reason
    return None
