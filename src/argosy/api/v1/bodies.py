"""The request bodies that more than one resource takes."""

from __future__ import annotations

import re
from ipaddress import IPv4Network
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StrictStr,
    StringConstraints,
)

from argosy.domain import databases as domain

NAME_MAX = 255
NETWORKS_MAX = 100  # each costs every packet of a client a comparison, see engines/gate.py

Name = Annotated[StrictStr, StringConstraints(min_length=1, max_length=NAME_MAX)]
ServersWord = Annotated[
    StrictStr, StringConstraints(min_length=1, max_length=NAME_MAX, pattern=r"^[\w.@-]+$")
]


class Body(BaseModel):
    """Unknown keys are ignored where the contract says so; a part that forbids them says that itself."""

    model_config = ConfigDict(extra="ignore")


def _size(value: Any) -> Any:
    """Clients send sizes as numbers or as text of digits (contract 2.1)."""
    if isinstance(value, str) and len(value) <= 40 and value.isascii() and value.isdigit():
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError("must be a whole number of GB, or its digits")  # noqa: TRY004 - Pydantic reads ValueError
    return value


SizeGb = Annotated[int, BeforeValidator(_size), Field(ge=1)]


def _reference(value: Any) -> Any:
    """An id, a number, or a URL whose last segment is the id."""
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError("must be an id or a URL ending in one")  # noqa: TRY004 - Pydantic reads ValueError
    last = str(value).rstrip("/").rpartition("/")[2]
    if not last.isprintable():
        raise ValueError("must be an id or a URL ending in one, without control characters")
    return last


Reference = Annotated[str, BeforeValidator(_reference), StringConstraints(min_length=1, max_length=NAME_MAX)]


class DatastoreBody(Body):
    """A version of a datastore, both by name or id; what is missing is the default one."""

    type: StrictStr | None = None
    version: StrictStr | None = None
    version_number: StrictStr | None = None


def _network(value: str) -> str:
    if not re.fullmatch(r"[\d.]{7,15}(/\d{1,2})?", value, re.ASCII):
        raise ValueError("must be an IPv4 address or network, such as 10.0.0.0/8")
    IPv4Network(value, strict=False)
    return value


def _unique(values: list[str]) -> list[str]:
    if len(set(values)) != len(values):
        raise ValueError("must not name one twice")
    return values


class AccessBody(Body, extra="forbid"):
    """Without networks clients may come from anywhere."""

    is_public: StrictBool = False
    allowed_cidrs: Annotated[
        list[Annotated[StrictStr, AfterValidator(_network)]],
        AfterValidator(_unique),
        Field(max_length=NETWORKS_MAX),
    ] = Field(default_factory=list)


class TlsBody(Body, extra="forbid"):
    mode: Literal["allowed", "required"]


class DatabaseBody(Body):
    name: Name
    character_set: ServersWord | None = None
    collate: ServersWord | None = None

    def to_domain(self) -> domain.Database:
        return domain.Database(self.name, self.character_set, self.collate)


class DatabaseName(Body):
    name: Name


class UserBody(Body):
    name: Name
    password: Name = Field(repr=False)
    host: Name | None = None
    databases: list[DatabaseName] = Field(default_factory=list)

    def to_domain(self) -> domain.NewUser:
        names = tuple(database.name for database in self.databases)
        return domain.NewUser(domain.UserId(self.name, self.host or domain.ANY_HOST), self.password, names)
