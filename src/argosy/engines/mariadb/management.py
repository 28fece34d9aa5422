"""The agent's own way into the server, which no administrator among the users can close for good.

The account is `os_admin@localhost`: reachable by the Unix socket alone, whose directory only the engine's
account and the agent may enter. It has a random password, kept in a file of the agent's; the server is given
the hash. (unix_socket would need an account named like the agent's system user, and that user to have a name.)

- Every start makes the account anew, by the server's own init file, whatever became of it meanwhile.
- One connection is kept, and with it the powers it had at login: when the account is damaged while the
  server runs, the next use of that connection, which may be a question after the health, mends it.
- With a damaged account and no connection left, `AccountLost` is raised, and a new start is the cure.
"""

from __future__ import annotations

import contextlib
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pymysql
import pymysql.connections

from argosy.domain.errors import ArgosyError, EngineError, EngineNotReady, Invalid
from argosy.engines.host import Host
from argosy.engines.mariadb import configuration, sql

ADMIN = "os_admin"

_PATIENCE_S = 60.0
_PROOF_S = 10.0

# Numbers are named in the server's manual, MariaDB Error Code Reference.
_TOO_MANY_CONNECTIONS = 1040
_ACCESS_DENIED = frozenset({1044, 1045, 1142, 1227, 1698, 1820, 1862, 4151})
_INVALID = frozenset(
    {
        13,  # "Can't get stat of ... (File name too long)": a name whose file would have more than 255 bytes
        1059,  # identifier too long
        1102,  # incorrect database name
        1115,  # unknown character set
        1253,  # collation of another character set
        1273,  # unknown collation
        1300,  # text that is not of the character set
        1470,  # user name too long
    }
)

# What SET GLOBAL may have done to new sessions is undone here. The general and slow logs are kept out of our
# statements. max_statement_time stands first because it may cut off everything after it.
_SESSION = (
    "SET SESSION max_statement_time = 0",
    "SET SESSION sql_mode = 'STRICT_TRANS_TABLES,NO_ENGINE_SUBSTITUTION', tx_read_only = 0",
    "SET SESSION sql_select_limit = 18446744073709551615, sql_big_selects = 1, sql_log_off = 1, slow_query_log = 0",
    "SET SESSION lock_wait_timeout = 20, innodb_lock_wait_timeout = 20",
    "SET SESSION wait_timeout = 31536000, idle_transaction_timeout = 0",
)


class Refused(EngineError):
    """The server answered a statement with an error; `number` is its own."""

    def __init__(self, number: int, message: str) -> None:
        super().__init__(f"MariaDB refused: {message} ({number}).")
        self.number = number


class NotListening(EngineNotReady):
    """Nobody listens on the Unix socket, as before a server has recovered its data."""


class ConnectionsTaken(EngineNotReady):
    """Not even the one connection is left that the server keeps for administrators."""


class AccountLost(EngineError):
    """The server does not know the agent's account any more, or took its privileges away."""

    code = "management-lost"

    def __init__(self) -> None:
        super().__init__(
            f"The management account {ADMIN}@localhost was changed or removed by an administrator of this "
            "server: restart the instance to restore it."
        )


class _Connection(pymysql.connections.Connection):
    """pymysql takes its timeout when it connects only; a kept connection needs another for each use."""

    def wait_at_most(self, timeout_s: float) -> None:
        self._read_timeout = timeout_s


class Session:
    """One connection of the agent's. Errors come as ours: see `Management.session`."""

    def __init__(self, host: Host, password: str, timeout_s: float) -> None:
        self._connection = _Connection(
            user=ADMIN,
            password=password,
            charset="utf8mb4",
            autocommit=None,
            ssl_disabled=True,  # over a socket of its own; else each session loads all CAs that the machine has
            read_timeout=timeout_s,
            write_timeout=timeout_s,
            defer_connect=True,
        )
        try:
            self._connection.connect(_socket(host, timeout_s))
        except pymysql.MySQLError as error:
            self.close()
            raise _explained(error) from error
        try:
            for statement in _SESSION:
                self.run(statement)
            self._connection.autocommit(value=True)
        except pymysql.MySQLError as error:
            self.close()
            raise _explained(error) from error
        except ArgosyError:
            self.close()
            raise

    def wait_at_most(self, timeout_s: float) -> None:
        """How long the next statements may take before the connection is given up."""
        self._connection.wait_at_most(timeout_s)

    def run(self, statement: str, *values: str | int) -> list[tuple[object, ...]]:
        """Run one statement; `%s` in it stand for values, if there are any, else a percent sign is itself."""
        try:
            with self._connection.cursor() as cursor:
                cursor.execute(statement, values or None)
                return list(cursor.fetchall())
        except pymysql.MySQLError as error:
            raise _explained(error) from error

    def close(self) -> None:
        with contextlib.suppress(pymysql.MySQLError, OSError):
            self._connection.close()


