"""Who may use which database.

Each database has a group, a role nobody can log in as. It owns the database, so members have every right
on it, as `ALL PRIVILEGES` promises; a user who makes something shares it with the group. So a second user
of a database works with the first one's tables, and takes over when the first is deleted.
"""

from __future__ import annotations

from collections.abc import Sequence

from psycopg import sql

from argosy.domain.databases import UserId
from argosy.domain.errors import AccessNotFound, DatabaseNotFound, UserNotFound
from argosy.engines.base import Access
from argosy.engines.postgresql.databases import find_database
from argosy.engines.postgresql.names import find_host, group_of, is_users_name
from argosy.engines.postgresql.session import Connection, Sessions, run

_SHARED = ("TABLES", "SEQUENCES", "SCHEMAS")  # functions and types are everyone's from the start


class PostgresAccess(Access):
    """Access is membership in the database's group."""

    sessions: Sessions

    def grant_access(self, user: UserId, databases: Sequence[str]) -> None:
        with self.sessions.open() as session:
            find_user(session, user)
            found = {name: find_database(session, name) for name in databases}
            with session.transaction():
                for name, oid in found.items():
                    admit(session, user.name, name, oid)
        for name, oid in found.items():
            share(self.sessions, name, oid, [user.name])

    def revoke_access(self, user: UserId, database: str) -> None:
        with self.sessions.open() as session:
            user_oid = find_user(session, user)
            try:
                oid = find_database(session, database)
            except DatabaseNotFound:
                raise AccessNotFound(name=user.name, database=database) from None
            member = session.execute(
                "SELECT FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid"
                " WHERE m.member = %s AND g.rolname = %s",
                (user_oid, group_of(oid)),
            ).fetchone()
            if member is None:
                raise AccessNotFound(name=user.name, database=database)
            with session.transaction():
                run(session, "REVOKE {} FROM {user} CASCADE", group_of(oid), user=user.name)
                run(session, "REVOKE ALL ON DATABASE {} FROM {user} CASCADE", database, user=user.name)
                disown_databases(session, user_oid, only=oid)
            end_sessions(session, user_oid, oid)


def find_user(session: Connection, user: UserId) -> int:
    """The id of a user's role. Raises UserNotFound."""
    find_host(user)
    row = session.execute(
        "SELECT oid FROM pg_roles WHERE rolname = %s AND rolcanlogin", (user.name,)
    ).fetchone()
    if row is None or not is_users_name(user.name):
        raise UserNotFound(name=user.name, host=user.host)
    return int(row[0])


def admit(session: Connection, user: str, database: str, oid: int) -> None:
    """Let a user into a database; one that root made by hand gets its group now."""
    group = group_of(oid)
    if session.execute("SELECT FROM pg_roles WHERE rolname = %s", (group,)).fetchone() is None:
        run(session, "CREATE ROLE {} NOLOGIN", group)
        run(session, "GRANT ALL ON DATABASE {} TO {group}", database, group=group)
    run(session, "GRANT {group} TO {user}", group=group, user=user)


def share(sessions: Sessions, database: str, oid: int, users: Sequence[str]) -> None:
    """Have what these users will make in a database be shared with its group."""
    group = group_of(oid)
    with sessions.open(database) as session, session.transaction():
        if session.execute("SELECT FROM pg_namespace WHERE nspname = 'public'").fetchone() is not None:
            run(session, "GRANT ALL ON SCHEMA public TO {group}", group=group)
        for user in users:
            for kind in _SHARED:
                run(
                    session,
                    "ALTER DEFAULT PRIVILEGES FOR ROLE {user} GRANT ALL ON {kind} TO {group}",
                    user=user,
                    kind=sql.SQL(kind),
                    group=group,
                )


def disown_databases(session: Connection, user_oid: int, only: int | None = None) -> None:
    """Hand databases a user owns (by root's doing) to their groups."""
    owned = session.execute(
        "SELECT datname, oid FROM pg_database WHERE datdba = %s AND oid = coalesce(%s, oid)", (user_oid, only)
    ).fetchall()
    for name, oid in owned:
        group = group_of(oid)
        if session.execute("SELECT FROM pg_roles WHERE rolname = %s", (group,)).fetchone() is None:
            run(session, "CREATE ROLE {} NOLOGIN", group)
        run(session, "ALTER DATABASE {} OWNER TO {group}", name, group=group)


def end_sessions(session: Connection, user_oid: int, database_oid: int | None = None) -> None:
    """End a user's sessions, in one database or in all, and wait until they are gone."""
    session.execute(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
        " WHERE usesysid = %s AND datid IS NOT DISTINCT FROM coalesce(%s, datid)",
        (user_oid, database_oid),
    )
