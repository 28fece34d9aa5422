"""How guests get at the store that backups are in: URLs for what they are granted, and, of the directory store, the objects."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from argosy.domain.errors import ArgosyError, Forbidden, NotFound
from argosy.metadata.store import Store
from argosy.rpc import peers, urls
from argosy.rpc.server import PEER
from argosy.storage.backup_directory import OBJECTS, DirectoryBackups
from argosy.storage.backups import BackupStore
from argosy.storage.base import OBJECT_MAX, StoreFull

log = structlog.get_logger()


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
        with store.read() as tx:
            granted = tx.grants.prefixes(body.instance_id, body.container, body.method)
        until = datetime.now(UTC) + timedelta(seconds=urls.VALID_S)
        signed = []
        for name in body.names:
            prefix = next((one for one in granted if name.startswith(one)), None)
            if prefix is None:
                log.warning("urls refused", instance_id=body.instance_id, method=body.method, name=name)
                return Response("this guest is not granted that", 403)
            signed.append(backups.sign(body.method, body.container, name, prefix=prefix, until=until))
        answer = urls.Urls(urls=signed, by_conductor=isinstance(backups, DirectoryBackups))
        return Response(answer.model_dump_json(), media_type="application/json")

    if isinstance(backups, DirectoryBackups):
        _serve(app, backups)


def _serve(app: FastAPI, backups: DirectoryBackups) -> None:
    @app.put(OBJECTS + "{path:path}")
    async def put_object(request: Request) -> Response:
        """Write an object by its URL: whole or not at all."""
        stack = ExitStack()
        size = 0
        try:
            container, name = _named(request, backups)
            writing = await run_in_threadpool(stack.enter_context, backups.writing(container, name))
            async for part in request.stream():
                size += len(part)
                if size > OBJECT_MAX:
                    return Response(f"an object may have {OBJECT_MAX} bytes at most", 413)
                await run_in_threadpool(writing.write, part)
            if size != int(request.headers.get("content-length", size)):
                return Response("the upload was cut off", 400)
            await run_in_threadpool(writing.finish)
        except (ArgosyError, OSError) as error:
            return _refusal(error)
        except ClientDisconnect:
            return Response("the upload was cut off", 400)  # nobody reads it
        finally:
            await run_in_threadpool(stack.close)
        return Response(status_code=201)

    @app.get(OBJECTS + "{path:path}")
    def get_object(request: Request) -> Response:
        try:
            parts = backups.read(*_named(request, backups))
            first = next(parts, b"")
        except (ArgosyError, OSError) as error:
            return _refusal(error)

        def content() -> Iterator[bytes]:
            yield first
            yield from parts

        return StreamingResponse(content(), media_type="application/octet-stream")


def _named(request: Request, backups: DirectoryBackups) -> tuple[str, str]:
    """By the path as it was sent: names may hold quoted slashes. Raises Forbidden."""
    sent = request.scope["raw_path"].decode("ascii", "replace").partition("?")[0]
    return backups.allowed(request.method, sent.removeprefix(OBJECTS), request.url.query)


def _refusal(error: ArgosyError | OSError) -> Response:
    if isinstance(error, OSError):
        log.error("the directory of backups fails", error=str(error))
        full = error.errno in {errno.ENOSPC, errno.EDQUOT}
        return Response(f"the directory of backups fails: {error.strerror}", 507 if full else 503)
    status = 403 if isinstance(error, Forbidden) else 404 if isinstance(error, NotFound) else 503
    return Response(error.sentence, 507 if isinstance(error, StoreFull) else status)