class Management:
    """Gives sessions to the engine, one at a time; may be used from any thread."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._password_file = host.etc / "os_admin.password"
        self._lock = threading.Lock()
        self._kept: Session | None = None
        self._account: tuple[object, ...] | None = None

    def prepare(self) -> None:
        """Before a start: write the init file that makes the account, and its password when there is none."""
        if not self._password_file.exists():
            self._host.write_file(self._password_file, secrets.token_urlsafe(32) + "\n", as_agent=True)
        statements = ["SET sql_log_bin = 0", *self._statements()]
        self._host.write_file(configuration.init_file(self._host), ";\n".join(statements) + ";\n")

    @contextmanager
    def session(self) -> Iterator[Session]:
        """The kept connection, or a new one; waits for its turn.

        Raises NotListening, ConnectionsTaken, AccountLost or EngineNotReady when there is none to be had; its
        statements raise Invalid, Refused or EngineNotReady.
        """
        if not self._lock.acquire(timeout=_PATIENCE_S):
            raise EngineNotReady("The database server is busy with an earlier request: try again.")
        try:
            with self._turn(_PATIENCE_S) as session:
                yield session
        finally:
            self._lock.release()

    @contextmanager
    def glance(self, timeout_s: float) -> Iterator[Session]:
        """A session for a quick question, which does not wait while another request has its turn."""
        if self._lock.acquire(blocking=False):
            try:
                with self._turn(timeout_s) as session:
                    yield session
            finally:
                self._lock.release()
        else:
            with contextlib.closing(Session(self._host, self.password(), timeout_s)) as session:
                yield session

    def rotate(self) -> None:
        """Another password for the account. See RotatesPassword."""
        with self.session() as session:
            new = secrets.token_urlsafe(32)
            old_way, new_way = sql.authentication(self.password()), sql.authentication(new)
            self._account = None  # whatever happens from here on, its next use makes it as the file has it
            session.run("SET SESSION sql_log_bin = 0")
            session.run(
                f"ALTER USER {ADMIN}@localhost {old_way} OR {new_way.removeprefix('IDENTIFIED VIA ')}"
            )
            session.run("SET SESSION sql_log_bin = 1")
            with contextlib.closing(Session(self._host, new, _PROOF_S)) as proof:
                proof.run("SELECT 1")
            self._host.write_file(self._password_file, new + "\n", as_agent=True)
            self._mend(session)

    def close(self) -> None:
        """Let go of the kept connection."""
        with self._lock:
            self._drop()

    @contextmanager
    def _turn(self, timeout_s: float) -> Iterator[Session]:
        session = self._connected(time.monotonic() + timeout_s)
        try:
            yield session
        except EngineNotReady:
            self._drop()
            raise

    def _connected(self, deadline: float) -> Session:
        if self._kept is not None:
            try:
                self._kept.wait_at_most(_until(deadline))
                self._mend(self._kept)
            except EngineNotReady:
                # It was killed, or its server has ended: its powers are gone, and a new one must do.
                self._drop()
            else:
                return self._kept
        session = Session(self._host, self.password(), _until(deadline))
        try:
            self._account = None
            self._mend(session)
        except ArgosyError:
            session.close()
            raise
        self._kept = session
        return session

    def _mend(self, session: Session) -> None:
        """Make the account anew unless it is as we last made it."""
        if self._account is not None and self._stored(session) == self._account:
            return
        session.run("SET SESSION sql_log_bin = 0")
        for statement in self._statements():
            session.run(statement)
        session.run("SET SESSION sql_log_bin = 1")
        self._account = self._stored(session)

    def _stored(self, session: Session) -> tuple[object, ...]:
        rows = session.run("SELECT Priv FROM mysql.global_priv WHERE User = %s AND Host = 'localhost'", ADMIN)
        return rows[0] if rows else ()

    def _statements(self) -> tuple[str, ...]:
        return (
            f"CREATE OR REPLACE USER {ADMIN}@localhost {sql.authentication(self.password())}",
            f"GRANT ALL PRIVILEGES ON *.* TO {ADMIN}@localhost WITH GRANT OPTION",
        )

    def password(self) -> str:
        """The account's. Raises AccountLost when its file is gone."""
        try:
            # The first line only: where agent and server share an account, root could have a log written here.
            return self._password_file.read_text(encoding="utf-8", errors="replace").partition("\n")[0]
        except FileNotFoundError as error:
            raise AccountLost from error

    def _drop(self) -> None:
        if self._kept is not None:
            self._kept.close()
            self._kept = None


def _socket(host: Host, timeout_s: float) -> socket.socket:
    """Connected. Not left to pymysql, which loses sockets that cannot be connected."""
    connected = socket.socket(socket.AF_UNIX)
    try:
        connected.settimeout(timeout_s)
        connected.connect(str(configuration.socket(host)))
    except (FileNotFoundError, ConnectionRefusedError) as error:
        connected.close()
        raise NotListening("The database server does not listen (yet).") from error
    except OSError as error:
        connected.close()
        raise EngineNotReady(f"The database server does not answer: {error}.") from error
    return connected


def _until(deadline: float) -> float:
    return max(0.1, deadline - time.monotonic())


def _explained(error: pymysql.MySQLError) -> ArgosyError:
    number = error.args[0] if error.args and isinstance(error.args[0], int) else 0
    message = str(error.args[-1]) if error.args else ""
    if number == _TOO_MANY_CONNECTIONS:
        return ConnectionsTaken("All connections of the database server are taken: close some.")
    if number in _ACCESS_DENIED:
        return AccountLost()
    if number == 0 or 2000 <= number < 3000 or number in {1053, 1927}:
        # The client's own numbers, and the server's for "shutting down" and "your connection was killed".
        return EngineNotReady("The connection to the database server was lost: try again.")
    if number in _INVALID:
        return Invalid(f"MariaDB refused: {message}.")
    return Refused(number, message)
