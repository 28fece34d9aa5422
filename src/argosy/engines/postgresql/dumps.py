"""Logical dumps: archives of pg_dump's own format, of one database or one table of it.

An archive may hold any statement. So it is restored by a role made for this one import, which may do what the users
of the database may do and nothing else, in one transaction; and by pg_restore, which knows no commands but SQL, unlike
psql, which runs programs when a script says so.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
from psycopg.conninfo import make_conninfo

from argosy.domain.errors import EngineError, Invalid, NotFound
from argosy.engines import pipes, staging
from argosy.engines.backups import Dumps, Write
from argosy.engines.dumped import MARK, only_database, recognise
from argosy.engines.host import Host
from argosy.engines.postgresql import configuration
from argosy.engines.postgresql.access import admit, end_sessions, share
from argosy.engines.postgresql.databases import PostgresDatabases, find_database
from argosy.engines.postgresql.guard import PostgresGuard
from argosy.engines.postgresql.names import group_of
from argosy.engines.postgresql.programs import Programs
from argosy.engines.postgresql.session import Connection, Sessions, conninfo, run
from argosy.engines.postgresql.users import verifier

_CONTENTS_MAX = 64 * 2**20
_LEFT_OUT = ("--no-owner", "--no-privileges", "--no-publications", "--no-subscriptions")
# Lines of `pg_restore --list` such as "2; 3079 16400 EXTENSION - hstore" that are not for the users of a database.
_LINE = re.compile(r"\d+; \d+ \d+ (?P<what>.*)")
_NOT_THEIRS = re.compile(r"(EVENT TRIGGER|PUBLICATION|SUBSCRIPTION|SECURITY LABEL) ")
_SILENTLY = re.compile(
    r"(COMMENT - (EXTENSION|EVENT TRIGGER|PUBLICATION|SUBSCRIPTION)|SCHEMA - public|ACL|DEFAULT ACL) "
)


class PostgresDumps(PostgresDatabases, PostgresGuard, Dumps):
    host: Host
    sessions: Sessions
    programs: Programs

    def dump(self, write: Write, database: str | None, table: str | None) -> None:
        name = only_database(self.list_databases(), database)
        chosen = [] if table is None else ["--table", self._pattern(name, table)]
        command: list[str | Path] = [
            self._program("pg_dump"),
            "--format=custom",
            "--compress=1",
            "--lock-wait-timeout=20000",
            *_LEFT_OUT,
            *chosen,
            "--dbname",
            conninfo(self.host, name),
        ]
        for part in pipes.printed(self.host, command, mark=MARK, as_agent=True):
            write(part)

    def load_dump(self, parts: Iterator[bytes], database: str | None) -> list[str]:
        name = only_database(self.list_databases(), database)
        parts = recognise(parts, [b"PGDMP"], "an archive of pg_dump --format=custom")
        try:
            contents, parts = pipes.look(
                self.host, [self._program("pg_restore"), "--list"], parts, mark=MARK, most=_CONTENTS_MAX
            )
        except EngineError as error:
            raise Invalid(f"The dump cannot be read. {error.sentence}", code="bad-dump") from error
        chosen, remarks = _choose(contents)
        place = staging.make_directory(self.host, self.host.run / "load")
        try:
            chosen_file = self.host.write_file(place / "contents", chosen)
            with self._loader(name, place) as (role, target):
                command: list[str | Path] = [
                    self._program("pg_restore"),
                    "--single-transaction",
                    *_LEFT_OUT,
                    "--no-security-labels",
                    f"--role={role}",
                    f"--use-list={chosen_file}",
                    "--dbname",
                    target,
                ]
                pipes.feed(self.host, command, parts, mark=MARK)
        except EngineError as error:
            raise Invalid(
                f"The dump was not loaded, and nothing of it is there. {error.sentence}", code="bad-dump"
            ) from error
        finally:
            staging.remove(place)
        return remarks

    def _program(self, name: str) -> Path:
        return self.programs.postgres.with_name(name)

    def _pattern(self, database: str, table: str) -> str:
        """A table by its name or its schema's and its, as pg_dump matches it. Raises NotFound, Invalid."""
        with self.sessions.open(database) as session:
            found = session.execute(
                "SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
                " WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND n.nspname NOT LIKE 'pg\\_%%'"
                " AND n.nspname <> 'information_schema'"
                " AND (c.relname = %(table)s OR n.nspname || '.' || c.relname = %(table)s)",
                {"table": table},
            ).fetchall()
        if not found:
            raise NotFound(
                f"Table {table!r} cannot be found in database {database!r}.", code="table-not-found"
            )
        if len(found) > 1:
            named = ", ".join(sorted(f"{schema}.{name}" for schema, name in found))
            raise Invalid(f"Table {table!r} is not one only in database {database!r}: say which of {named}.")
        return ".".join('"' + str(part).replace('"', '""') + '"' for part in found[0])

    @contextmanager
    def _loader(self, database: str, place: Path) -> Iterator[tuple[str, str]]:
        """A role that may do what the database's users may; yields their group, and how to connect as it."""
        if not configuration.lets_loaders_in(self.host):
            self.guard()
        password = secrets.token_urlsafe(32)
        with self.sessions.open() as session:
            oid = find_database(session, database)
            loader = f"{group_of(oid)}_load"
            self._dismiss(session, loader, database, oid)
            with session.transaction():
                run(
                    session,
                    "CREATE ROLE {} LOGIN PASSWORD {password}",
                    loader,
                    password=verifier(session, loader, password),
                )
                admit(session, loader, database, oid)
        try:
            share(self.sessions, database, oid, [])
            passwords = self.host.write_file(place / "password", f"*:*:*:*:{password}\n")
            yield (
                group_of(oid),
                make_conninfo(
                    "",
                    host=str(self.host.run),
                    port=self.host.port,
                    user=loader,
                    dbname=database,
                    passfile=str(passwords),
                    application_name="argosy import",
                ),
            )
        finally:
            with self.sessions.open() as session:
                self._dismiss(session, loader, database, oid)

    def _dismiss(self, session: Connection, loader: str, database: str, oid: int) -> None:
        row = session.execute("SELECT oid FROM pg_roles WHERE rolname = %s", (loader,)).fetchone()
        if row is None:
            return
        run(session, "ALTER ROLE {} NOLOGIN", loader)
        end_sessions(session, int(row[0]))
        with self.sessions.open(database) as inside, inside.transaction():
            run(inside, "REASSIGN OWNED BY {} TO {group}", loader, group=group_of(oid))
            run(inside, "DROP OWNED BY {}", loader)
        with suppress(
            psycopg.errors.DependentObjectsStillExist
        ):  # it made things in another database of theirs
            run(session, "DROP ROLE {}", loader)


def _choose(contents: str) -> tuple[str, list[str]]:
    """The lines of a table of contents to restore, and what is left out of the others, in sentences."""
    chosen, left_out = [], []
    for line in contents.splitlines():
        found = _LINE.fullmatch(line)
        if found is None:
            continue
        if _NOT_THEIRS.match(found["what"]):
            left_out.append(
                f"{found['what'][:200]} was left out: it is for a server's administrator to make."
            )
        elif not _SILENTLY.match(found["what"]):
            chosen.append(line)
    return "".join(f"{line}\n" for line in chosen), left_out
