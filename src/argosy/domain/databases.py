"""Databases and users inside a database server: what is asked for, what is shown, how an id is written."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from argosy.domain.errors import Invalid, Unsupported

if TYPE_CHECKING:
    from argosy.domain.datastore import Datastore

ANY_HOST = "%"
HOST_MAX = 255
PASSWORD_MAX = 255
_HOST = re.compile(r"%|%?[\w().-](?:[\w().%-]*[\w().-])?%?", re.ASCII)


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
        """Read a path segment, decoded: split at the last `@`; without a host the whole text is the name.

        Trove decodes once more, and so takes the user `a%41` for `aA`; clients encode once (contract 2.7).
        """
        name, _, host = segment.rpartition("@")
        return cls(name, host) if name and host else cls(segment)


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


def check_databases(datastore: Datastore, databases: Sequence[Database]) -> None:
    """Names an engine accepts, none twice. Raises Invalid, or Unsupported where there are no databases."""
    rule = datastore.database_names
    if rule is None or "databases" not in datastore.capabilities:
        if databases:
            raise Unsupported(f"{datastore.title} has no databases of its own: leave `databases` out.")
        return
    for database in databases:
        rule.check(database.name, "database name")
    _check_once((database.name for database in databases), "database")


def check_users(datastore: Datastore, users: Sequence[NewUser]) -> None:
    """Names, hosts and passwords an engine accepts, nobody twice. Raises Invalid or Unsupported."""
    if users and "users" not in datastore.capabilities:
        raise Unsupported(f"{datastore.title} has no users of its own: leave `users` out.")
    for user in users:
        check_user_id(datastore, user.id)
        check_password(datastore, user.password)
        check_access(datastore, user.databases)
    _check_once((str(user.id) for user in users), "user")


def check_access(datastore: Datastore, databases: Sequence[str]) -> None:
    """Databases that access is given to. Raises Invalid where names cannot be right, Unsupported where there are none."""
    if databases and ("access" not in datastore.capabilities or datastore.database_names is None):
        raise Unsupported(f"{datastore.title} has no databases to give access to: leave `databases` out.")
    for name in databases:
        if datastore.database_names is not None:
            datastore.database_names.check(name, "database name")
    _check_once(databases, "database")


def check_user_id(datastore: Datastore, user: UserId) -> None:
    if datastore.user_names is not None:
        datastore.user_names.check(user.name, "user name")
    check_host(datastore, user.host)


def check_host(datastore: Datastore, host: str) -> None:
    """`%`, or letters, digits and `_().-` with a `%` at either end (contract 3.9); `%` alone without hosts."""
    if not datastore.user_hosts and host != ANY_HOST:
        raise Invalid(
            f"{datastore.title} does not tell users apart by host: leave `host` out or say '%', not {host!r}."
        )
    if len(host) > HOST_MAX or not _HOST.fullmatch(host):
        raise Invalid(
            f"host {host!r} must be '%' or an address with '%' for what may vary, such as 10.0.0.%, of {HOST_MAX} characters at most."
        )


def check_password(datastore: Datastore, password: str) -> None:
    """Never repeats the password. Raises Invalid."""
    if not 1 <= len(password) <= PASSWORD_MAX:
        raise Invalid(f"password must have 1 to {PASSWORD_MAX} characters, it has {len(password)}.")
    if not any(character.isascii() and character.isalnum() for character in password):
        raise Invalid("password must hold at least one letter or digit.")
    if any(ord(character) < 32 or ord(character) == 127 for character in password):
        raise Invalid("password must not hold control characters.")
    if datastore.passwords is not None:
        bad = set(password) & set(datastore.passwords.forbidden)
        if bad:
            raise Invalid(f"password must not hold any of {datastore.passwords.forbidden!r}.")


def _check_once(names: Iterable[str], what: str) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise Invalid(f"{what} {name!r} is named twice.")
        seen.add(name)
