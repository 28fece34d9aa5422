"""Databases."""

from __future__ import annotations

from collections.abc import Sequence

from argosy.domain.databases import Database
from argosy.domain.errors import ArgosyError, DatabaseExists, DatabaseNotFound
from argosy.engines.base import Databases
from argosy.engines.mariadb import access, sessions, sql
from argosy.engines.mariadb.management import Management, Refused, Session

_EXISTS = 1007


class MariaDbDatabases(Databases):
    management: Management

    def list_databases(self) -> list[Database]:
        with self.management.session() as session:
            rows = session.run(
                "SELECT SCHEMA_NAME, DEFAULT_CHARACTER_SET_NAME, DEFAULT_COLLATION_NAME"
                " FROM information_schema.SCHEMATA"
            )
        found = [Database(*(str(value) for value in row)) for row in rows]
        return sorted(
            (database for database in found if not sql.is_reserved_database(database.name)),
            key=lambda database: database.name,
        )

    def create_databases(self, databases: Sequence[Database]) -> None:
        with self.management.session() as session:
            taken = set(names(session))
            for database in databases:
                sql.check_database_name(database.name)
                if database.name in taken or sql.is_reserved_database(database.name):
                    raise DatabaseExists(name=database.name)
                taken.add(database.name)
            made: list[str] = []
            try:
                for database in databases:
                    _create(session, database)
                    made.append(database.name)
            except ArgosyError:
                # The server judges character sets and lengths, so a refusal may come after the first ones.
                for name in made:
                    session.run(f"DROP DATABASE IF EXISTS {sql.identifier(name)}")
                raise

    def delete_database(self, name: str) -> None:
        with self.management.session() as session:
            check_exists(session, name)
            # Grants outlive their database in MariaDB, and would be those of the next one of that name.
            access.forget(session, name)
            sessions.end(session, lambda running: name in running.databases)
            session.run(f"DROP DATABASE IF EXISTS {sql.identifier(name)}")
            session.run(f"DROP USER IF EXISTS {sql.account(sql.owner_of(name))}")


def names(session: Session) -> list[str]:
    """Of every database that is a user's."""
    rows = session.run("SELECT SCHEMA_NAME FROM information_schema.SCHEMATA")
    return sorted(str(name) for (name,) in rows if not sql.is_reserved_database(str(name)))


def check_exists(session: Session, *wanted: str) -> None:
    """Raise DatabaseNotFound for the first that is not there."""
    there = set(names(session))
    for name in wanted:
        if name not in there:
            raise DatabaseNotFound(name=name)


def _create(session: Session, database: Database) -> None:
    statement = f"CREATE DATABASE {sql.identifier(database.name)}"
    if database.character_set is not None:
        statement += f" CHARACTER SET = {sql.literal(database.character_set)}"
    if database.collate is not None:
        statement += f" COLLATE = {sql.literal(database.collate)}"
    try:
        session.run(statement)
    except Refused as error:
        if error.number == _EXISTS:
            raise DatabaseExists(name=database.name) from error
        raise
