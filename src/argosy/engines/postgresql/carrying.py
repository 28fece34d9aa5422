"""Carrying users from one server to another: what their roles are, their hashed passwords, who may use which database."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

import psycopg
from psycopg import sql

from argosy.domain.databases import UserId
from argosy.domain.errors import DatabaseNotFound, Invalid
from argosy.engines.backups import KeepsAccounts
from argosy.engines.base import Access, Engine, RootAccess, Users
from argosy.engines.postgresql.access import admit, share
from argosy.engines.postgresql.databases import find_database
from argosy.engines.postgresql.names import GROUP_PREFIX, group_of, is_users_name
from argosy.engines.postgresql.session import ROOT, Connection, Sessions, run, words_of

_FORMAT = "postgresql accounts 1"
# Settings that are lists (source: guc_tables.c, GUC_LIST_QUOTE) and may be set in a session.
_LISTS = frozenset({"search_path", "temp_tablespaces"})
_FLAGS = {
    "rolsuper": "SUPERUSER",
    "rolinherit": "INHERIT",
    "rolcreaterole": "CREATEROLE",
    "rolcreatedb": "CREATEDB",
    "rolcanlogin": "LOGIN",
    "rolreplication": "REPLICATION",
    "rolbypassrls": "BYPASSRLS",
}


@dataclass(frozen=True)
class _Role:
    """`password` is hashed. `databases` are those whose group it is in, `roles` what else it is a member of.

    `admin_of` are those of these that it may let others into. `settings` are what ALTER ROLE has set for it: in which
    database (None for all), what, and to what.
    """

    name: str
    flags: dict[str, bool]
    connections: int
    valid_until: str | None
    password: str | None
    databases: list[str]
    roles: list[str]
    admin_of: list[str]
    settings: list[tuple[str | None, str, str]]


class PostgresAccounts(KeepsAccounts, RootAccess, Users, Access, Engine):
    """A mixin of the whole engine, which brings all else."""

    sessions: Sessions

    def dump_accounts(self) -> str:
        with self.sessions.open() as session:
            return json.dumps({"format": _FORMAT, "roles": [asdict(role) for role in _every(session)]})

    def load_accounts(self, dump: str) -> list[str]:
        wanted = _read(dump)
        remarks: list[str] = []
        done: list[_Role] = []
        with self.sessions.open() as session:
            there = {role.name: role for role in _every(session)}
            for role in wanted:
                try:
                    _set(session, role, is_new=role.name not in there)
                    done.append(role)
                except psycopg.Error as error:
                    remarks.append(f"User {role.name!r} was left out, or as it was: {words_of(error)}")
        gone = there.keys() - {role.name for role in wanted}
        if ROOT in gone:
            self.disable_root()
        for name in sorted(gone - {ROOT}):
            self._take_away(there[name])
        for role in done:
            remarks += self._let_in(role, there.get(role.name))
        return remarks

    def _take_away(self, role: _Role) -> None:
        if role.flags["rolcanlogin"]:
            self.delete_user(UserId(role.name))
            return
        with self.sessions.open() as session:
            # What such a role owns, which root once made, is kept: then it stays, and nobody is a member of it.
            try:
                session.execute(sql.SQL("DROP ROLE {}").format(sql.Identifier(role.name)))
            except psycopg.errors.DependentObjectsStillExist:
                return

    def _let_in(self, role: _Role, before: _Role | None) -> list[str]:
        remarks = []
        had = set(before.databases) if before else set()
        for database in role.databases:
            try:
                with self.sessions.open() as session:
                    oid = find_database(session, database)
                    with session.transaction():
                        admit(session, role.name, database, oid)
                if database not in had:
                    share(self.sessions, database, oid, [role.name])
            except DatabaseNotFound:
                remarks.append(
                    f"Access of user {role.name!r} to database {database!r} was left out: it is not there."
                )
        with self.sessions.open() as session:
            for database in sorted(had - set(role.databases)):
                oid = find_database(session, database)
                run(session, "REVOKE {group} FROM {} CASCADE", role.name, group=group_of(oid))
            for other in sorted(set(before.roles if before else ()) - set(role.roles)):
                run(session, "REVOKE {other} FROM {} CASCADE", role.name, other=other)
            for other in role.roles:
                remarks += _make_member(session, role, other)
            remarks += _choose(session, role)
        return remarks


def _make_member(session: Connection, role: _Role, other: str) -> list[str]:
    how = sql.SQL(" WITH ADMIN OPTION" if other in role.admin_of else "")
    try:
        run(session, "GRANT {other} TO {}{how}", role.name, other=other, how=how)
    except psycopg.Error as error:
        return [f"User {role.name!r} is no member of role {other!r} any more: {words_of(error)}"]
    return []


def _choose(session: Connection, role: _Role) -> list[str]:
    """Its settings become those."""
    remarks = []
    there = {row[0] for row in session.execute("SELECT datname FROM pg_database").fetchall()}
    for database in (None, *sorted(there)):
        place = sql.SQL("") if database is None else _within(database)
        run(session, "ALTER ROLE {}{place} RESET ALL", role.name, place=place)
    for database, name, value in role.settings:
        if database is not None and database not in there:
            remarks.append(
                f"Setting {name} of user {role.name!r} in database {database!r} was left out: it is not there."
            )
            continue
        try:
            _set_one(session, role.name, database, name, value)
        except psycopg.Error as error:
            remarks.append(f"Setting {name} of user {role.name!r} was left out: {words_of(error)}")
    return remarks


def _set_one(session: Connection, role: str, database: str | None, name: str, value: str) -> None:
    parts: dict[str, sql.Composable] = {
        "place": sql.SQL("") if database is None else _within(database),
        "name": sql.Identifier(*name.split(".")),
        "value": sql.Literal(value),
    }
    if name not in _LISTS:
        run(session, "ALTER ROLE {}{place} SET {name} TO {value}", role, **parts)
        return
    with session.transaction():
        # A list is kept as it is written, with its quotes, and would be quoted again as a whole.
        session.execute("SELECT set_config(%s, %s, true)", (name, value))
        run(session, "ALTER ROLE {}{place} SET {name} FROM CURRENT", role, **parts)


def _within(database: str) -> sql.Composable:
    return sql.SQL(" IN DATABASE {}").format(sql.Identifier(database))


def _every(session: Connection) -> list[_Role]:
    """Users, root, and the roles that root made; none of the server's own and ours."""
    rows = session.execute(
        "SELECT r.rolname, r.rolsuper, r.rolinherit, r.rolcreaterole, r.rolcreatedb, r.rolcanlogin, r.rolreplication,"
        " r.rolbypassrls, r.rolconnlimit, nullif(r.rolvaliduntil::text, 'infinity'), r.rolpassword,"
        " array(SELECT DISTINCT d.datname::text FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid"
        "  JOIN pg_database d ON g.rolname = %s || d.oid::text WHERE m.member = r.oid ORDER BY 1),"
        " array(SELECT DISTINCT g.rolname::text FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid"
        "  WHERE m.member = r.oid AND NOT starts_with(g.rolname::text, %s) ORDER BY 1),"
        " array(SELECT DISTINCT g.rolname::text FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid"
        "  WHERE m.member = r.oid AND m.admin_option AND NOT starts_with(g.rolname::text, %s) ORDER BY 1)"
        " FROM pg_authid r ORDER BY r.rolcanlogin, r.rolname",
        (GROUP_PREFIX, GROUP_PREFIX, GROUP_PREFIX),
    ).fetchall()
    settings: dict[str, list[tuple[str | None, str, str]]] = {}
    for role, database, words in session.execute(
        "SELECT r.rolname, d.datname, s.setconfig FROM pg_db_role_setting s JOIN pg_roles r ON r.oid = s.setrole"
        " LEFT JOIN pg_database d ON d.oid = s.setdatabase ORDER BY 1, 2"
    ).fetchall():
        chosen = [word.partition("=") for word in words]
        settings.setdefault(role, []).extend((database, name, value) for name, _, value in chosen)
    return [
        _Role(
            name=row[0],
            flags=dict(zip(_FLAGS, row[1:8], strict=True)),
            connections=row[8],
            valid_until=row[9],
            password=row[10],
            databases=list(row[11]),
            roles=list(row[12]),
            admin_of=list(row[13]),
            settings=settings.get(row[0], []),
        )
        for row in rows
        if is_users_name(row[0]) or row[0] == ROOT
    ]


