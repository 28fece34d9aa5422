"""MariaDB as its users see it."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Self

import pymysql
import pymysql.connections

from argosy.engines.host import Host
from tests.support.engines import Adapter, Refused, Session


@contextmanager
def refusals() -> Iterator[None]:
    try:
        yield
    except (pymysql.MySQLError, OSError) as error:
        raise Refused(str(error)) from error


class _Session:
    def __init__(self, connection: pymysql.connections.Connection) -> None:
        self._connection = connection

    @property
    def encrypted(self) -> bool:
        return isinstance(self._connection._sock, ssl.SSLSocket)  # type: ignore[attr-defined]  # has no public name

    def write(self, key: str, value: str) -> None:
        with refusals(), self._connection.cursor() as cursor:
            cursor.execute(
                "CREATE TABLE IF NOT EXISTS written (k VARCHAR(200) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin"
                " PRIMARY KEY, v MEDIUMTEXT CHARACTER SET utf8mb4)"
            )
            cursor.execute("REPLACE INTO written VALUES (%s, %s)", (key, value))

    def read(self) -> dict[str, str]:
        with refusals(), self._connection.cursor() as cursor:
            cursor.execute("SELECT k, v FROM written")
            return dict(cursor.fetchall())

    def close(self) -> None:
        with suppress(pymysql.MySQLError):
            self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def connect(
    host: Host, user: str, password: str, database: str | None = None, context: ssl.SSLContext | None = None
) -> pymysql.connections.Connection:
    with refusals():
        return pymysql.connect(
            host=host.address,
            port=host.port,
            user=user,
            # As bytes, because PyMySQL would send text as Latin-1; every other client sends UTF-8.
            password=password.encode(),
            database=database,
            charset="utf8mb4",
            autocommit=True,
            connect_timeout=10,
            read_timeout=60,
            ssl=context,
            ssl_disabled=context is None,
        )


def as_root(*statements: str) -> Callable[[Host, str], None]:
    """Says these to the server as root, who may be thrown out by the last."""

    def act(host: Host, password: str) -> None:
        connection = connect(host, "root", password)
        try:
            with connection.cursor() as cursor, refusals():
                for statement in statements:
                    cursor.execute(statement)
        finally:
            with suppress(pymysql.MySQLError):
                connection.close()

    return act


def _end_the_agents_sessions(host: Host, password: str) -> None:
    connection = connect(host, "root", password)
    with connection, connection.cursor() as cursor, refusals():
        cursor.execute("DROP USER os_admin@localhost")
        cursor.execute("KILL USER os_admin@localhost")


class _MariaDb:
    hostile_names = (
        "plain",
        "Plain",
        "under_score",
        "underxscore",
        "per%cent",
        "per-cent",
        "back\\slash",
        "back\\_slash",
        "single'quote",
        'double"quote',
        "back`tick",
        "with space",
        " leading space",
        "with.dot",
        "%s",
        "{0}",
        "semi;colon--",
        "x`; DROP DATABASE mysql; --",
        "x'@'%'; DROP USER os_admin@localhost; --",
        "slash/and@at",
        "имя-базы-数据",
        "x" * 64,
        "ü" * 32,
        "#hash",
        "select",
    )
    hostile_root: Mapping[str, Callable[[Host, str], None]] = {
        "drops the administrator": as_root("DROP USER os_admin@localhost"),
        "drops the administrator and ends its sessions": _end_the_agents_sessions,
        "renames the administrator": as_root("RENAME USER os_admin@localhost TO gone@localhost"),
        "changes the administrator's password": as_root(
            "ALTER USER os_admin@localhost IDENTIFIED BY 'mine now'", "KILL USER os_admin"
        ),
        "locks the administrator": as_root(
            "ALTER USER os_admin@localhost ACCOUNT LOCK PASSWORD EXPIRE", "KILL USER os_admin"
        ),
        "takes the administrator's power": as_root(
            "REVOKE ALL PRIVILEGES, GRANT OPTION FROM os_admin@localhost", "KILL USER os_admin"
        ),
        "lets the administrator in by another way only": as_root(
            "ALTER USER os_admin@localhost IDENTIFIED VIA unix_socket REQUIRE X509", "KILL USER os_admin"
        ),
        "puts an impostor in the administrator's place": as_root(
            "DROP USER os_admin@localhost",
            "CREATE USER os_admin@localhost IDENTIFIED BY 'mine'",
            "CREATE ROLE os_admin",
            "CREATE USER ''@localhost",
            "KILL USER os_admin",
        ),
        "poisons new sessions": as_root(
            "SET GLOBAL tx_read_only = 1",
            "SET GLOBAL sql_select_limit = 0",
            "SET GLOBAL autocommit = 0",
            "SET GLOBAL wait_timeout = 1",
            "SET GLOBAL lock_wait_timeout = 0",
            "SET GLOBAL max_allowed_packet = 1024",
            "SET GLOBAL sql_mode = 'ANSI_QUOTES,NO_BACKSLASH_ESCAPES'",
            "SET GLOBAL init_connect = 'rubbish'",
            "SET GLOBAL collation_connection = 'utf16_bin'",
            "KILL USER os_admin",
        ),
        "gives new statements no time": as_root(
            "SET GLOBAL max_statement_time = 0.000001", "KILL USER os_admin"
        ),
        "makes the server read only": as_root("SET GLOBAL read_only = 1", "KILL USER os_admin"),
        "writes every statement down": as_root(
            "SET GLOBAL log_output = 'FILE,TABLE'",
            "SET GLOBAL general_log = 1",
            "SET GLOBAL slow_query_log = 1",
            "SET GLOBAL long_query_time = 0",
        ),
        "installs a judge of passwords": as_root(
            "INSTALL SONAME 'simple_password_check'", "SET GLOBAL simple_password_check_minimal_length = 1000"
        ),
        "has the server load what is not there": as_root(
            "INSERT INTO mysql.plugin VALUES ('nothing', 'nothing.so'), ('rubbish', 'file_key_management.so')"
        ),
        "has the administrator dropped every second": as_root(
            "CREATE DATABASE IF NOT EXISTS trap",
            "CREATE EVENT trap.again ON SCHEDULE EVERY 1 SECOND DO DROP USER IF EXISTS os_admin@localhost",
            "SET GLOBAL event_scheduler = ON",
            "DROP USER IF EXISTS os_admin@localhost",
            "KILL USER os_admin",
        ),
    }

    def connect(self, host: Host, user: str, password: str, database: str | None = None) -> Session:
        if host.tls is None:
            return self.connect_plainly(host, user, password, database)
        context = ssl.create_default_context(cafile=str(host.tls.ca))
        return _Session(connect(host, user, password, database, context))

    def connect_plainly(self, host: Host, user: str, password: str, database: str | None = None) -> Session:
        return _Session(connect(host, user, password, database))

    def cache_mb(self, host: Host) -> float:
        """Through the agent's own socket: it needs no user."""
        password = (host.etc / "os_admin.password").read_text().strip()
        with (
            refusals(),
            pymysql.connect(
                unix_socket=str(host.run / "mariadb.sock"), user="os_admin", password=password
            ) as connection,
            connection.cursor() as cursor,
        ):
            cursor.execute("SELECT @@innodb_buffer_pool_size")
            ((size,),) = cursor.fetchall()
        return float(size) / 2**20


ADAPTER: Adapter = _MariaDb()
