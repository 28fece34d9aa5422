"""The documented body and status of every failure (contract 4)."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

import structlog
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request

from argosy.api.answers import Json
from argosy.domain.errors import ArgosyError, Kind

log = structlog.get_logger()

REASONS = 10  # told of one request, at most
LONGEST_KEY = 64
LONGEST_PATH = 255

FAULTS: dict[Kind, tuple[int, str]] = {
    Kind.INVALID: (400, "badRequest"),
    Kind.UNAUTHORIZED: (401, "unauthorized"),
    Kind.FORBIDDEN: (403, "forbidden"),
    Kind.NOT_FOUND: (404, "itemNotFound"),
    Kind.CONFLICT: (409, "conflict"),
    Kind.OVER_LIMIT: (413, "overLimit"),
    Kind.BUSY: (422, "unprocessableEntity"),
    Kind.UNSUPPORTED: (501, "notImplemented"),
    Kind.UNAVAILABLE: (503, "serviceUnavailable"),
    Kind.FAILED: (500, "serverError"),
}
NAMES = {406: "notAcceptable", 415: "badMediaType", **dict(FAULTS.values())}


def fault(status: int, message: str, *, code: str | None = None) -> Json:
    """One key named for the fault, one object; `argosy_code` is for programs, beyond Trove's own two fields."""
    body: dict[str, Any] = {"code": status, "message": message}
    if code is not None:
        body["argosy_code"] = code
    return Json({NAMES.get(status, "instanceFault"): body}, status)


async def of_ours(_request: Request, error: Exception) -> Json:
    assert isinstance(error, ArgosyError)  # noqa: S101 - registered for nothing else
    status, _ = FAULTS[error.kind]
    return fault(status, error.sentence, code=error.code)


async def of_validation(_request: Request, error: Exception) -> Json:
    """Each offending element by its path, with the reason; what was sent is not repeated, it may be a password."""
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for nothing else
    reasons = dict.fromkeys(
        f"{path_of(one['loc'])}: {one['msg'].removeprefix('Value error, ')}" for one in error.errors()
    )
    told = list(reasons)[:REASONS]
    if len(reasons) > REASONS:
        told.append(f"and {len(reasons) - REASONS} more")
    return fault(400, f"Validation error: {'; '.join(told)}", code="invalid")


def path_of(location: Sequence[Any]) -> str:
    """A body's place as a path: instance.volume.size, instance.users[0].name."""
    path = ""
    for part in location:
        path += f"[{part}]" if isinstance(part, int) else f".{str(part)[:LONGEST_KEY]}"
    return path.lstrip(".") or "body"


async def of_http(request: Request, error: Exception) -> Json:
    """What the framework refuses. An unknown path and a known one with another method are both not found."""
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for nothing else
    if error.status_code in {404, 405}:
        return fault(404, f"The resource {request.method} {request.url.path[:LONGEST_PATH]} does not exist.")
    return fault(error.status_code, str(error.detail))


async def of_surprise(request: Request, error: Exception) -> Json:
    """What we did not foresee: the reason goes to the log under the number the client is told."""
    number = str(uuid.uuid4())
    log.error(
        "request failed by surprise",
        number=number,
        path=request.url.path,
        method=request.method,
        exc_info=error,
    )
    return fault(
        500, f"The request failed by surprise; an operator finds the reason in the log under {number}."
    )
