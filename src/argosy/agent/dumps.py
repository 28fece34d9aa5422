"""The agent's part in exports and imports: the server's dump as an answer, and a request's body into the server."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, MutableMapping
from typing import Any
from urllib.parse import parse_qs

from argosy.agent.volume import out_of_room
from argosy.domain.errors import ArgosyError, Busy, Failed, Unsupported
from argosy.engines.backups import Dumps
from argosy.engines.base import Engine
from argosy.rpc.conversation import Conversation, HungUp, Receive, Send
from argosy.rpc.dumps import EXPORT, IMPORT, Loaded, ended, framed, reply

log = logging.getLogger(__name__)

PATHS = frozenset({EXPORT, IMPORT})
_EXPORTS_AT_ONCE = 2
# After a refusal the rest of an upload is not read: the connection is of no use any more.
_JSON = [(b"content-type", b"application/json"), (b"connection", b"close")]
_BINARY = [(b"content-type", b"application/octet-stream")]


class DumpRoutes:
    """Two exports at a time, and one import: more would only be in each other's way."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._exports = threading.Semaphore(_EXPORTS_AT_ONCE)
        self._import = threading.Semaphore(1)

    async def answer(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        asked = {name: values[0] for name, values in parse_qs(scope["query_string"].decode()).items()}
        talk = Conversation(receive, send)
        database, table = asked.get("database"), asked.get("table")
        if scope["path"] == EXPORT:
            await talk.run(
                lambda: self._settle(talk, lambda: self._export(talk, database, table)), reads=False
            )
        else:
            await talk.run(lambda: self._settle(talk, lambda: self._load(talk, database)), reads=True)

    def _export(self, talk: Conversation, database: str | None, table: str | None) -> None:
        if not self._exports.acquire(blocking=False):
            raise Busy("Two exports of this instance are under way: try again when one is done.")

        def write(part: bytes) -> None:
            if not talk.started:
                talk.start(200, _BINARY)
            talk.write(framed(part))

        try:
            self._dumps.dump(write, database, table)
        finally:
            self._exports.release()
        if not talk.started:
            talk.start(200, _BINARY)
        talk.end(ended(None))

    def _load(self, talk: Conversation, database: str | None) -> None:
        if not self._import.acquire(blocking=False):
            raise Busy("An import into this instance is under way: try again when it is done.")
        size = 0

        def counted() -> Iterator[bytes]:
            nonlocal size
            for part in talk.parts():
                size += len(part)
                yield part

        try:
            remarks = self._dumps.load_dump(counted(), database)
        finally:
            self._import.release()
        talk.start(200, _JSON)
        talk.end(Loaded(size_bytes=size, remarks=remarks).model_dump_json().encode())

    @property
    def _dumps(self) -> Dumps:
        if not isinstance(self._engine, Dumps):
            raise Unsupported("This datastore has no dumps.")
        return self._engine

    def _settle(self, talk: Conversation, work: Callable[[], None]) -> None:
        """What went wrong is told, wherever the answer stands."""
        try:
            work()
        except HungUp:
            log.info("a dump's other side hung up")
        except ArgosyError as error:
            self._tell(talk, error)
        except Exception as error:
            log.exception("dump failed by surprise")
            surprise = Failed("The guest agent failed by surprise: see its log.", code="guest-error")
            self._tell(talk, out_of_room(error) or surprise)

    def _tell(self, talk: Conversation, error: ArgosyError) -> None:
        if talk.started:
            talk.end(ended(error))
        else:
            talk.start(400, _JSON)
            talk.end(reply(error))