def _set(session: Connection, role: _Role, *, is_new: bool) -> None:
    words = [word if role.flags[flag] else f"NO{word}" for flag, word in _FLAGS.items()]
    password = sql.SQL("NULL") if role.password is None else sql.Literal(role.password)
    session.execute(
        sql.SQL(
            "{verb} ROLE {name} {flags} CONNECTION LIMIT {limit} PASSWORD {password} VALID UNTIL {until}"
        ).format(
            verb=sql.SQL("CREATE" if is_new else "ALTER"),
            name=sql.Identifier(role.name),
            flags=sql.SQL(" ".join(words)),
            limit=sql.Literal(role.connections),
            password=password,
            until=sql.Literal(role.valid_until or "infinity"),
        )
    )


def _read(dump: str) -> list[_Role]:
    try:
        stored: dict[str, Any] = json.loads(dump)
        if stored["format"] != _FORMAT:
            raise Invalid("The accounts were written by another release in a form that is not known here.")
        roles = [
            _Role(**{**one, "settings": [(*setting,) for setting in one["settings"]]})
            for one in stored["roles"]
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise Invalid("The accounts are not what this engine writes.") from error
    if any(not is_users_name(role.name) and role.name != ROOT for role in roles):
        raise Invalid("The accounts name a role that is not a user's.")
    return roles
