"""Databases: each is owned by a group of its own, whose members are the users let into it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import psycopg
from psycopg import errors, sql

from argosy.domain.databases import Database
from argosy.domain.errors import DatabaseExists, DatabaseNotFound, EngineError, Invalid
from argosy.engines.base import Databases
from argosy.engines.postgresql.names import RESERVED_DATABASES, check_database_name, group_of
from argosy.engines.postgresql.session import Connection, Sessions, run, words_of

_DEFAULT_COLLATION = "default"


class PostgresDatabases(Databases):
    """A database made here is closed to everyone but its group; see `access.py`."""

    sessions: Sessions

    def list_databases(self) -> list[Database]:
        with self.sessions.open() as session:
            rows = session.execute(
                "SELECT datname, pg_encoding_to_char(encoding), datcollate FROM pg_database"
                " WHERE NOT datistemplate AND datname <> ALL (%s) AND datconnlimit <> -2",  # -2: half dropped
                (list(RESERVED_DATABASES),),
            ).fetchall()
        return sorted((Database(*row) for row in rows), key=lambda database: database.name)

    def create_databases(self, databases: Sequence[Database]) -> None:
        for database in databases:
            check_database_name(database.name)
        names = [database.name for database in databases]
        repeated = next((name for name in names if names.count(name) > 1), None)
        if repeated is not None:
            raise DatabaseExists(name=repeated)
        with self.sessions.open() as session:
            taken = session.execute("SELECT datname FROM pg_database WHERE datname = ANY (%s)", (names,))
            for row in taken:
                raise DatabaseExists(name=row[0])
            options = [_options(session, database) for database in databases]
            for database, option in zip(databases, options, strict=True):
                _create(session, database.name, option)

    def delete_database(self, name: str) -> None:
        with self.sessions.open() as session:
            oid = find_database(session, name)
            run(session, "DROP DATABASE {} WITH (FORCE)", name)
            with suppress(errors.DependentObjectsStillExist):  # members made things elsewhere in its name
                run(session, "DROP ROLE IF EXISTS {}", group_of(oid))


def find_database(session: Connection, name: str) -> int:
    """The id of a user's database. Raises DatabaseNotFound."""
    row = session.execute(
        "SELECT oid FROM pg_database WHERE datname = %s AND NOT datistemplate", (name,)
    ).fetchone()
    if row is None or name in RESERVED_DATABASES:
        raise DatabaseNotFound(name=name)
    return int(row[0])


def _create(session: Connection, name: str, options: sql.Composable) -> None:
    """Of `template0`, since no session and no user's change can be in the way there.

    Its few pages go through the log: copying files instead needs two checkpoints, which takes three times as
    long on an idle server, and much longer on a busy one.
    """
    try:
        run(
            session, "CREATE DATABASE {} TEMPLATE template0 STRATEGY wal_log {options}", name, options=options
        )
    except errors.DuplicateDatabase as error:
        raise DatabaseExists(name=name) from error
    except (errors.UndefinedObject, errors.InvalidParameterValue, errors.WrongObjectType, errors.FeatureNotSupported,
            errors.InvalidObjectDefinition) as error:  # fmt: skip
        raise Invalid(f"Database {name!r} cannot be made so: {words_of(error)}") from error
    try:
        oid = find_database(session, name)
        with session.transaction():
            run(session, "CREATE ROLE {} NOLOGIN", group_of(oid))
            run(session, "REVOKE ALL ON DATABASE {} FROM PUBLIC", name)
            run(session, "ALTER DATABASE {} OWNER TO {owner}", name, owner=group_of(oid))
    except psycopg.Error as error:
        with suppress(psycopg.Error):
            run(session, "DROP DATABASE {} WITH (FORCE)", name)
        raise EngineError(f"Database {name!r} cannot be made: {words_of(error)}") from error


def _options(session: Connection, database: Database) -> sql.Composable:
    """Encoding and collation, as CREATE DATABASE has them. Raises Invalid for what the server has not."""
    encoding = "UTF8"
    if database.character_set is not None:
        row = session.execute(
            "SELECT pg_encoding_to_char(pg_char_to_encoding(%s))", (database.character_set,)
        ).fetchone()
        encoding = row[0] if row else ""
        if not encoding:
            raise Invalid(
                f"Character set {database.character_set!r} is not one of PostgreSQL's: use UTF8, LATIN1, ..."
            )
    parts: list[sql.Composable] = [sql.SQL("ENCODING {}").format(sql.Literal(encoding))]
    if database.collate is not None:
        parts.append(_collation(session, database.collate, encoding))
    elif encoding != "UTF8":
        # The cluster's own collation is one of UTF-8; C is right for any other encoding.
        parts.append(sql.SQL("LOCALE_PROVIDER libc LC_COLLATE 'C' LC_CTYPE 'C'"))
    return sql.SQL(" ").join(parts)


def _collation(session: Connection, name: str, encoding: str) -> sql.Composable:
    """A collation by its name in pg_collation or by its locale's; `C.UTF-8`, `C.utf8` and `c.UTF8` are one."""
    rows = session.execute(
        "SELECT collname, collprovider::text, coalesce(collcollate, to_jsonb(c) ->> 'colllocale',"
        " to_jsonb(c) ->> 'colliculocale')"
        " FROM pg_collation c WHERE collnamespace = 'pg_catalog'::regnamespace AND collisdeterministic"
        " AND collname <> %s AND collencoding IN (-1, pg_char_to_encoding(%s))",
        (_DEFAULT_COLLATION, encoding),
    ).fetchall()
    for spelled in (lambda text: text, _folded):
        for collation, provider, locale in rows:
            if spelled(name) in (spelled(collation), spelled(locale)):
                return _PROVIDERS[provider].format(sql.Literal(locale))
    raise Invalid(
        f"Collation {name!r} is not one this server has for {encoding}: see its pg_collation for the names."
    )


_PROVIDERS = {
    "c": sql.SQL("LOCALE_PROVIDER libc LC_COLLATE {0} LC_CTYPE {0}"),
    "i": sql.SQL("LOCALE_PROVIDER icu ICU_LOCALE {0} LC_COLLATE 'C' LC_CTYPE 'C'"),
    "b": sql.SQL("LOCALE_PROVIDER builtin BUILTIN_LOCALE {0} LC_COLLATE 'C' LC_CTYPE 'C'"),
}


def _folded(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")
