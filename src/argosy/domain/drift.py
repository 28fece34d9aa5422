"""Where the platform and the metadata differ: what was found, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


@dataclass(frozen=True)
class Finding:
    """One difference. `instance_id` is None for what belongs to no instance we know; then `carries` is the id it carries.

    `kind` is one of a few stable words, such as "server-missing"; `resource` names what it is about, by type and name or
    id. `message` is for the instance's owner too. One that was `repaired` is told once.
    """

    kind: str
    resource: str
    message: str
    instance_id: str | None = None
    repaired: bool = False
    carries: str | None = None


@dataclass(frozen=True, kw_only=True)
class NotedFinding(Finding):
    """A finding as it is written down: open until it is `gone_at`, repaired or not seen any more."""

    id: str
    found_at: datetime
    seen_at: datetime
    gone_at: datetime | None = None
    instance_name: str | None = None
    project_id: str | None = None


class Change(StrEnum):
    """What became of one by a look."""

    FOUND = "found"
    REPAIRED = "repaired"
    GONE = "gone"
