"""The accounts and grants the server has, read from its own tables."""

from __future__ import annotations

from argosy.domain.databases import User, UserId
from argosy.domain.errors import UserNotFound
from argosy.engines.mariadb import databases, sql
from argosy.engines.mariadb.management import Session


def every(session: Session) -> list[UserId]:
    """Every account that can log in: users', root's and the server's own; roles are none."""
    rows = session.run("SELECT User, Host FROM mysql.global_priv WHERE JSON_VALUE(Priv, '$.is_role') IS NULL")
    return [UserId(str(name), str(host)) for name, host in rows]


def names(session: Session) -> list[UserId]:
    """Users' accounts, sorted by `name@host`."""
    found = (user for user in every(session) if user.name and not sql.is_reserved_user(user.name))
    return sorted(found, key=str)


def check_exists(session: Session, user: UserId) -> None:
    """Raise UserNotFound."""
    if user not in names(session):
        raise UserNotFound(name=user.name, host=user.host)


def grants(session: Session) -> dict[UserId, list[str]]:
    """For each user the databases granted, as written in the grant: a pattern."""
    found: dict[UserId, list[str]] = {}
    for database, name, host in session.run("SELECT Db, User, Host FROM mysql.db ORDER BY Db"):
        found.setdefault(UserId(str(name), str(host)), []).append(str(database))
    return found


def users(session: Session) -> list[User]:
    """Users with the databases they may use, whether a grant names one or matches several."""
    there = databases.names(session)
    granted = grants(session)
    return [
        User(
            user,
            tuple(
                name for name in there if any(sql.matches(written, name) for written in granted.get(user, ()))
            ),
        )
        for user in names(session)
    ]
