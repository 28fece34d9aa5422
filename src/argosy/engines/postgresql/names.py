"""Names PostgreSQL can hold, and which are not users' to take."""

from __future__ import annotations

from argosy.domain.databases import ANY_HOST, UserId
from argosy.domain.errors import Invalid, UserNotFound
from argosy.engines.postgresql.session import ADMIN, MAINTENANCE, REPLICATION, ROOT, TEMPLATES

_MOST_BYTES = 63  # NAMEDATALEN - 1; the server would cut a longer one short and say so in passing

GROUP_PREFIX = "os_db_"
RESERVED_DATABASES = frozenset({MAINTENANCE, *TEMPLATES, ADMIN})
RESERVED_USERS = frozenset({ADMIN, REPLICATION, ROOT, "postgres", "public", "none"})


def group_of(database_oid: int) -> str:
    """The role that holds the rights to a database: who may use it is a member."""
    return f"{GROUP_PREFIX}{database_oid}"


def is_users_name(name: str) -> bool:
    """Whether a role of that name is a user's and not ours or the server's."""
    return name not in RESERVED_USERS and not name.startswith(("pg_", GROUP_PREFIX))


def check_database_name(name: str) -> None:
    _check(name, "Database")
    if name in RESERVED_DATABASES:
        raise Invalid(f"Database name {name!r} is reserved: choose another.")


def check_user_name(name: str) -> None:
    _check(name, "User")
    if not is_users_name(name):
        raise Invalid(f"User name {name!r} is reserved: choose another.")


def check_host(user: UserId) -> None:
    """PostgreSQL's users come from anywhere."""
    if user.host != ANY_HOST:
        raise Invalid(f"PostgreSQL's users have no host: leave out {user.host!r} or say {ANY_HOST!r}.")


def find_host(user: UserId) -> None:
    """Raises UserNotFound for a user at a host of its own, which cannot exist."""
    if user.host != ANY_HOST:
        raise UserNotFound(name=user.name, host=user.host)


def _check(name: str, what: str) -> None:
    if not 1 <= len(name.encode()) <= _MOST_BYTES:
        raise Invalid(
            f"{what} name {name!r} must have 1 to {_MOST_BYTES} bytes, it has {len(name.encode())}."
        )
    if "\0" in name:
        raise Invalid(f"{what} name {name!r} must not hold control characters.")
