"""Valkey and Redis as their users see them."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from argosy.engines.host import Host
from tests.support.engines import Adapter, Refused, Session

_PATIENCE = {"socket_timeout": 10, "decode_responses": True, "retry": Retry(NoBackoff(), 0)}


@contextmanager
def _refusals() -> Iterator[None]:
    try:
        yield
    except (redis.RedisError, OSError) as error:
        raise Refused(str(error)) from error


class _Verified(redis.SSLConnection):
    """One that trusts this authority alone: redis-py would also trust, and each time load, all the machine's."""

    def __init__(self, ca: Path, **options: Any) -> None:
        super().__init__(**options)
        self._trust = ssl.create_default_context(cafile=str(ca))

    def _wrap_socket_with_ssl(self, sock: socket.socket) -> ssl.SSLSocket:
        return self._trust.wrap_socket(sock, server_hostname=self.host)


class ValkeySession:
    """One connection that, unlike redis-py's clients, is never made anew behind the test's back."""

    def __init__(self, connection: Any) -> None:  # redis-py's connections are half typed
        self._connection = connection
        with _refusals():
            self._connection.connect()
        self._ask("PING")

    @property
    def encrypted(self) -> bool:
        return isinstance(self._connection._sock, ssl.SSLSocket)

    def ask(self, *command: str) -> Any:
        """The reply to any command. Raises Refused."""
        if self._connection._sock is None:
            raise Refused("the server has hung up")
        return self._ask(*command)

    def send(self, *command: str) -> None:
        """Send a command and do not wait for what comes of it."""
        with _refusals():
            self._connection.send_command(*command)

    def write(self, key: str, value: str) -> None:
        self.ask("HSET", "written", key, value)

    def read(self) -> dict[str, str]:
        return self.ask_pairs("HGETALL", "written")

    def ask_pairs(self, *command: str) -> dict[str, str]:
        """The reply to a command that answers names and values."""
        reply = self.ask(*command)
        pairs = reply.items() if isinstance(reply, dict) else zip(reply[::2], reply[1::2], strict=True)
        return dict(pairs)

    def close(self) -> None:
        self._connection.disconnect()

    def _ask(self, *command: str) -> Any:
        with _refusals():
            self._connection.send_command(*command)
            return self._connection.read_response()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def connect(host: Host, user: str, password: str, *, tls: bool) -> ValkeySession:
    """Over TCP; under TLS verified against the place's CA, address included. Raises Refused."""
    options: dict[str, Any] = {
        "host": host.address,
        "port": host.port,
        "username": user,
        "password": password,
        **_PATIENCE,
    }
    if not tls:
        plain: Any = redis.Connection
        return ValkeySession(plain(**options))
    assert host.tls is not None, "there is no TLS at this place"
    return ValkeySession(_Verified(host.tls.ca, **options))


def as_admin(host: Host) -> ValkeySession:
    """The management account's session, to see what only it may see."""
    kind: Any = redis.UnixDomainSocketConnection
    password = (host.etc / "os_admin.password").read_text()
    return ValkeySession(
        kind(path=str(host.run / "server.sock"), username="os_admin", password=password, **_PATIENCE)
    )


def _tries(*commands: str) -> Callable[[Host, str], None]:
    """An act of root that must be refused, word for word; that the server still serves is for the suite."""

    def act(host: Host, password: str) -> None:
        for command in commands:
            with connect(host, "default", password, tls=host.tls is not None) as root:
                try:
                    root.ask(*command.split())
                except Refused:
                    continue
            raise AssertionError(f"root was let do {command}")

    return act


def _runs_without_end(script: str) -> Callable[[Host, str], None]:
    def act(host: Host, password: str) -> None:
        with connect(host, "default", password, tls=host.tls is not None) as root:
            root.send("EVAL", script, "0")

    return act


def _fills_memory(host: Host, password: str) -> None:
    with connect(host, "default", password, tls=host.tls is not None) as root:
        try:
            for number in range(100):
                root.ask("SETRANGE", f"filler-{number}", str(16 * 2**20), "x")
        except Refused:
            return
    raise AssertionError("there is no end to the memory")


class _Valkey:
    hostile_names = (
        "plain", "Plain", "Default", "OS_ADMIN", "user", "on", "off", "reset", "nopass", "allkeys",
        "#hash", ">password", "<password", "!hash", "~pattern", "&channel", "+@all", "-@all", "(a)", "%R~a",
        'double"quote', "single'quote", "back\\slash", "\\x00a", "\\n", "with.dot", "slash/and@at", "per%cent",
        "%s", "{0}", "$1", "*1", "semi;colon--", "имя-пользователя-🐘", "x" * 255, "ü" * 255,
    )  # fmt: skip
    hostile_root: Mapping[str, Callable[[Host, str], None]] = {
        "changes the accounts": _tries(
            "ACL SETUSER os_admin off",
            "ACL SETUSER os_admin resetpass",
            "ACL DELUSER os_admin",
            "ACL SETUSER default +@all",
            "ACL SETUSER impostor on nopass ~* +@all",
            "ACL LOAD",
            "ACL SAVE",
            "ACL LIST",
        ),
        "changes or reads the settings": _tries(
            "CONFIG SET requirepass x",
            "CONFIG SET maxclients 1",
            "CONFIG SET dir /tmp",
            "CONFIG SET appendonly no",
            "CONFIG GET *",
            "CONFIG REWRITE",
        ),
        "stops or holds the server": _tries(
            "SHUTDOWN NOSAVE", "DEBUG SLEEP 60", "CLIENT PAUSE 60000", "SCRIPT DEBUG SYNC", "SAVE", "BGSAVE"
        ),
        "ends the agent's sessions": _tries(
            "CLIENT KILL TYPE normal", "CLIENT KILL USER os_admin", "CLIENT NO-EVICT on"
        ),
        "makes a replica of it": _tries(
            "REPLICAOF 127.0.0.1 6379", "SLAVEOF 127.0.0.1 6379", "FAILOVER", "SYNC", "PSYNC ? -1",
            "REPLCONF rdb-only 1", "CLUSTER RESET",
        ),
        "loads code into it": _tries("MODULE LOAD /tmp/x.so", "MODULE LIST"),
        "reaches out from it": _tries("MIGRATE 127.0.0.1 6379 key 0 1000"),
        "runs a script without end": _runs_without_end("while true do end"),
        "runs a script without end that has written": _runs_without_end(
            "redis.call('SET', 'half', 'done') while true do end"
        ),
        "fills the memory": _fills_memory,
    }  # fmt: skip

    def connect(self, host: Host, user: str, password: str, database: str | None = None) -> Session:  # noqa: ARG002  there are none
        return connect(host, user, password, tls=host.tls is not None)

    def connect_plainly(self, host: Host, user: str, password: str, database: str | None = None) -> Session:  # noqa: ARG002  there are none
        return connect(host, user, password, tls=False)

    def cache_mb(self, host: Host) -> float:
        with as_admin(host) as admin:
            return int(admin.ask_pairs("CONFIG", "GET", "maxmemory")["maxmemory"]) / 2**20


ADAPTER: Adapter = _Valkey()
