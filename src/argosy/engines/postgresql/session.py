"""The agent's own way into the server: by its Unix socket, as an administrator without a password."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, LiteralString

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from argosy.domain.errors import ArgosyError, DatabaseNotFound, EngineError, EngineNotReady
from argosy.engines.host import Host

ADMIN = "os_admin"
REPLICATION = "os_repl"
ROOT = "root"
MAINTENANCE = "postgres"
TEMPLATES = ("template0", "template1")

Connection = psycopg.Connection[tuple[Any, ...]]

# Given at connection, these beat what ALTER ROLE, ALTER DATABASE or ALTER SYSTEM may have set against us.
# Names are looked up in pg_catalog alone: anyone may put a function called like a built-in into a schema
# of his database, and the administrator must not run it. Nothing of ours is logged or kept as a statement.
_SETTINGS = {
    "search_path": "pg_catalog,pg_temp",
    "role": "none",
    "session_preload_libraries": "",
    "local_preload_libraries": "",
    "default_transaction_read_only": "off",
    "default_transaction_isolation": r"read\ committed",
    "default_transaction_deferrable": "off",
    "client_encoding": "UTF8",
    "statement_timeout": "300000",
    "lock_timeout": "20000",
    "idle_in_transaction_session_timeout": "0",
    "idle_session_timeout": "0",
    "log_statement": "none",
    "log_duration": "off",
    "log_min_duration_statement": "-1",
    "log_min_duration_sample": "-1",
    "log_transaction_sample_rate": "0",
    "log_min_error_statement": "panic",
    "debug_print_parse": "off",
    "debug_print_rewritten": "off",
    "debug_print_plan": "off",
    "pg_stat_statements.track": "none",
    "pg_stat_statements.track_utility": "off",
}


# Not left out even where the session is to see what the server has.
ALWAYS = ("search_path", "statement_timeout")


def conninfo(host: Host, database: str = MAINTENANCE, *, plainly: bool = False) -> str:
    """How libpq finds the server; `plainly` with nothing set that would hide what the server has."""
    return make_conninfo(
        "",
        host=str(host.run),
        port=host.port,
        user=ADMIN,
        dbname=database,
        connect_timeout=5,
        application_name="argosy",
        options=options(host, plainly=plainly),
    )


def options(host: Host, *, plainly: bool = False) -> str:
    """Of a session of ours; programs of the server's take them from the environment, in PGOPTIONS."""
    settings = {name: _SETTINGS[name] for name in ALWAYS} if plainly else dict(_SETTINGS)
    if int(host.version) >= 17:
        settings["event_triggers"] = "off"  # one on login could refuse everyone, us included
        if not plainly:
            settings["transaction_timeout"] = "0"
    return " ".join(f"-c {name}={value}" for name, value in settings.items())


class Sessions:
    """Opens sessions of the administrator, each for one piece of work."""

    def __init__(self, host: Host) -> None:
        self._host = host

    @contextmanager
    def open(self, database: str = MAINTENANCE, *, plainly: bool = False) -> Iterator[Connection]:
        """A session in which each statement is its own transaction; `plainly`, with the server's own settings.

        Raises EngineNotReady when the server does not answer, DatabaseNotFound; what the server says
        against a statement becomes an EngineError.
        """
        try:
            connection = psycopg.connect(conninfo(self._host, database, plainly=plainly), autocommit=True)
        except psycopg.OperationalError as error:
            words = str(error).strip()
            if database != MAINTENANCE and f'database "{database}" does not exist' in words:
                raise DatabaseNotFound(name=database) from error
            raise EngineNotReady(f"The database server lets no one in: {words}") from error
        try:
            yield connection
        except ArgosyError:
            raise
        except psycopg.Error as error:
            raise EngineError(f"The database server refused: {words_of(error)}") from error
        finally:
            connection.close()


def words_of(error: psycopg.Error) -> str:
    """What the server said, without the statement it said it of."""
    parts = (error.diag.message_primary, error.diag.message_detail, error.diag.message_hint)
    return " ".join(part for part in parts if part) or str(error).strip()


def run(connection: Connection, statement: LiteralString, *names: str, **parts: sql.Composable | str) -> None:
    """Run a statement that cannot take parameters; a plain string is the name of a thing."""
    composed = {name: sql.Identifier(part) if isinstance(part, str) else part for name, part in parts.items()}
    connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names), **composed))
