"""Parameters of database servers: what a version has, as a live server of it told, and which values it takes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Type = Literal["integer", "float", "boolean", "string"]  # contract 2.16


@dataclass(frozen=True)
class Parameter:
    """One parameter of one version.

    `default` is the server's own, as its manual writes it. `minimum` and `maximum` bound numbers, in `unit` when
    there is one (`kB`, `8kB`, `ms`…); `allowed` lists the only values there are. `restart_required` says that a
    running server takes a new value only when it starts. `owned` is the reason why Argosy sets it and nobody
    else, None when its value is the user's to choose.
    """

    name: str
    type: Type
    restart_required: bool
    default: str | None = None
    minimum: float | None = None
    maximum: float | None = None
    allowed: tuple[str, ...] = ()
    unit: str | None = None
    description: str = ""
    owned: str | None = None


@dataclass(frozen=True)
class Effective:
    """A parameter's value in a running server and where it is from; `pending` waits for a restart."""

    name: str
    value: str
    source: Literal["default", "flavor", "group", "argosy", "log", "server"]
    pending: str | None = None
