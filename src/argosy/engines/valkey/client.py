"""The agent's own connection to the server: RESP over the Unix socket, as the management account.

hiredis packs and parses; this adds the socket. The whole of redis-py would cost an agent 8 MB of memory
and 0.1 s at its start for the dozen commands we send, hiredis costs 0.15 MB.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import hiredis

from argosy.domain.errors import EngineError, EngineNotReady

Command = Sequence[str | bytes]

_INCOMPLETE = object()


class Refused(EngineError):
    """The server answered with an error; `reply` is its own words, of which the first is the kind of error."""

    def __init__(self, reply: object) -> None:
        self.reply = str(reply)
        super().__init__(f"The database server refused: {self.reply}.")


class Client:
    """One connection, made when first needed and kept; used from any thread, one exchange at a time.

    It is kept because the server has only so many: when users have taken all the others, the agent must
    still get through. A lost connection is made anew and the exchange repeated, so every command sent
    through here must be one that may be repeated.
    """

    def __init__(
        self, path: Path, user: str, password: Callable[[], str], timeout_s: float, *, text: bool = True
    ) -> None:
        """Without `text` replies are bytes, as they came."""
        self._socket: socket.socket | None = None
        self._path = path
        self._user = user
        self._password = password
        self._timeout_s = timeout_s
        self._text = text
        self._lock = threading.Lock()
        self._reader = hiredis.Reader()

    def call(self, *command: str | bytes) -> Any:
        """The server's reply. Raises Refused, or EngineNotReady when none comes."""
        return self.pipeline([command])[0]

    def pipeline(self, commands: Sequence[Command]) -> list[Any]:
        """Run commands one after the other. Raises Refused for the first refused; those after it are run too.

        Not in MULTI: a server whose memory is full queues nothing, not even what needs no memory.
        """
        return [_checked(reply) for reply in self._converse(commands)]

    def info(self, *sections: str) -> dict[str, str]:
        """INFO, parsed: the fields of some sections."""
        lines = str(self.call("INFO", *sections)).splitlines()
        return dict(line.split(":", 1) for line in lines if ":" in line and not line.startswith("#"))

    def close(self) -> None:
        with self._lock:
            self._drop()

    def __del__(self) -> None:
        # An engine is given up without a word, and a server outlives its agent.
        self._drop()

    def _converse(self, commands: Sequence[Command]) -> list[Any]:
        if not self._lock.acquire(timeout=self._timeout_s):
            raise EngineNotReady("The database server is taking its time over an earlier request.")
        try:
            if self._socket is not None:
                try:
                    return self._exchange(self._socket, commands)
                except TimeoutError:
                    raise
                except OSError:
                    self._drop()  # the server went away since; another may have come
            return self._exchange(self._connect(), commands)
        except OSError as error:
            self._drop()
            raise EngineNotReady(
                f"The database server does not answer: {error.strerror or error}."
            ) from error
        except BaseException:
            self._drop()
            raise
        finally:
            self._lock.release()

    def _connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket = connection
        encoding = "utf-8" if self._text else None
        self._reader = hiredis.Reader(encoding=encoding, errors="replace", notEnoughData=_INCOMPLETE)
        connection.settimeout(self._timeout_s)
        connection.connect(str(self._path))
        (reply,) = self._exchange(connection, [("AUTH", self._user, self._password())])
        _checked(reply)
        return connection

    def _exchange(self, connection: socket.socket, commands: Sequence[Command]) -> list[Any]:
        # A server that takes no more clients says so and hangs up without reading: what it said is
        # still there to be read although nothing can be sent.
        with contextlib.suppress(BrokenPipeError):
            connection.sendall(b"".join(packed(command) for command in commands))
        replies: list[Any] = []
        while len(replies) < len(commands):
            reply = self._reader.gets()
            if reply is not _INCOMPLETE:
                replies.append(reply)
                continue
            received = connection.recv(65536)
            if not received:
                raise ConnectionResetError("connection closed")
            self._reader.feed(received)
        return replies

    def _drop(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def packed(command: Command) -> bytes:
    """A command as it is sent."""
    sent: bytes = hiredis.pack_command(tuple(command))  # type: ignore[arg-type]  # its stub knows one word
    return sent


def _checked(reply: Any) -> Any:
    if isinstance(reply, hiredis.ReplyError):
        raise Refused(reply)
    return reply
