"""/swift/v1/AUTH_{project}: the part of Swift's API that its clients and Trove's need, streaming both ways.

Plain ASGI: bodies of any size pass through in parts, which the routes of the database API have no use for.
The caller is known and of the project already. Refusals are plain text, as Swift's are.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any
from urllib.parse import quote

import structlog
from starlette.concurrency import run_in_threadpool
from starlette.types import Receive, Scope, Send

from argosy.api.objectstore import names
from argosy.api.objectstore.names import Asked, NoSuchPath, Where
from argosy.domain.errors import ArgosyError, Forbidden, Invalid, Kind
from argosy.domain.identity import Caller
from argosy.identity.policy import Policy
from argosy.storage.base import (
    LISTED_AT_ONCE,
    OBJECT_MAX,
    Content,
    Listed,
    ObjectNotFound,
    ObjectStore,
    ObjectTooLarge,
    StoredObject,
    StoreFull,
    Writing,
)

log = structlog.get_logger()

_STATUS = {
    Kind.INVALID: 400,
    Kind.UNAUTHORIZED: 401,
    Kind.FORBIDDEN: 403,
    Kind.NOT_FOUND: 404,
    Kind.CONFLICT: 409,
    Kind.OVER_LIMIT: 413,
    Kind.UNSUPPORTED: 501,
    Kind.UNAVAILABLE: 503,
}
_AT_ONCE = 256 * 1024
_READS = {"GET", "HEAD"}
# What these ask for would silently not be done.
_UNKNOWN = ("x-copy-from", "x-object-manifest", "x-symlink-target")


class _HungUp(Exception):
    """The client is gone."""


@dataclass
class _Answer:
    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    content: Iterator[bytes] | None = None
    closes: ExitStack | None = None


class ObjectStoreApi:
    """Answers for one store. `policy` says who may read and who may write."""

    def __init__(self, store: ObjectStore, policy: Policy) -> None:
        self._store = store
        self._policy = policy

    async def __call__(self, scope: Scope, receive: Receive, send: Send, caller: Caller) -> None:
        try:
            answer = await self._answer(scope, receive, caller)
        except _HungUp:
            return
        await _send(answer, scope["method"], send)

    async def _answer(self, scope: Scope, receive: Receive, caller: Caller) -> _Answer:
        try:
            place = names.where(scope.get("raw_path") or quote(scope["path"]).encode())
            asked = Asked(scope["headers"], scope["query_string"])
            return await self._route(place, asked, scope["method"], receive, caller)
        except NoSuchPath:
            return _refusal(404, "The resource does not exist.")
        except _Refused as refused:
            return refused.answer
        except ArgosyError as error:
            status = 507 if isinstance(error, StoreFull) else _STATUS.get(error.kind, 500)
            return _refusal(422 if error.code == "digest-differs" else status, error.sentence)
        except _HungUp:
            raise
        except Exception:
            log.exception("object store failed by surprise", method=scope["method"])
            return _refusal(500, "It failed by surprise: an operator finds the reason in the log.")

    async def _route(
        self, place: Where, asked: Asked, method: str, receive: Receive, caller: Caller
    ) -> _Answer:
        if caller.project_id != place.project_id:
            raise Forbidden("The token is not for the project of this account: use its own project.")
        target = {"project_id": place.project_id}
        self._policy.allow(caller, f"object_store:{'read' if method in _READS else 'write'}", target)
        if place.container is None:
            answers: dict[str, Callable[[Where, Asked], _Answer]] = {
                "GET": self._list_containers,
                "HEAD": self._show_account,
            }
        elif place.name is None:
            answers = {
                "GET": self._list_objects,
                "HEAD": self._show_container,
                "PUT": self._make_container,
                "POST": self._change_container,
                "DELETE": self._delete_container,
            }
        else:
            if method == "PUT":
                return await self._put(place, place.container, place.name, asked, receive)
            answers = {
                "GET": self._get,
                "HEAD": self._head,
                "POST": self._change,
                "DELETE": self._delete,
            }
        if method not in answers:
            allowed = ", ".join(sorted(answers))
            return _refusal(405, f"{method} is not for this resource.", {"Allow": allowed})
        return await run_in_threadpool(answers[method], place, asked)

    # Accounts

    def _account(self, place: Where) -> dict[str, str]:
        containers, objects, size = self._store.usage(place.project_id)
        return {
            "X-Account-Container-Count": str(containers),
            "X-Account-Object-Count": str(objects),
            "X-Account-Bytes-Used": str(size),
        }

    def _show_account(self, place: Where, _asked: Asked) -> _Answer:
        return _Answer(204, self._account(place))

    def _list_containers(self, place: Where, asked: Asked) -> _Answer:
        limit, end = asked.limit(LISTED_AT_ONCE), asked.asks("end_marker")
        found = (
            self._store.containers(
                place.project_id, prefix=asked.asks("prefix"), after=asked.asks("marker"), limit=limit
            )
            if limit
            else []
        )
        lines = [
            {
                "name": one.name,
                "count": one.objects,
                "bytes": one.bytes,
                "last_modified": one.created_at.strftime("%Y-%m-%dT%H:%M:%S.%f"),
            }
            for one in found
            if not end or one.name < end
        ]
        return _listing(asked, lines, self._account(place))

    # Containers

    def _container(self, place: Where) -> dict[str, str]:
        found = self._store.container(place.project_id, place.container or "")
        return {
            "X-Container-Object-Count": str(found.objects),
            "X-Container-Bytes-Used": str(found.bytes),
            "X-Timestamp": f"{found.created_at.timestamp():.5f}",
            "Accept-Ranges": "bytes",
            **{f"X-Container-Meta-{name.title()}": value for name, value in found.metadata.items()},
        }

    def _show_container(self, place: Where, _asked: Asked) -> _Answer:
        return _Answer(204, self._container(place))

    def _list_objects(self, place: Where, asked: Asked) -> _Answer:
        headers = self._container(place)
        limit, end = asked.limit(LISTED_AT_ONCE), asked.asks("end_marker")
        prefix, delimiter = asked.asks("prefix"), asked.asks("delimiter")
        found = (
            self._store.objects(
                place.project_id,
                place.container or "",
                prefix=prefix,
                delimiter=delimiter,
                after=asked.asks("marker"),
                limit=limit,
            )
            if limit
            else []
        )
        lines = [_line(one) for one in found]
        lines = [one for one in lines if not end or (one.get("name") or one["subdir"]) < end]
        return _listing(asked, lines, headers)

    def _make_container(self, place: Where, asked: Asked) -> _Answer:
        is_new = self._store.create_container(
            place.project_id, place.container or "", asked.container_changes()
        )
        return _Answer(201 if is_new else 202)

    def _change_container(self, place: Where, asked: Asked) -> _Answer:
        self._store.container(place.project_id, place.container or "")
        self._store.create_container(place.project_id, place.container or "", asked.container_changes())
        return _Answer(204)

    def _delete_container(self, place: Where, _asked: Asked) -> _Answer:
        self._store.delete_container(place.project_id, place.container or "")
        return _Answer(204)

    # Objects

    def _head(self, place: Where, asked: Asked) -> _Answer:
        stored = self._store.stored(place.project_id, place.container or "", place.name or "")
        _check_conditions(asked, stored)
        return _Answer(200, {**_headers_of(stored), "Content-Length": str(stored.size)})

    def _get(self, place: Where, asked: Asked) -> _Answer:
        with ExitStack() as stack:
            opened: Content = stack.enter_context(
                self._store.open(place.project_id, place.container or "", place.name or "")
            )
            stored = opened.stored
            _check_conditions(asked, stored)
            headers = _headers_of(stored)
            try:
                part = names.span(asked.headers.get("range"), stored.size)
            except LookupError:
                return _refusal(
                    416, "The object has no such bytes.", {"Content-Range": f"bytes */{stored.size}"}
                )
            start, end = part or (0, stored.size)
            headers["Content-Length"] = str(end - start)
            if part:
                headers["Content-Range"] = f"bytes {start}-{end - 1}/{stored.size}"
            return _Answer(
                206 if part else 200, headers, content=opened.read(start, end), closes=stack.pop_all()
            )

    async def _put(self, place: Where, container: str, name: str, asked: Asked, receive: Receive) -> _Answer:
        _refuse_unknown(asked)
        length = asked.headers.get("content-length")
        if length is None and "chunked" not in asked.headers.get("transfer-encoding", "").lower():
            return _refusal(411, "An upload needs a Content-Length, or Transfer-Encoding: chunked.")
        if length is not None and length.isdigit() and int(length) > OBJECT_MAX:
            raise ObjectTooLarge(most=OBJECT_MAX)
        if asked.headers.get("if-none-match") == "*" and await run_in_threadpool(
            self._is_there, place.project_id, container, name
        ):
            return _refusal(412, "There is an object of this name already.")
        stack = ExitStack()
        try:
            writing: Writing = await run_in_threadpool(
                stack.enter_context,
                self._store.writing(
                    place.project_id,
                    container,
                    name,
                    content_type=asked.headers.get("content-type") or "application/octet-stream",
                    metadata=asked.metadata("object"),
                    expires_at=asked.expiry(),
                    digest=asked.headers.get("etag"),
                ),
            )
            async for part in _parts(receive):
                await run_in_threadpool(writing.write, part)
            stored = await run_in_threadpool(writing.finish)
        finally:
            await run_in_threadpool(stack.close)
        return _Answer(201, {"ETag": stored.digest, "Last-Modified": _http_date(stored)})

    def _is_there(self, account: str, container: str, name: str) -> bool:
        try:
            self._store.stored(account, container, name)
        except ObjectNotFound:
            return False
        return True

    def _change(self, place: Where, asked: Asked) -> _Answer:
        _refuse_unknown(asked)
        self._store.change(
            place.project_id,
            place.container or "",
            place.name or "",
            metadata=asked.metadata("object"),
            expires_at=asked.expiry(),
            content_type=asked.headers.get("content-type"),
        )
        return _Answer(202)

    def _delete(self, place: Where, _asked: Asked) -> _Answer:
        self._store.delete(place.project_id, place.container or "", place.name or "")
        return _Answer(204)


class _Refused(Exception):
    def __init__(self, answer: _Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


def _check_conditions(asked: Asked, stored: StoredObject) -> None:
    if "if-match" in asked.headers and not names.matches(asked.headers["if-match"], stored.digest):
        raise _Refused(_refusal(412, "The object is another one by now."))
    if "if-none-match" in asked.headers and names.matches(asked.headers["if-none-match"], stored.digest):
        raise _Refused(_Answer(304, {"ETag": stored.digest}))


def _refuse_unknown(asked: Asked) -> None:
    for header in _UNKNOWN:
        if header in asked.headers:
            raise _Refused(_refusal(501, f"This store does not know {header}."))


def _headers_of(stored: StoredObject) -> dict[str, str]:
    headers = {
        "Content-Type": stored.content_type,
        "ETag": stored.digest,
        "Last-Modified": _http_date(stored),
        "X-Timestamp": f"{stored.modified_at.timestamp():.5f}",
        "Accept-Ranges": "bytes",
    }
    if stored.expires_at is not None:
        headers["X-Delete-At"] = str(int(stored.expires_at.timestamp()))
    # What a user stored must not act as a page of this site.
    headers["X-Content-Type-Options"] = "nosniff"
    headers["Content-Security-Policy"] = "sandbox"
    return headers | {f"X-Object-Meta-{name.title()}": value for name, value in stored.metadata.items()}


def _http_date(stored: StoredObject) -> str:
    # Whole seconds: rounded up, so that a later change is never taken for none.
    return formatdate(math.ceil(stored.modified_at.timestamp()), usegmt=True)


def _line(listed: Listed) -> dict[str, Any]:
    if listed.stored is None:
        return {"subdir": listed.common}
    stored = listed.stored
    return {
        "name": stored.name,
        "hash": stored.digest,
        "bytes": stored.size,
        "content_type": stored.content_type,
        "last_modified": stored.modified_at.strftime("%Y-%m-%dT%H:%M:%S.%f"),
    }


def _listing(asked: Asked, lines: list[dict[str, Any]], headers: Mapping[str, str]) -> _Answer:
    if asked.as_json:
        body = json.dumps(lines).encode()
        return _Answer(200, {**headers, "Content-Type": "application/json; charset=utf-8"}, body)
    body = "".join(f"{line.get('name') or line['subdir']}\n" for line in lines).encode()
    return _Answer(200 if body else 204, {**headers, "Content-Type": "text/plain; charset=utf-8"}, body)


def _refusal(status: int, sentence: str, headers: Mapping[str, str] | None = None) -> _Answer:
    return _Answer(
        status, {"Content-Type": "text/plain; charset=utf-8", **(headers or {})}, f"{sentence}\n".encode()
    )


async def _parts(receive: Receive) -> Any:
    """The body, in parts worth a write each. Raises _HungUp, Invalid."""
    held: list[bytes] = []
    size = 0
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _HungUp
        if message["type"] != "http.request":
            raise Invalid("The upload was cut off.")
        part = message.get("body", b"")
        held.append(part)
        size += len(part)
        more = message.get("more_body", False)
        if size >= _AT_ONCE:
            yield b"".join(held)
            held, size = [], 0
    if size:
        yield b"".join(held)


async def _send(answer: _Answer, method: str, send: Send) -> None:
    headers = dict(answer.headers)
    if "Content-Length" not in headers and answer.status not in {204, 304}:
        headers["Content-Length"] = str(len(answer.body))
    try:
        await send(
            {
                "type": "http.response.start",
                "status": answer.status,
                "headers": names.header_lines(headers),
            }
        )
        if answer.content is not None and method != "HEAD":
            for_reading = answer.content
            while (part := await run_in_threadpool(next, for_reading, b"")) != b"":
                await send({"type": "http.response.body", "body": part, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        else:
            body = b"" if method == "HEAD" or answer.status in {204, 304} else answer.body
            await send({"type": "http.response.body", "body": body})
    finally:
        if answer.closes is not None:
            await run_in_threadpool(answer.closes.close)
