"""What a user may ask for that takes time: a frozen dataclass each, and the operation it becomes.

DBOS stores these, pickled: keep them plain, give new fields defaults, and hold no secret in the clear.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import ClassVar


class State(StrEnum):
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


@dataclass(frozen=True)
class Request:
    """Base of what is asked; `kind` names the workflow that does it."""

    kind: ClassVar[str]
    operation_id: str
    instance_id: str


@dataclass(frozen=True)
class CreateInstance(Request):
    """`sealed` holds the databases and users to make, encrypted: passwords never lie in a queue."""

    kind: ClassVar[str] = "instance.create"
    datastore: str
    version: str
    sealed: str


@dataclass(frozen=True)
class RestartInstance(Request):
    kind: ClassVar[str] = "instance.restart"


@dataclass(frozen=True)
class DeleteInstance(Request):
    kind: ClassVar[str] = "instance.delete"


# An instance is of no use after one of these failed: it shows ERROR until it is deleted or reset.
BREAKING = frozenset({CreateInstance.kind, DeleteInstance.kind})


@dataclass(frozen=True)
class Operation:
    """One heavy request and how far it is: step `step` of `steps`, in words; times are aware, UTC."""

    id: str
    project_id: str
    instance_id: str
    kind: str
    state: State
    step: int
    steps: int
    doing: str
    requested_by: str
    created_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None
    error_code: str | None = None
    error: str | None = None
    error_details: str | None = None


@dataclass(frozen=True)
class Event:
    """Something that happened to an instance: when, what, by whom (a user's name, or the part of Argosy)."""

    id: int
    project_id: str
    instance_id: str
    at: datetime
    kind: str
    message: str
    actor: str
