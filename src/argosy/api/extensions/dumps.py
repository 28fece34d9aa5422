"""/instances/{id}/export and /import: databases as logical dumps, streamed to and from the client or its object store."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Annotated
from urllib.parse import quote

import structlog
from pydantic import BaseModel, Field, StrictStr
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from argosy.api.answers import Json
from argosy.api.call import Asked, Call
from argosy.api.faults import FAULTS, fault
from argosy.api.route import faults, resource
from argosy.api.v1.bodies import Body
from argosy.domain.errors import ArgosyError, Failed, Invalid, Unavailable
from argosy.domain.instance import Instance
from argosy.rpc.conversation import Conversation, HungUp
from argosy.storage.base import check_container_name, check_object_name, put

log = structlog.get_logger()

router = resource("export and import")

_AT_ONCE = 16  # in this process
_NAME_MAX = 255
_turns = threading.BoundedSemaphore(_AT_ONCE)
_DUMP = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}

ObjectName = Annotated[StrictStr, Field(min_length=1, max_length=1024)]


class ObjectBody(Body):
    """An object of the project's account in the object store."""

    container: Annotated[StrictStr, Field(min_length=1, max_length=256)]
    name: ObjectName


class ExportBody(Body):
    database: Annotated[StrictStr, Field(min_length=1, max_length=_NAME_MAX)] | None = None
    table: Annotated[StrictStr, Field(min_length=1, max_length=_NAME_MAX)] | None = None
    object: ObjectBody


class ExportAsked(Body):
    export: ExportBody


class ImportBody(Body):
    database: Annotated[StrictStr, Field(min_length=1, max_length=_NAME_MAX)] | None = None
    object: ObjectBody


class ImportAsked(Body):
    """`import` is a word of Python's."""

    from_store: ImportBody = Field(alias="import")


class Export(BaseModel):
    container: str
    name: str
    size: int
    etag: str


class ShownExport(BaseModel):
    export: Export


class Import(BaseModel):
    """`size` of the dump in bytes; `remarks` say what of it was left out."""

    size: int
    remarks: list[str]


class ShownImport(BaseModel):
    shown: Import = Field(alias="import")


@router.get(
    "/instances/{instance_id}/export",
    response_class=Response,
    responses={
        **faults(400, 404, 422, 503),
        200: {"content": _DUMP, "description": "The dump. Cut off, it is not whole: the events say why."},
    },
    openapi_extra={
        "parameters": [
            {"name": name, "in": "query", "required": False, "schema": {"type": "string"}}
            for name in ("database", "table")
        ]
    },
)
def export(call: Asked, instance_id: str) -> Response:
    """A database, or one table of it, in the datastore's own form of dump."""
    call.allow("instance:export")
    instance, _ = call.serving(instance_id, "dumps")
    work = _Work(call, "export", instance, _name(call, "database"), _name(call, "table"))
    return _Streamed(work, work.send)


@router.post(
    "/instances/{instance_id}/export",
    response_model=ShownExport,
    responses=faults(400, 404, 413, 415, 422, 503),
)
def export_to_store(call: Asked, instance_id: str, body: ExportAsked) -> Response:
    """The same, into an object of the project; answers when that is there, whole."""
    call.allow("instance:export")
    call.allow("object_store:write")
    _check(body.export.object)
    instance, _ = call.serving(instance_id, "dumps")
    work = _Work(call, "export", instance, body.export.database, body.export.table)
    return _Streamed(work, lambda talk: work.store(talk, body.export.object))


@router.put(
    "/instances/{instance_id}/import",
    response_model=ShownImport,
    responses=faults(400, 404, 422, 503),
    openapi_extra={
        "parameters": [{"name": "database", "in": "query", "required": False, "schema": {"type": "string"}}],
        "requestBody": {"required": True, "content": _DUMP},
    },
)
def import_(call: Asked, instance_id: str) -> Response:
    """Load a dump, which is the request's body, into a database that is there. Answers when it is loaded."""
    call.allow("instance:import")
    instance, _ = call.serving(instance_id, "dumps")
    work = _Work(call, "import", instance, _name(call, "database"))
    return _Streamed(work, lambda talk: work.load(talk, talk.parts()), reads=True)


@router.post(
    "/instances/{instance_id}/import",
    response_model=ShownImport,
    responses=faults(400, 404, 415, 422, 503),
)
def import_from_store(call: Asked, instance_id: str, body: ImportAsked) -> Response:
    """The same, from an object of the project."""
    call.allow("instance:import")
    call.allow("object_store:read")
    place = body.from_store.object
    _check(place)
    instance, _ = call.serving(instance_id, "dumps")
    call.parts.objects.stored(call.project_id, place.container, place.name)
    work = _Work(call, "import", instance, body.from_store.database)

    def load(talk: Conversation) -> None:
        with call.parts.objects.open(call.project_id, place.container, place.name) as content:
            work.load(talk, content.read(0, content.stored.size))

    return _Streamed(work, load)


