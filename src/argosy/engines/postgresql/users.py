"""Users: roles that may log in."""

from __future__ import annotations

from collections.abc import Sequence

from psycopg import errors, sql

from argosy.domain.databases import NewUser, User, UserChange, UserId
from argosy.domain.errors import Invalid, UserExists, UserNotFound
from argosy.engines.base import Users
from argosy.engines.postgresql.access import admit, disown_databases, end_sessions, find_user, share
from argosy.engines.postgresql.databases import find_database
from argosy.engines.postgresql.names import (
    GROUP_PREFIX,
    check_host,
    check_user_name,
    find_host,
    group_of,
    is_users_name,
)
from argosy.engines.postgresql.session import Connection, Sessions, run


class PostgresUsers(Users):
    """Every user is at `%`: PostgreSQL's roles have no host."""

    sessions: Sessions

    def list_users(self) -> list[User]:
        with self.sessions.open() as session:
            return sorted(_read(session), key=lambda user: str(user.id))

    def get_user(self, user: UserId) -> User:
        find_host(user)
        with self.sessions.open() as session:
            for found in _read(session, user.name):
                return found
        raise UserNotFound(name=user.name, host=user.host)

    def create_users(self, users: Sequence[NewUser]) -> None:
        for user in users:
            check_host(user.id)
            check_user_name(user.id.name)
        names = [user.id.name for user in users]
        for user in users:
            if names.count(user.id.name) > 1:
                raise UserExists(name=user.id.name, host=user.id.host)
        guests: dict[tuple[str, int], list[str]] = {}
        with self.sessions.open() as session:
            for row in session.execute("SELECT rolname FROM pg_roles WHERE rolname = ANY (%s)", (names,)):
                raise UserExists(name=row[0], host="%")
            for user in users:
                for database in user.databases:
                    guests.setdefault((database, find_database(session, database)), []).append(user.id.name)
            with session.transaction():
                for user in users:
                    run(
                        session,
                        "CREATE ROLE {} LOGIN PASSWORD {password}",
                        user.id.name,
                        password=verifier(session, user.id.name, user.password),
                    )
                for (database, oid), members in guests.items():
                    for member in members:
                        admit(session, member, database, oid)
        for (database, oid), members in guests.items():
            share(self.sessions, database, oid, members)

    def update_user(self, user: UserId, change: UserChange) -> None:
        if change.host is not None:
            check_host(UserId(user.name, change.host))
        if change.name is not None and change.name != user.name:
            check_user_name(change.name)
        with self.sessions.open() as session:
            find_user(session, user)
            name = user.name
            try:
                with session.transaction():
                    if change.name is not None and change.name != name:
                        run(session, "ALTER ROLE {} RENAME TO {new}", name, new=change.name)
                        name = change.name
                    if change.password is not None:
                        run(
                            session,
                            "ALTER ROLE {} PASSWORD {password}",
                            name,
                            password=verifier(session, name, change.password),
                        )
            except errors.DuplicateObject as error:
                raise UserExists(name=change.name or name, host=user.host) from error

    def delete_user(self, user: UserId) -> None:
        """What it owned goes to the group of the database it is in.

        The group is no superuser: a function that runs with its owner's rights must not gain any by its
        owner's end.
        """
        with self.sessions.open() as session:
            oid = find_user(session, user)
            # Still a user if this is cut short, but one who cannot come back meanwhile.
            run(session, "ALTER ROLE {} NOSUPERUSER CONNECTION LIMIT 0", user.name)
            end_sessions(session, oid)
            with session.transaction():
                disown_databases(session, oid)
            places = session.execute(
                "SELECT DISTINCT d.datname, d.oid FROM pg_shdepend s"
                " JOIN pg_database d ON d.oid = CASE s.dbid WHEN 0 THEN s.objid ELSE s.dbid END"
                " WHERE s.refclassid = 'pg_authid'::regclass AND s.refobjid = %s"
                " AND (s.dbid <> 0 OR s.classid = 'pg_database'::regclass)",
                (oid,),
            ).fetchall()
            for database, database_oid in places:
                self._hand_over(session, user.name, database, database_oid)
            run(session, "DROP ROLE {}", user.name)

    def _hand_over(self, session: Connection, user: str, database: str, oid: int) -> None:
        group = group_of(oid)
        if session.execute("SELECT FROM pg_roles WHERE rolname = %s", (group,)).fetchone() is None:
            run(session, "CREATE ROLE {} NOLOGIN", group)
        with self.sessions.open(database) as inside, inside.transaction():
            run(inside, "REASSIGN OWNED BY {} TO {group}", user, group=group)
            run(inside, "DROP OWNED BY {}", user)


def verifier(session: Connection, name: str, password: str) -> sql.Composable:
    """What the server keeps instead of the password (SCRAM-SHA-256, RFC 5803).

    Computed here, so that the password itself never reaches the server, nor its log. Raises Invalid for
    one that cannot be held.
    """
    if not password or "\0" in password:
        raise Invalid("A password must have at least one character, and no control characters.")
    return sql.Literal(
        session.pgconn.encrypt_password(password.encode(), name.encode(), b"scram-sha-256").decode()
    )


def _read(session: Connection, name: str | None = None) -> list[User]:
    rows = session.execute(
        "SELECT r.rolname, coalesce(array_agg(DISTINCT d.datname::text) FILTER (WHERE d.oid IS NOT NULL), '{}')"
        " FROM pg_roles r LEFT JOIN pg_auth_members m ON m.member = r.oid"
        " LEFT JOIN pg_roles g ON g.oid = m.roleid"
        " LEFT JOIN pg_database d ON g.rolname = %s || d.oid::text"
        " WHERE r.rolcanlogin AND r.rolname = coalesce(%s, r.rolname) GROUP BY r.rolname",
        (GROUP_PREFIX, name),
    ).fetchall()
    return [User(UserId(role), tuple(sorted(databases))) for role, databases in rows if is_users_name(role)]
