"""Which user may use which database: grants on `database.*`."""

from __future__ import annotations

from collections.abc import Sequence

from argosy.domain.databases import UserId
from argosy.domain.errors import AccessNotFound, Invalid
from argosy.engines.base import Access
from argosy.engines.mariadb import accounts, databases, sessions, sql
from argosy.engines.mariadb.management import Management, Session


class MariaDbAccess(Access):
    management: Management

    def grant_access(self, user: UserId, databases: Sequence[str]) -> None:
        with self.management.session() as session:
            accounts.check_exists(session, user)
            check_databases(session, databases)
            grant(session, user, databases)

    def revoke_access(self, user: UserId, database: str) -> None:
        with self.management.session() as session:
            accounts.check_exists(session, user)
            granted = accounts.grants(session).get(user, [])
            if not any(sql.matches(written, database) for written in granted):
                raise AccessNotFound(name=str(user), database=database)
            if not (exact := _exact(granted, database)):
                raise Invalid(
                    f"User {str(user)!r} has access to database {database!r} by a grant on a pattern of names that "
                    "was made in SQL: revoke it in SQL."
                )
            for written in exact:
                _revoke(session, user, written)
            everybody = accounts.names(session)
            # A session keeps what it may do in its current database until it changes it, and a transaction the
            # tables it holds.
            sessions.end(
                session,
                lambda running: database in running.databases and running.account(everybody) == user,
            )


def check_databases(session: Session, names: Sequence[str]) -> None:
    """Raise DatabaseNotFound, or Invalid where the name is too long for a grant of its own."""
    for name in names:
        sql.check_database_name(name)
    databases.check_exists(session, *names)


def grant(session: Session, user: UserId, names: Sequence[str]) -> None:
    for name in names:
        session.run(f"GRANT ALL PRIVILEGES ON {sql.identifier(sql.pattern(name))}.* TO {sql.account(user)}")


def forget(session: Session, database: str) -> None:
    """Take every user's access to a database away."""
    for user, granted in accounts.grants(session).items():
        for written in _exact(granted, database):
            _revoke(session, user, written)


def _exact(granted: Sequence[str], database: str) -> list[str]:
    """Grants that are this database's: ours, and such as people write them in SQL, without the escapes."""
    return [written for written in granted if written in {sql.pattern(database), database}]


def _revoke(session: Session, user: UserId, written: str) -> None:
    # GRANT OPTION is not among ALL on a database, and may have been given in SQL.
    for privileges in ("GRANT OPTION", "ALL PRIVILEGES"):
        session.run(f"REVOKE {privileges} ON {sql.identifier(written)}.* FROM {sql.account(user)}")
