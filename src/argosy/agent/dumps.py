"""The agent's part in exports and imports: the server's dump as an answer, and a request's body into the server."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import suppress
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
_REMEMBERED = 20
_PLAIN = [(b"content-type", b"application/json")]
_JSON = [*_PLAIN, (b"connection", b"close")]
_BINARY = [(b"content-type", b"application/octet-stream")]


class DumpRoutes:
    """Two exports at a time, and one import: more would only be in each other's way."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._exports = threading.Semaphore(_EXPORTS_AT_ONCE)
        self._import = threading.Semaphore(1)
        self._outcomes: OrderedDict[str, bytes] = OrderedDict()

    async def answer(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        query = parse_qs(scope["query_string"].decode())
        asked = {name: values[0] for name, values in query.items()}
        if scope["method"] == "GET":
            await self._tell_outcome(asked.get("id", ""), send)
            return
        talk = Conversation(receive, send)
        database, table = asked.get("database"), asked.get("table")
        if scope["path"] == EXPORT:
            await talk.run(lambda: self._export(talk, database, table), reads=False)
        else:
            await talk.run(lambda: self._load(talk, asked.get("id", ""), database), reads=True)

    def _export(self, talk: Conversation, database: str | None, table: str | None) -> None:
        _settle(lambda: self._dump(talk, database, table), lambda error: _tell(talk, error))

    def _load(self, talk: Conversation, import_id: str, database: str | None) -> None:
        """A refusal in the middle of an upload would be lost with the connection: it is kept for who asks."""

        def refuse(error: ArgosyError) -> None:
            self._outcomes[import_id] = reply(error)
            while len(self._outcomes) > _REMEMBERED:
                self._outcomes.popitem(last=False)
            for _ in talk.parts():
                pass
            _tell(talk, error)

        with suppress(HungUp):
            _settle(lambda: self._load_now(talk, database), refuse)

    async def _tell_outcome(self, import_id: str, send: Send) -> None:
        """Whether an import under way has failed."""
        refusal = self._outcomes.get(import_id)
        status, body = (200, b"") if refusal is None else (400, refusal)
        await send({"type": "http.response.start", "status": status, "headers": list(_PLAIN)})
        await send({"type": "http.response.body", "body": body})

    def _dump(self, talk: Conversation, database: str | None, table: str | None) -> None:
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

    def _load_now(self, talk: Conversation, database: str | None) -> None:
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


def _settle(work: Callable[[], None], tell: Callable[[ArgosyError], None]) -> None:
    """What went wrong is told, wherever the answer stands."""
    try:
        work()
    except HungUp:
        log.info("a dump's other side hung up")
    except ArgosyError as error:
        tell(error)
    except Exception as error:
        log.exception("dump failed by surprise")
        surprise = Failed("The guest agent failed by surprise: see its log.", code="guest-error")
        tell(out_of_room(error) or surprise)


def _tell(talk: Conversation, error: ArgosyError) -> None:
    if talk.started:
        talk.end(ended(error))
    else:
        talk.start(400, _JSON)
        talk.end(reply(error))
