"""What every request goes through: a number, who is calling, and the media type.

Plain ASGI: a middleware class of the framework would cost more than the rest of a short request.
"""

from __future__ import annotations

import asyncio
import re
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from prometheus_client import Counter, Histogram
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from argosy.api.faults import fault
from argosy.api.objectstore.app import ObjectStoreApi
from argosy.api.objectstore.names import BELOW
from argosy.domain.errors import ArgosyError, Unauthorized
from argosy.domain.identity import Caller
from argosy.identity.callers import Callers

if TYPE_CHECKING:
    from argosy.api.rates import Rates

MAX_BODY = 1_000_000  # bytes
# Dumps are as large as databases, and nobody but the guest looks into them.
UPLOAD = re.compile(r"/v1\.0/[^/]+/instances/[^/]+/import")
# Who asks is found out by threads of its own, so that a Keystone that does not answer holds up nobody it knows.
ASKING_AT_ONCE = 16
DATABASE, OBJECT_STORE = "database", "object-store"  # our types in a catalog, which access rules name
SCOPED = re.compile(r"/v1\.0/([^/]+)/.")
REQUESTS = Counter(
    "argosy_api_requests_total", "Requests answered, by method and status.", ["method", "status"]
)
SECONDS = Histogram(
    "argosy_api_request_seconds", "Seconds from a request's arrival to its answer.", ["method"]
)


