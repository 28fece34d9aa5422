"""A connection kept open to ask how the server is, which never waits past its deadline.

psycopg's own calls wait for as long as the server is silent, and a server may be frozen.
"""

from __future__ import annotations

import select
import threading
import time
from contextlib import suppress
from dataclasses import dataclass

import psycopg
from psycopg import pq
from psycopg.pq.abc import PGconn

from argosy.engines.host import Host
from argosy.engines.postgresql.session import conninfo

_QUERY = b"""
SELECT (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'),
       current_setting('max_connections')::int
       - current_setting('superuser_reserved_connections')::int
       - coalesce(current_setting('reserved_connections', true)::int, 0),
       coalesce((SELECT rolsuper FROM pg_roles WHERE rolname = current_user AND oid = 10), false)
"""


class Unanswered(Exception):
    """The server did not answer in time, or said why it will not; its words are the argument."""

    @property
    def words(self) -> str:
        return str(self.args[0])

    @property
    def starting(self) -> bool:
        """It answers that it is on its way up (or down): server messages of SQLSTATE 57P03."""
        return any(
            phrase in self.words
            for phrase in (
                "starting up",
                "not yet accepting connections",
                "in recovery mode",
                "shutting down",
            )
        )

    @property
    def full(self) -> bool:
        """Every connection is taken, those kept for administrators too (SQLSTATE 53300)."""
        return "too many clients already" in self.words or "connection slots are reserved" in self.words

    @property
    def locked_out(self) -> bool:
        """The server is well, but the administrator or the database he uses is not what it was.

        Among these words is what it says to an administrator who has lost his power and so may not set
        what he sets for his sessions.
        """
        return (
            any(
                phrase in self.words
                for phrase in (
                    "does not exist",
                    "is not permitted to log in",
                    "is not currently accepting connections",
                    "authentication failed",
                    "permission denied",
                    "connection to invalid database",
                    "cannot connect to invalid database",
                )
            )
            and "No such file or directory" not in self.words
        )


@dataclass(frozen=True)
class Answer:
    """What the server says of itself."""

    connections: int
    connections_for_users: int
    in_power: bool  # the administrator is still what it was made

    @property
    def full(self) -> bool:
        return self.connections >= self.connections_for_users


class Watch:
    """Asks one server, from any thread; reconnects when the connection broke."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._lock = threading.Lock()
        self._connection: PGconn | None = None

    def ask(self, timeout_s: float = 1.0) -> Answer:
        """Raises Unanswered."""
        deadline = time.monotonic() + timeout_s
        if not self._lock.acquire(timeout=timeout_s):
            raise Unanswered("The server has not answered an earlier question.")
        try:
            if self._connection is not None:
                with suppress(Unanswered):
                    return self._query(self._connection, deadline)
                self._drop()
            self._connection = self._connect(deadline)
            try:
                return self._query(self._connection, deadline)
            except Unanswered:
                self._drop()
                raise
        finally:
            self._lock.release()

    def close(self) -> None:
        """A watch may be asked again after it was closed."""
        with self._lock:
            self._drop()

    def _drop(self) -> None:
        if self._connection is not None:
            self._connection.finish()
            self._connection = None

    def _connect(self, deadline: float) -> PGconn:
        connection = pq.PGconn.connect_start(conninfo(self._host).encode())
        try:
            while True:
                match connection.connect_poll():
                    case pq.PollingStatus.OK:
                        connection.nonblocking = 1
                        return connection
                    case pq.PollingStatus.READING:
                        _wait(connection, select.POLLIN, deadline)
                    case pq.PollingStatus.WRITING:
                        _wait(connection, select.POLLOUT, deadline)
                    case _:
                        raise Unanswered(connection.get_error_message())  # noqa: TRY301  # it is our own end
        except BaseException:
            connection.finish()
            raise

    def _query(self, connection: PGconn, deadline: float) -> Answer:
        answer: Answer | None = None
        try:
            connection.send_query(_QUERY)
            while connection.flush():
                _wait(connection, select.POLLOUT, deadline)
            while True:
                while connection.is_busy():
                    _wait(connection, select.POLLIN, deadline)
                    connection.consume_input()
                result = connection.get_result()
                if result is None:
                    break
                if result.status != pq.ExecStatus.TUPLES_OK:
                    raise Unanswered(result.get_error_message())
                used, usable, power = (result.get_value(0, column) or b"" for column in range(3))
                answer = Answer(int(used), int(usable), power == b"t")
        except psycopg.OperationalError as error:
            raise Unanswered(str(error)) from error
        if answer is None:
            raise Unanswered("The server closed the connection.")
        return answer


def _wait(connection: PGconn, event: int, deadline: float) -> None:
    poll = select.poll()
    poll.register(connection.socket, event)
    if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
        raise Unanswered("The server did not answer in time.")
