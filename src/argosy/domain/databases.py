"""Databases and users inside a database server: what is asked for, what is shown, how an id is written."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import unquote

ANY_HOST = "%"


@dataclass(frozen=True)
class Database:
    """A database to make or as listed; None leaves character set or collation to the server."""

    name: str
    character_set: str | None = None
    collate: str | None = None


@dataclass(frozen=True, order=True)
class UserId:
    """A user is known by name and host; engines without hosts have every user at `%`."""

    name: str
    host: str = ANY_HOST

    def __str__(self) -> str:
        """The form of list markers: `name@host`."""
        return f"{self.name}@{self.host}"

    @classmethod
    def parse(cls, segment: str) -> UserId:
        """Read a path segment, decoded once already: split at the last `@`; no or empty host means `%`.

        Clients encode once or twice (contract 2.7), so one more decoding is tried when it changes anything.
        """
        text = unquote(segment)
        name, at, host = text.rpartition("@")
        if not at:
            return cls(text)
        return cls(name, host) if host else cls(name)


@dataclass(frozen=True)
class User:
    """A user as listed, with the names of the databases it may use."""

    id: UserId
    databases: tuple[str, ...] = ()


@dataclass(frozen=True)
class NewUser:
    """A user to make. Kept out of logs: the password never shows in its repr."""

    id: UserId
    password: str = field(repr=False)
    databases: tuple[str, ...] = ()


@dataclass(frozen=True)
class UserChange:
    """What to change of a user; None leaves it."""

    name: str | None = None
    host: str | None = None
    password: str | None = field(default=None, repr=False)
