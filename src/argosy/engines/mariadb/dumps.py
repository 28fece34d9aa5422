"""Logical dumps: SQL as mariadb-dump writes it, of one database or one table of it.

A dump may hold any statement. So an account of its own loads it, which may do everything in that database and nothing
outside it, by a client that takes nothing but SQL. That account stays, locked, as the definer of the routines,
triggers and views that were loaded: whom the dump names for that may be nobody here, or somebody of more power.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from argosy.domain.errors import EngineError, Invalid, NotFound
from argosy.engines import pipes
from argosy.engines.backups import Dumps, Write
from argosy.engines.dumped import MARK, only_database, recognise
from argosy.engines.host import Host
from argosy.engines.mariadb import access, sessions, sql
from argosy.engines.mariadb.databases import MariaDbDatabases
from argosy.engines.mariadb.management import Management
from argosy.engines.mariadb.programs import client_options, options_of, program

_PACKET = "1G"
_LAST_WORDS = b"-- Dump completed"
_QUOTED = rb"(?:`(?:[^`]|``)*`|'(?:[^'\\]|''|\\.)*'|[\w.%-]+)"
_DEFINER = re.compile(
    rb"^((?:/\*!\d{5,6} )?CREATE(?: OR REPLACE)?(?:\*/ /\*!\d{5,6})?(?: ALGORITHM=\w+)?|/\*!\d{5,6}) DEFINER="
    + _QUOTED
    + rb"@"
    + _QUOTED
)
# No statement that names a definer has it so far from the start of its line.
_LINE_START = 4096


class MariaDbDumps(MariaDbDatabases, Dumps):
    host: Host
    management: Management

    def dump(self, write: Write, database: str | None, table: str | None) -> None:
        name = only_database(self.list_databases(), database)
        if table is not None:
            self._check_table(name, table)
        with client_options(self.host, self.management, "dump") as options:
            command: list[str | Path] = [
                program(self.host, "mariadb-dump"),
                f"--defaults-file={options}",
                "--single-transaction",
                "--skip-lock-tables",
                "--quick",
                "--routines",
                "--events",
                "--triggers",
                "--hex-blob",
                "--default-character-set=utf8mb4",
                f"--max-allowed-packet={_PACKET}",
                "--",
                name,
                *([] if table is None else [table]),
            ]
            for part in pipes.printed(self.host, command, mark=MARK):
                write(part)

    def load_dump(self, parts: Iterator[bytes], database: str | None) -> list[str]:
        name = only_database(self.list_databases(), database)
        stream = _Stream(recognise(parts, [], "SQL as mariadb-dump writes it"))
        with self._loader(name) as options:
            command: list[str | Path] = [
                program(self.host, "mariadb"),
                f"--defaults-file={options}",
                "--batch",
                "--sandbox",
                # No commands of the client's own but DELIMITER.
                "--binary-mode",
                "--skip-local-infile",
                "--skip-reconnect",
                "--default-character-set=utf8mb4",
                f"--max-allowed-packet={_PACKET}",
                "--",
                name,
            ]
            try:
                pipes.feed(self.host, command, stream.parts(), mark=MARK)
            except EngineError as error:
                raise Invalid(
                    f"The dump was not loaded to its end: what stands before this in it was. {error.sentence}",
                    code="bad-dump",
                ) from error
        return stream.remarks()

    def _check_table(self, database: str, table: str) -> None:
        with self.management.session() as session:
            found = session.run(
                "SELECT 1 FROM information_schema.TABLES WHERE TABLE_SCHEMA = %s AND TABLE_NAME = %s",
                database,
                table,
            )
        if not found:
            raise NotFound(
                f"Table {table!r} cannot be found in database {database!r}.", code="table-not-found"
            )

    @contextmanager
    def _loader(self, database: str) -> Iterator[Path]:
        """A file of options for a client of the database's own account, which is open that long."""
        owner = sql.owner_of(database)
        account, password = sql.account(owner), secrets.token_urlsafe(32)
        with self.management.session() as session:
            session.run(f"CREATE USER IF NOT EXISTS {account} {sql.authentication(password)}")
            session.run(f"ALTER USER {account} {sql.authentication(password)} ACCOUNT UNLOCK")
            access.grant(session, owner, [database])
        try:
            with options_of(self.host, owner.name, password, "load") as options:
                yield options
        finally:
            with self.management.session() as session:
                # Locked, not dropped: it is the definer of what was loaded.
                session.run(
                    f"ALTER USER {account} {sql.authentication(secrets.token_urlsafe(32))} ACCOUNT LOCK"
                )
                sessions.end(session, lambda running: running.user == owner.name)


class _Stream:
    """A dump on its way to the client, without the definers it names."""

    def __init__(self, parts: Iterator[bytes]) -> None:
        self._parts = parts
        self._definers = 0
        self._end = b""

    def parts(self) -> Iterator[bytes]:
        """Statements that may name one begin a line; lines are as long as rows, and only their beginning is held."""
        held, at_start = b"", True
        for part in self._parts:
            held += part
            self._end = (self._end + part)[-1024:]
            done, held, at_start = self._filtered(held, at_start=at_start)
            yield done
        yield self._without_definer(held) if at_start else held

    def remarks(self) -> list[str]:
        remarks = []
        if self._definers:
            remarks.append(
                f"{self._definers} routines, triggers, events or views were given another definer than the dump names: they "
                "may do everything in this database and nothing outside it."
            )
        if _LAST_WORDS not in self._end:
            remarks.append("The dump does not end as mariadb-dump ends one: it may have been cut off.")
        return remarks

    def _filtered(self, held: bytes, *, at_start: bool) -> tuple[bytes, bytes, bool]:
        """What can go, what has to wait, and whether that begins a line."""
        done: list[bytes] = []
        *lines, last = held.split(b"\n")
        for line in lines:
            done.append((self._without_definer(line) if at_start else line) + b"\n")
            at_start = True
        if at_start and len(last) < _LINE_START:
            return b"".join(done), last, True
        done.append(self._without_definer(last) if at_start else last)
        return b"".join(done), b"", False

    def _without_definer(self, line: bytes) -> bytes:
        head, tail = line[:_LINE_START], line[_LINE_START:]
        changed, count = _DEFINER.subn(rb"\1", head)
        self._definers += count
        return changed + tail