class Wire:
    """Around the application: numbers requests, authenticates those below /v1.0/{project_id}/, bounds bodies."""

    def __init__(
        self,
        app: ASGIApp,
        identity: Callers,
        public_endpoint: str | None,
        rates: Rates | None = None,
        objects: ObjectStoreApi | None = None,
    ) -> None:
        """`objects` answers below /swift/v1/, where bodies are as large as objects are."""
        self._app = app
        self._objects = objects
        self._identity = identity
        self._public_endpoint = public_endpoint
        self._rates = rates
        self._asking = ThreadPoolExecutor(ASKING_AT_ONCE, thread_name_prefix="callers")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        status = 500

        async def numbered(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"].append((b"x-openstack-request-id", b"req-" + str(uuid.uuid4()).encode()))
                if not any(name == b"content-type" for name, _ in message["headers"]):
                    message["headers"].append((b"content-type", b"application/json"))
            await send(message)

        try:
            if self._objects is not None and scope["path"].startswith(BELOW):
                await self._ask_object_store(self._objects, scope, receive, numbered)
                return
            refusal = await self._refuse(scope)
            if refusal is not None:
                await refusal(scope, receive, numbered)
            else:
                await self._app(scope, receive if _is_upload(scope) else _bounded(receive, scope), numbered)
        finally:
            REQUESTS.labels(scope["method"], status).inc()
            if not scope.get("state", {}).get("is_stream"):
                SECONDS.labels(scope["method"]).observe(time.perf_counter() - began)

    async def _refuse(self, scope: Scope) -> Any | None:
        """The answer for a request that goes no further, None for one that does."""
        if "\0" in scope["path"]:
            # No name holds one, and databases cannot be asked about it.
            return fault(404, "The resource does not exist.")
        if b"%00" in scope["query_string"]:
            return fault(400, "Validation error: a query must not hold NUL characters.", code="invalid")
        below = SCOPED.match(scope["path"])
        if below is None:
            return None
        headers = dict(scope["headers"])
        try:
            caller = await self._caller(scope, headers, DATABASE)
        except Unauthorized as error:
            return self._who_are_you(scope, headers, error)
        except ArgosyError as error:
            return fault(503, error.sentence, code=error.code)
        if caller.project_id != below[1]:
            return fault(
                403, f"The token is not for the project {below[1]} of the address: use its own project."
            )
        if self._rates is not None:
            path = scope["path"][below.end() - 1 :]
            too_many = self._rates.refuse(caller.project_id, scope["method"], path)
            if too_many is not None:
                return too_many
        scope.setdefault("state", {})["caller"] = caller
        return None if _is_upload(scope) else _media(scope, headers)

    async def _ask_object_store(
        self, objects: ObjectStoreApi, scope: Scope, receive: Receive, send: Send
    ) -> None:
        headers = dict(scope["headers"])
        refusal: Any
        if "\0" in scope["path"] or b"%00" in scope["query_string"]:
            refusal = fault(400, "Neither path nor query may hold NUL characters.", code="invalid")
        else:
            try:
                caller = await self._caller(scope, headers, OBJECT_STORE)
            except Unauthorized as error:
                refusal = self._who_are_you(scope, headers, error)
            except ArgosyError as error:
                refusal = fault(503, error.sentence, code=error.code)
            else:
                await objects(scope, receive, send, caller)
                return
        await refusal(scope, receive, send)

    def _who_are_you(self, scope: Scope, headers: dict[bytes, bytes], error: Unauthorized) -> Any:
        refusal = fault(401, error.sentence, code=error.code)
        base = self._public_endpoint or f"{scope['scheme']}://{headers.get(b'host', b'').decode('latin-1')}"
        refusal.headers["WWW-Authenticate"] = f'Keystone uri="{self._identity.log_in_at(base)}"'
        return refusal

    async def _caller(self, scope: Scope, headers: dict[bytes, bytes], service: str) -> Caller:
        caller = await self._holder(scope, headers)
        if not caller.may_ask(service, scope["method"], scope["path"]):
            # As keystonemiddleware answers it.
            raise Unauthorized("The access rules of the application credential do not allow this request.")
        return caller

    async def _holder(self, scope: Scope, headers: dict[bytes, bytes]) -> Caller:
        token = headers.get(b"x-auth-token")
        if token is not None:
            text = token.decode("latin-1").strip()
            service = headers.get(b"x-service-token")
            vouching = None if service is None else service.decode("latin-1").strip()
            known = self._identity.known_caller(text, vouching)
            return known if known is not None else await self._ask(self._identity.caller_of, text, vouching)
        basic = headers.get(b"authorization", b"").decode("latin-1")
        if basic[:6].lower() == "basic ":
            client = scope.get("client")
            source = client[0] if client else ""
            return await self._ask(self._identity.authenticate_basic, basic, source)
        where = f"{self._identity.log_in_at('')}/auth/tokens"
        raise Unauthorized(f"The request needs a token in X-Auth-Token: get one at {where}.")

    async def _ask(self, question: Callable[..., Caller], *about: Any) -> Caller:
        return await asyncio.get_running_loop().run_in_executor(self._asking, question, *about)


def _is_upload(scope: Scope) -> bool:
    return scope["method"] == "PUT" and UPLOAD.fullmatch(scope["path"]) is not None


def _media(scope: Scope, headers: dict[bytes, bytes]) -> Any | None:
    kind = headers.get(b"content-type", b"").split(b";")[0].strip().lower()
    if scope["method"] in {"POST", "PUT", "PATCH"} and kind and kind != b"application/json":
        return fault(415, f"The body must be application/json, not {kind.decode('latin-1')}.")
    accept = headers.get(b"accept", b"").decode("latin-1")
    asked = re.search(r"application/vnd\.openstack\.trove\+json\s*;\s*version=([\w.]+)", accept)
    if asked and asked[1] != "1.0":
        return fault(406, f"There is no version {asked[1]} of this API: ask for 1.0.")
    length = headers.get(b"content-length", b"0")
    if length.isdigit() and int(length) > MAX_BODY:
        return fault(413, f"The body must have {MAX_BODY} bytes or less, it has {length.decode()}.")
    if not kind and (b"content-length" in headers or b"transfer-encoding" in headers):
        # A body without a media type is no body (contract 1.2).
        scope["state"]["ignore_body"] = True
    return None


def _bounded(receive: Receive, scope: Scope) -> Receive:
    seen = 0

    async def bounded() -> Message:
        nonlocal seen
        message = await receive()
        if message["type"] == "http.request":
            seen += len(message.get("body", b""))
            if seen > MAX_BODY:
                raise HTTPException(413, f"The body must have {MAX_BODY} bytes or less.")
            if scope.get("state", {}).get("ignore_body"):
                message = {**message, "body": b""}
        return message

    return bounded


def caller_of(request: Request) -> Caller:
    caller = request.scope["state"]["caller"]
    assert isinstance(caller, Caller)  # noqa: S101 - put there by Wire
    return caller
