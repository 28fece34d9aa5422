"""A client that writes without pause and keeps a ledger, to see what an operation costs those who use the database.

with writing(ask, "postgresql") as writer:
    ...
assert writer.missing() == []

Each row is a number, one higher than the last that was acknowledged; a lost connection is opened again at once.
"""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import hiredis
import psycopg
import pymysql
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

PAUSE_S = 0.002  # between tries while nobody answers


@dataclass(frozen=True)
class Place:
    """Where to write, over TLS with the certificate checked; `database` is left out where there are none."""

    datastore: str
    address: str
    port: int
    user: str
    ca: Path
    password: str = field(repr=False)
    database: str = ""


class Ledger(Protocol):
    """One connection's way to write a number and to read all that are there."""

    def write(self, number: int) -> None: ...
    def read(self) -> set[int]: ...
    def close(self) -> None: ...


class _Sql:
    def __init__(self, connection: Any, table: str) -> None:
        self._connection = connection
        self.run(f"CREATE TABLE IF NOT EXISTS ledger ({table})")

    def run(self, statement: str) -> list[Any]:
        with self._connection.cursor() as cursor:
            cursor.execute(statement)
            return list(cursor.fetchall()) if cursor.description else []

    def write(self, number: int) -> None:
        self.run(f"INSERT INTO ledger VALUES ({number})")

    def read(self) -> set[int]:
        return {int(row[0]) for row in self.run("SELECT n FROM ledger")}

    def close(self) -> None:
        self._connection.close()


class _Keys:
    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        client.ping()

    def write(self, number: int) -> None:
        self._client.rpush("ledger", number)

    def read(self) -> set[int]:
        return {int(one) for one in self._client.lrange("ledger", 0, -1)}

    def close(self) -> None:
        self._client.close()


def _postgresql(place: Place) -> Ledger:
    connection = psycopg.connect(
        host=place.address,
        port=place.port,
        user=place.user,
        password=place.password,
        dbname=place.database,
        sslmode="verify-full",
        sslrootcert=str(place.ca),
        gssencmode="disable",
        connect_timeout=5,
        autocommit=True,
    )
    return _Sql(connection, "n bigint")


def _mariadb(place: Place) -> Ledger:
    connection = pymysql.connect(
        host=place.address,
        port=place.port,
        user=place.user,
        password=place.password,
        database=place.database,
        ssl_ca=str(place.ca),
        ssl_verify_cert=True,
        ssl_verify_identity=True,
        connect_timeout=5,
        read_timeout=60,
        autocommit=True,
    )
    return _Sql(connection, "n BIGINT")


def _valkey(place: Place) -> Ledger:
    return _Keys(
        redis.Redis(
            host=place.address,
            port=place.port,
            username=place.user,
            password=place.password,
            ssl=True,
            ssl_ca_certs=str(place.ca),
            ssl_check_hostname=True,
            socket_timeout=60,
            socket_connect_timeout=5,
            retry=Retry(NoBackoff(), 0),
        )
    )


def ledger(place: Place) -> Ledger:
    """A connection that reads what is there."""
    return _OPEN[place.datastore](place)


_OPEN: dict[str, Callable[[Place], Ledger]] = {
    "postgresql": _postgresql,
    "mariadb": _mariadb,
    "valkey": _valkey,
    "redis": _valkey,
}
_FAILURES = (psycopg.Error, pymysql.err.Error, redis.RedisError, hiredis.HiredisError, OSError, ssl.SSLError)


class Writer:
    """Writes until it is stopped. Times are of `time.monotonic`, in seconds."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._ended = threading.Event()
        self._turn = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="writer", daemon=True)
        self.acknowledged: list[tuple[float, int]] = []
        self.failures: list[tuple[float, str]] = []

    def start(self) -> None:
        """Returns when the first write is acknowledged. Raises TimeoutError when none is."""
        self._thread.start()
        deadline = time.monotonic() + 60
        while not self.acknowledged:
            if time.monotonic() > deadline:
                raise TimeoutError(f"nothing could be written: {self.failures[-1:]}")
            time.sleep(PAUSE_S)

    def stop(self) -> None:
        self._ended.set()
        self._thread.join(90)

    @contextmanager
    def held(self) -> Iterator[None]:
        """Nothing is written within, and nothing is on its way."""
        with self._turn:
            yield

    def goes_on(self, timeout_s: float = 60) -> None:
        """Wait for a write that is begun and acknowledged from now on. Raises TimeoutError."""
        count, deadline = len(self.acknowledged) + 1, time.monotonic() + timeout_s
        while len(self.acknowledged) <= count:
            if time.monotonic() > deadline:
                raise TimeoutError(f"nothing was written any more: {self.failures[-1:]}")
            time.sleep(PAUSE_S)

    def longest_gap_s(self, since: float = 0.0) -> float:
        """The longest time between two acknowledgements, the later one after `since`."""
        times = [at for at, _ in self.acknowledged]
        return max((later - at for at, later in pairwise(times) if later > since), default=0.0)

    def missing(self) -> list[int]:
        """Acknowledged numbers that are not in the database."""
        ledger = _OPEN[self._place.datastore](self._place)
        try:
            return sorted({number for _, number in self.acknowledged} - ledger.read())
        finally:
            ledger.close()

    def _run(self) -> None:
        number, ledger = 0, None
        while not self._ended.is_set():
            try:
                if ledger is None:
                    ledger = _OPEN[self._place.datastore](self._place)
                with self._turn:
                    number += 1
                    ledger.write(number)
                    self.acknowledged.append((time.monotonic(), number))
            except _FAILURES as error:
                self.failures.append((time.monotonic(), f"{type(error).__name__}: {error}"))
                if ledger is not None:
                    with suppress(*_FAILURES):
                        ledger.close()
                ledger = None
                self._ended.wait(PAUSE_S)
        if ledger is not None:
            with suppress(*_FAILURES):
                ledger.close()


@contextmanager
def writing(place: Place) -> Iterator[Writer]:
    """A writer at work, stopped at the end."""
    writer = Writer(place)
    writer.start()
    try:
        yield writer
    finally:
        writer.stop()