def _name(call: Call, parameter: str) -> str | None:
    name = call.asks(parameter)
    if name is not None and len(name) > _NAME_MAX:
        raise Invalid(f"Validation error: {parameter} must have {_NAME_MAX} characters at most.")
    return name


def _check(place: ObjectBody) -> None:
    check_container_name(place.container)
    check_object_name(place.name)


class _Work:
    """One dump on its way, and what is told of it."""

    def __init__(
        self, call: Call, verb: str, instance: Instance, database: str | None, table: str | None = None
    ) -> None:
        self._call = call
        self._verb = verb
        self._instance = instance
        self._database = database
        self._table = table

    def send(self, talk: Conversation) -> None:
        """To the client, as the answer; it begins with the first part, so what fails before is a fault."""
        of = self._database or self._instance.name
        safe = re.sub(r"[^\w.-]", "_", of, flags=re.ASCII)
        named = f"attachment; filename=\"{safe}.dump\"; filename*=UTF-8''{quote(of, safe='')}.dump"
        headers = [(b"content-type", b"application/octet-stream"), (b"content-disposition", named.encode())]
        size = 0
        for part in self._parts():
            if not talk.started:
                talk.start(200, headers)
            size += len(part)
            talk.write(part)
        self._note("exported", f"{self._what} was exported, {size} bytes.")
        if not talk.started:
            talk.start(200, headers)
        talk.end()

    def store(self, talk: Conversation, place: ObjectBody) -> None:
        """Into an object, which is there whole or not at all."""
        objects, account = self._call.parts.objects, self._call.project_id
        objects.create_container(account, place.container)
        stored = put(objects, account, place.container, place.name, self._parts())
        self._note(
            "exported", f"{self._what} was exported to {place.container}/{place.name}, {stored.size} bytes."
        )
        told = {"container": place.container, "name": place.name, "size": stored.size, "etag": stored.digest}
        _answer(talk, Json({"export": told}, 200))

    def load(self, talk: Conversation, parts: Iterator[bytes]) -> None:
        guests = self._call.parts.guests
        loaded = guests.load_dump(self._instance.address or "", self._database, parts)
        self._note("imported", f"A dump of {loaded.size_bytes} bytes was loaded into {self._what}.")
        told = {"size": loaded.size_bytes, "remarks": loaded.remarks}
        _answer(talk, Json({"import": told}, 200))

    def failed(self, sentence: str) -> None:
        self._note("failed", f"The {self._verb} of {self._what} failed. {sentence}")

    @property
    def _what(self) -> str:
        what = "the instance" if self._database is None else f"database {self._database!r}"
        return what if self._table is None else f"table {self._table!r} of {what}"

    def _parts(self) -> Iterator[bytes]:
        return self._call.parts.guests.dump(self._instance.address or "", self._database, self._table)

    def _note(self, kind: str, sentence: str) -> None:
        with self._call.write() as tx:
            tx.events.add(
                self._instance.project_id,
                self._instance.id,
                f"dump.{kind}",
                sentence[:1].upper() + sentence[1:],
                self._call.caller.user_name,
            )


class _Streamed(Response):
    """What a route returns that answers in its own time, from a thread of its own."""

    def __init__(self, work: _Work, act: Callable[[Conversation], None], *, reads: bool = False) -> None:
        """`reads` says that the request's body is still to be read."""
        super().__init__()
        self._work = work
        self._act = act
        self._reads = reads

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not _turns.acquire(blocking=False):
            raise Unavailable(
                f"{_AT_ONCE} exports and imports are under way here: try again when one is done."
            )
        try:
            scope.setdefault("state", {})["is_stream"] = True
            talk = Conversation(receive, send)
            await talk.run(lambda: self._settle(talk), reads=self._reads)
        finally:
            _turns.release()

    def _settle(self, talk: Conversation) -> None:
        try:
            self._act(talk)
        except HungUp:
            self._work.failed("The client hung up.")
        except ArgosyError as error:
            # What the database server refuses is the request's fault (contract 4.3).
            is_theirs = error.code == "engine-error"
            self._tell(talk, Invalid(error.sentence, code=error.code) if is_theirs else error)
        except Exception:
            log.exception("dump failed by surprise")
            self._tell(talk, Failed("It failed by surprise: an operator finds the reason in the log."))

    def _tell(self, talk: Conversation, error: ArgosyError) -> None:
        """An answer that has begun is left without its end, by which the client knows."""
        self._work.failed(error.sentence)
        if not talk.started:
            status, _ = FAULTS[error.kind]
            _answer(talk, fault(status, error.sentence, code=error.code))


def _answer(talk: Conversation, answer: Json) -> None:
    with suppress(HungUp):
        # The rest of an upload is not read, so nothing more comes on this connection.
        talk.start(answer.status_code, [*answer.raw_headers, (b"connection", b"close")])
        talk.end(bytes(answer.body))
