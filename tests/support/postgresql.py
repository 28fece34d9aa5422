"""PostgreSQL as its users see it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import LiteralString, Self

import psycopg

from argosy.engines.host import Host
from tests.support.engines import Adapter, Refused, Session


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except psycopg.Error as error:
        raise Refused(str(error)) from error


class _Session:
    def __init__(self, connection: psycopg.Connection[tuple[str, ...]]) -> None:
        self._connection = connection

    @property
    def encrypted(self) -> bool:
        return self._connection.pgconn.ssl_in_use

    def write(self, key: str, value: str) -> None:
        with _refusals():
            self._connection.execute(
                "CREATE TABLE IF NOT EXISTS public.written (key text PRIMARY KEY, value text)"
            )
            # Else the server's counts, by which a backup tells whether a table changed meanwhile, have it later.
            self._connection.execute(
                "INSERT INTO public.written VALUES (%s, %s)"
                " ON CONFLICT (key) DO UPDATE SET value = excluded.value RETURNING pg_stat_force_next_flush()",
                (key, value),
            )

    def read(self) -> dict[str, str]:
        with _refusals():
            try:
                rows = self._connection.execute("SELECT key, value FROM public.written").fetchall()
            except psycopg.errors.UndefinedTable:
                return {}
        return dict(rows)  # type: ignore[arg-type]  # rows of two

    def close(self) -> None:
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _connect(
    host: Host, user: str, password: str, database: str | None, sslmode: str, sslrootcert: str = ""
) -> psycopg.Connection[tuple[str, ...]]:
    with _refusals():
        return psycopg.connect(
            host=host.address,
            port=host.port,
            user=user,
            password=password,
            dbname=database or "postgres",
            connect_timeout=10,
            gssencmode="disable",
            autocommit=True,
            sslmode=sslmode,
            sslrootcert=sslrootcert,
        )


def _as_root(*statements: LiteralString) -> Callable[[Host, str], None]:
    def act(host: Host, password: str) -> None:
        with _connect(host, "root", password, None, "prefer") as connection, _refusals():
            for statement in statements:
                connection.execute(statement)

    return act


def _drop_postgres(host: Host, password: str) -> None:
    with _connect(host, "root", password, "template1", "prefer") as connection, _refusals():
        connection.execute("DROP DATABASE postgres WITH (FORCE)")


class _PostgreSQL:
    hostile_names = (
        "plain",
        "Plain",
        'double"quote',
        "single'quote",
        "back\\slash",
        "with space",
        "with.dot",
        "per%cent",
        "%s",
        "{0}",
        "$1",
        "semi;colon--",
        'x"; DROP DATABASE postgres; --',
        "x'); DROP ROLE os_admin; --",
        "slash/and@at",
        "имя-数据库-🐘",
        "x" * 63,
        "ü" * 31,
    )
    hostile_root: Mapping[str, Callable[[Host, str], None]] = {
        "forbids the administrator to log in": _as_root("ALTER ROLE os_admin NOLOGIN"),
        "renames the administrator": _as_root("ALTER ROLE os_admin RENAME TO gone"),
        "puts an impostor in the administrator's place": _as_root(
            "ALTER ROLE os_admin RENAME TO gone", "CREATE ROLE os_admin LOGIN"
        ),
        "takes the administrator's power": _as_root(
            "UPDATE pg_authid SET rolsuper = false, rolcanlogin = false WHERE rolname = 'os_admin'"
        ),
        "deletes the administrator": _as_root("DELETE FROM pg_authid WHERE rolname = 'os_admin'"),
        "poisons the administrator's sessions": _as_root(
            "ALTER ROLE os_admin SET session_preload_libraries = 'nonexistent'",
            "ALTER ROLE os_admin SET default_transaction_read_only = on",
            "ALTER ROLE os_admin SET statement_timeout = 1",
            "ALTER ROLE os_admin IN DATABASE postgres SET role = 'pg_monitor'",
            "ALTER DATABASE postgres SET search_path = 'nowhere'",
        ),
        "drops the database the agent uses": _drop_postgres,
        "closes the database the agent uses": _as_root(
            "UPDATE pg_database SET datallowconn = false WHERE datname = 'postgres'"
        ),
        "moves the server elsewhere": _as_root(
            "ALTER SYSTEM SET hba_file = '/nonexistent'",
            "ALTER SYSTEM SET ident_file = '/nonexistent'",
            "ALTER SYSTEM SET port = 1",
            "ALTER SYSTEM SET listen_addresses = ''",
            "ALTER SYSTEM SET unix_socket_directories = '/nonexistent'",
            "ALTER SYSTEM SET ssl = off",
        ),
        "makes the server unable to start": _as_root(
            "ALTER SYSTEM SET shared_preload_libraries = 'nonexistent'",
            "ALTER SYSTEM SET max_locks_per_transaction = 2147483647",
        ),
        "breaks every session": _as_root(
            "ALTER SYSTEM SET session_preload_libraries = 'nonexistent'",
            "ALTER SYSTEM SET local_preload_libraries = 'nonexistent'",
            "ALTER SYSTEM SET default_transaction_read_only = on",
        ),
        "writes rubbish into the server's settings": _as_root(
            "COPY (SELECT 'rubbish = (') TO PROGRAM 'cat >> postgresql.auto.conf'"
        ),
    }

    def connect(self, host: Host, user: str, password: str, database: str | None = None) -> Session:
        if host.tls is None:
            return self.connect_plainly(host, user, password, database)
        return _Session(_connect(host, user, password, database, "verify-full", str(host.tls.ca)))

    def connect_plainly(self, host: Host, user: str, password: str, database: str | None = None) -> Session:
        return _Session(_connect(host, user, password, database, "disable"))

    def cache_mb(self, host: Host) -> float:
        """Through the agent's own socket: it needs no user."""
        with (
            _refusals(),
            psycopg.connect(
                host=str(host.run), port=host.port, user="os_admin", dbname="postgres"
            ) as connection,
        ):
            row = connection.execute(
                "SELECT setting::bigint * pg_size_bytes(unit) FROM pg_settings WHERE name = 'shared_buffers'"
            ).fetchone()
        assert row is not None
        return float(row[0]) / 2**20


ADAPTER: Adapter = _PostgreSQL()
