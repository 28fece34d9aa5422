"""How a route is called and answers: checked body in, plain JSON out.

FastAPI reads the signatures and writes the OpenAPI document from them. At run time its own way of calling
them, by resolving dependencies and serialising models, would cost more than our routes do themselves.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar, get_type_hints

from fastapi import APIRouter
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel, TypeAdapter, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from argosy.api.answers import Json
from argosy.api.call import Call

ABOVE = "/v1.0/{project_id}"

Model = TypeVar("Model", bound=BaseModel)


class Fault(BaseModel):
    """What is wrong: one key named for the fault, such as itemNotFound, and in it `code` and `message`."""

    code: int
    message: str
    argosy_code: str | None = None


FAULTS = {
    400: "badRequest: the request cannot be right",
    401: "unauthorized: no token, or one that is worth nothing (any more)",
    403: "forbidden: the token is of another project, or its roles may not do this",
    404: "itemNotFound: it does not exist, or not for you",
    409: "conflict",
    413: "overLimit: too large, or above a quota",
    415: "badMediaType: a body must be application/json",
    422: "unprocessableEntity: right, but not in this state",
    500: "serverError or instanceFault: it went wrong behind the API",
    501: "notImplemented: this datastore, or this release, cannot do it",
    503: "serviceUnavailable: a part that is needed does not answer, try again",
}
_ALWAYS = (401, 403, 500)


def faults(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The failures of a route for its documentation: those of every route, and these."""
    told: dict[int | str, str] = {status: FAULTS[status] for status in sorted({*_ALWAYS, *statuses})}
    # FastAPI documents a 422 of its own, which no route gives, where there is no default.
    told["default"] = "any other failure"
    return {
        status: {"model": dict[str, Fault], "description": description}
        for status, description in told.items()
    }


class _Body(Generic[Model]):
    """Reads a route's body into its model; without one, and for a body that is not there, its default."""

    def __init__(self, parameter: inspect.Parameter, annotation: Any) -> None:
        self._adapter: TypeAdapter[Any] = TypeAdapter(annotation)
        self._parameter = parameter

    def read(self, raw: bytes) -> Any:
        """Raises RequestValidationError."""
        if not raw.strip() and self._parameter.default is not inspect.Parameter.empty:
            return self._parameter.default
        try:
            return self._adapter.validate_json(raw or b"{}")
        except ValidationError as error:
            # What was sent is left out from here on: it may be a password.
            raise RequestValidationError(
                error.errors(include_input=False, include_url=False, include_context=False)
            ) from None


class Route(APIRoute):
    """Runs its function in a thread, with the Call, the path's parameters and the body; what it returns is the JSON.

    The function returns None for an answer without content, and an answer of another kind as it is.
    """

    def __init__(self, path: str, endpoint: Callable[..., Any], **more: Any) -> None:
        if get_type_hints(endpoint).get("return") is type(None):
            # So that the document promises no content where there is none.
            more["response_class"] = Response
        super().__init__(path, endpoint, **more)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        endpoint = self.endpoint
        status = self.status_code or 200
        parameter = inspect.signature(endpoint).parameters.get("body")
        body: _Body[Any] | None = None
        if parameter is not None:
            body = _Body(parameter, get_type_hints(endpoint, include_extras=True)["body"])

        async def handle(request: Request) -> Response:
            given = dict(request.path_params)
            call = Call(request, given.pop("project_id"))
            if body is not None:
                given["body"] = body.read(await request.body())
            answer = await run_in_threadpool(endpoint, call, **given)
            if isinstance(answer, Response):
                return answer
            return Response(status_code=status) if answer is None else Json(answer, status)

        return handle


def resource(tag: str) -> APIRouter:
    """A router for the routes of one resource below /v1.0/{project_id}."""
    return APIRouter(prefix=ABOVE, route_class=Route, tags=[tag])
