"""How a guest tells that a segment of its log is in the store: POST /v1/segments. Only then its server forgets it."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

PATH = "/v1/segments"
# A name becomes part of the names of objects.
NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$"

_Count = Annotated[int, Field(ge=0, lt=2**63)]


class ArchivedSegment(BaseModel):
    """See `engines.backups.Segment`; `size_bytes` is what it takes in the store."""

    model_config = ConfigDict(extra="ignore")
    name: str = Field(pattern=NAME)
    starts: _Count
    ends: _Count
    size_bytes: _Count
    first_at: AwareDatetime | None = None
    last_at: AwareDatetime | None = None
    facts: dict[str, Any] = {}


class SegmentTold(BaseModel):
    """Without a segment it only asks how far the archive is. Telling one again is harmless."""

    model_config = ConfigDict(extra="ignore")
    instance_id: str
    archive_id: str
    segment: ArchivedSegment | None = None


class SegmentsKnown(BaseModel):
    """The segment that was written down last, and where it ends: it and those before it are not to be archived again."""

    model_config = ConfigDict(extra="ignore")
    last: str | None = None
    ends: int | None = None
