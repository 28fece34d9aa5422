"""Errors as Keystone words them: `{"error": {"code", "title", "message"}}`, which its clients read."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import Any, ClassVar

from fastapi import HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException as StarletteHTTPException
from starlette.types import Message, Receive

from argosy.domain.errors import ArgosyError, Kind

LONGEST_BODY = 112 * 1024  # Keystone's own bound

_STATUS = {
    Kind.INVALID: HTTPStatus.BAD_REQUEST,
    Kind.UNAUTHORIZED: HTTPStatus.UNAUTHORIZED,
    Kind.FORBIDDEN: HTTPStatus.FORBIDDEN,
    Kind.NOT_FOUND: HTTPStatus.NOT_FOUND,
    Kind.CONFLICT: HTTPStatus.CONFLICT,
    Kind.UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
}


class KeystoneRoute(APIRoute):
    """A route whose failures are worded as Keystone's, whatever the application around it does."""

    public_url: ClassVar[str | None] = None

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def worded(request: Request) -> Response:
            try:
                return await handle(Request(request.scope, _bounded(request.receive)))
            except ArgosyError as error:
                status = _STATUS.get(error.kind, HTTPStatus.INTERNAL_SERVER_ERROR)
                response = fault(status, error.sentence)
                if status == HTTPStatus.UNAUTHORIZED:
                    base = self.public_url or base_url(request)
                    response.headers["WWW-Authenticate"] = f'Keystone uri="{base}/identity/v3"'
                return response
            except RequestValidationError as error:
                return fault(HTTPStatus.BAD_REQUEST, _what_is_wrong(error))
            except StarletteHTTPException as error:
                return fault(HTTPStatus(error.status_code), str(error.detail))

        return worded


def fault(status: HTTPStatus, message: str) -> JSONResponse:
    return JSONResponse({"error": {"code": status.value, "title": status.phrase, "message": message}}, status)


def base_url(request: Request) -> str:
    """The scheme and host the request was addressed to, without a trailing slash."""
    host = request.headers.get("host", "")
    if not host or not all(character.isalnum() or character in ".-_:[]" for character in host):
        address, port = request.scope.get("server") or ("localhost", None)
        host = f"{address}:{port}" if port else address
    return f"{request.scope['scheme']}://{host}"


def _bounded(receive: Receive) -> Receive:
    size = 0

    async def bounded() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > LONGEST_BODY:
            raise HTTPException(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"A body may have {LONGEST_BODY} bytes at most."
            )
        return message

    return bounded


def _what_is_wrong(error: RequestValidationError) -> str:
    # What was sent stays out of the sentence: it may be a password.
    found = [f"{'.'.join(str(part) for part in each['loc'])}: {each['msg']}" for each in error.errors()[:5]]
    return "Validation error: " + "; ".join(found)
