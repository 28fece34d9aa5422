"""What a user of each datastore runs: connect over TLS, check the certificate, log in, ask one question."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import hiredis
import psycopg
import pymysql
from psycopg.rows import TupleRow

PATIENCE_S = 120.0
PAUSE_S = 0.005  # between tries: tight, and yet leaves the processor to the server that is waited for


class NotYet(Exception):
    """Nobody listens, or the account is not there yet."""


@dataclass(frozen=True)
class Door:
    """Where a database server is and whom it should let in. `ca` signed its certificate."""

    address: str
    port: int
    user: str
    database: str
    ca: Path
    password: str = field(repr=False)


Ask = Callable[[Door], None]
Asking = Callable[[], None]


def ask_postgresql(door: Door) -> None:
    """Raises NotYet."""
    try:
        with psycopg.connect(
            host=door.address,
            port=door.port,
            user=door.user,
            password=door.password,
            dbname=door.database,
            sslmode="verify-full",
            sslrootcert=str(door.ca),
            gssencmode="disable",
            connect_timeout=5,
        ) as connection:
            _check(psycopg_one(connection, "SELECT current_user"), door.user)
    except psycopg.OperationalError as error:
        raise NotYet(str(error)) from error


def psycopg_one(connection: psycopg.Connection[TupleRow], question: str) -> object:
    row = connection.execute(question.encode()).fetchone()
    return row[0] if row else None


def ask_mariadb(door: Door) -> None:
    """Raises NotYet."""
    try:
        connection = pymysql.connect(
            host=door.address,
            port=door.port,
            user=door.user,
            password=door.password,
            database=door.database,
            ssl_ca=str(door.ca),
            ssl_verify_cert=True,
            ssl_verify_identity=True,
            connect_timeout=5,
        )
        with connection, connection.cursor() as cursor:
            cursor.execute("SELECT SUBSTRING_INDEX(CURRENT_USER(), '@', 1)")
            row = cursor.fetchone()
            _check(row[0] if row else None, door.user)
    except pymysql.err.OperationalError as error:
        raise NotYet(str(error)) from error


def ask_valkey(door: Door) -> None:
    """Raises NotYet."""
    try:
        with valkey_connection(door) as connection:
            valkey_one(connection, "AUTH", door.user, door.password)
            _check(valkey_one(connection, "ACL", "WHOAMI"), door.user)
    except (OSError, hiredis.HiredisError) as error:
        raise NotYet(str(error)) from error


@contextmanager
def valkey_connection(door: Door) -> Iterator[socket.socket]:
    """A connection over TLS on which nobody has logged in yet. Raises OSError."""
    context = ssl.create_default_context(cafile=door.ca)
    with (
        socket.create_connection((door.address, door.port), timeout=5) as plain,
        context.wrap_socket(plain, server_hostname=door.address) as connection,
    ):
        yield connection


def valkey_one(connection: socket.socket, *command: str) -> Any:
    """The reply to one command. Raises hiredis.ReplyError for a refusal, OSError when the server is gone."""
    connection.sendall(hiredis.pack_command(command))  # type: ignore[arg-type]  # its stub knows one word
    reader = hiredis.Reader(encoding="utf-8", notEnoughData=NotYet)
    while (reply := reader.gets()) is NotYet:
        received = connection.recv(65536)
        if not received:
            raise ConnectionResetError("connection closed")
        reader.feed(received)
    if isinstance(reply, hiredis.ReplyError):
        raise reply
    return reply


def knock(door: Door) -> None:
    """Whether anybody listens, for next to nothing: most of a create nobody does. Raises NotYet."""
    with socket.socket() as probe:
        if probe.connect_ex((door.address, door.port)) != 0:
            raise NotYet(f"nobody listens at {door.address}:{door.port}")


def first_answer(ask: Asking, what: str, *, pause_s: float = PAUSE_S) -> float:
    """Ask until there is an answer; the time it came, in seconds since 1970. Raises TimeoutError."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        try:
            ask()
        except NotYet as error:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{what} gave no answer within {PATIENCE_S:.0f} s: {error}") from error
            time.sleep(pause_s)
        else:
            return time.time()


def _check(answer: object, expected: str) -> None:
    if answer != expected:
        raise AssertionError(f"the server answered {answer!r}, not {expected!r}")
