"""How guests get at the store that backups are in: URLs for what they are granted, and, of the directory store, the objects."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from argosy.domain.errors import ArgosyError, Forbidden, Invalid, NotFound, OverLimit
from argosy.metadata.store import Store
from argosy.rpc import peers, urls
from argosy.rpc.server import PEER
from argosy.storage.backup_directory import OBJECTS, DirectoryBackups, failure
from argosy.storage.backups import BackupStore
from argosy.storage.base import StoreFull, check_object_name

log = structlog.get_logger()

_STATUS: dict[type[ArgosyError], int] = {
    Forbidden: 403,
    NotFound: 404,
    Invalid: 400,
    OverLimit: 413,
    StoreFull: 507,
}


def add_routes(app: FastAPI, store: Store, backups: BackupStore) -> None:
    @app.post(urls.PATH)
    def sign(request: Request, body: urls.UrlsWanted) -> Response:
        """Sign what lies below a prefix that this guest is granted, and nothing else."""
        peer = request.scope.get("extensions", {}).get(PEER)
        if peer != peers.guest(body.instance_id):
            log.warning("urls refused", peer=peer, instance_id=body.instance_id)
            return Response("a guest asks for its own instance only", 403)
        if not 1 <= len(body.names) <= urls.AT_ONCE:
            return Response(f"names must be 1 to {urls.AT_ONCE}", 400)
        try:
            for name in body.names:
                check_object_name(name)
        except Invalid as error:
            return Response(error.sentence, 400)
        with store.read() as tx:
            granted = tx.grants.prefixes(body.instance_id, body.container, body.method)
        until = datetime.now(UTC) + timedelta(seconds=urls.VALID_S)
        named = []
        for name in body.names:
            prefix = next((one for one in granted if name.startswith(one)), None)
            if prefix is None:
                log.warning("urls refused", instance_id=body.instance_id, method=body.method, name=name)
                return Response("this guest is not granted that", 403)
            named.append((name, prefix))
        try:
            signed = [
                backups.sign(body.method, body.container, name, prefix=prefix, until=until)
                for name, prefix in named
            ]
        except ArgosyError as error:
            # Whatever keeps us from signing is ours to mend, and no refusal of this guest.
            log.warning("urls cannot be signed", error=error.sentence)
            return Response(error.sentence, 503)
        answer = urls.Urls(
            urls=signed, by_conductor=isinstance(backups, DirectoryBackups), authority=backups.authority
        )
        return Response(answer.model_dump_json(), media_type="application/json")

    if isinstance(backups, DirectoryBackups):
        _serve(app, store, backups)


def _serve(app: FastAPI, store: Store, backups: DirectoryBackups) -> None:
    @app.put(OBJECTS + "{path:path}")
    async def put_object(request: Request) -> Response:
        """Write an object by its URL: whole or not at all."""
        stack = ExitStack()
        size = 0
        try:
            container, name = await run_in_threadpool(_named, request, store, backups)
            writing = await run_in_threadpool(stack.enter_context, backups.writing(container, name))
            async for part in request.stream():
                size += len(part)
                await run_in_threadpool(writing.write, part)
            if size != int(request.headers.get("content-length", size)):
                return Response("the upload was cut off", 400)
            await run_in_threadpool(writing.finish)
        except (ArgosyError, OSError, sqlite3.Error) as error:
            return _refusal(error)
        except ClientDisconnect:
            return Response("the upload was cut off", 400)  # nobody reads it
        finally:
            await run_in_threadpool(stack.close)
        return Response(status_code=201)

    @app.get(OBJECTS + "{path:path}")
    def get_object(request: Request) -> Response:
        try:
            parts = backups.read(*_named(request, store, backups))
            first = next(parts, b"")
        except (ArgosyError, OSError, sqlite3.Error) as error:
            return _refusal(error)

        def content() -> Iterator[bytes]:
            yield first
            yield from parts

        return StreamingResponse(content(), media_type="application/octet-stream")


def _named(request: Request, store: Store, backups: DirectoryBackups) -> tuple[str, str]:
    """By the path as it was sent: names may hold quoted slashes. Raises Forbidden.

    A URL outlives the grant that it was signed for by some minutes; here it does not, so that nothing is written any
    more below the prefix of a backup that was deleted.
    """
    sent = request.scope["raw_path"].decode("ascii", "replace").partition("?")[0]
    container, name = backups.allowed(request.method, sent.removeprefix(OBJECTS), request.url.query)
    peer = request.scope.get("extensions", {}).get(PEER)
    with store.read() as tx:
        granted = tx.grants.prefixes(peers.instance(peer) or "", container, request.method)
    if not any(name.startswith(prefix) for prefix in granted):
        log.warning("object refused", peer=peer, method=request.method, name=name)
        raise Forbidden("This guest is not granted that any more.")
    return container, name


def _refusal(error: ArgosyError | OSError | sqlite3.Error) -> Response:
    if not isinstance(error, ArgosyError):
        log.error("the directory of backups fails", error=str(error))
        error = failure(error)
    status = next((status for kind, status in _STATUS.items() if isinstance(error, kind)), 503)
    return Response(error.sentence, status)
