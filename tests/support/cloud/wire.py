"""What the simulated services have in common on the wire: who calls, refusals in each service's own words, pages."""

from __future__ import annotations

import html
import json
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

Body = dict[str, Any]


class Refused(Exception):
    """A request that a service turns down; `type` is Neutron's name for the reason."""

    def __init__(self, status: int, message: str, type: str = "", **headers: str) -> None:  # noqa: A002
        super().__init__(message)
        self.status, self.message, self.type = status, message, type
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


@dataclass(frozen=True)
class Caller:
    """Who a token stands for."""

    token: str
    user_id: str
    project_id: str
    roles: frozenset[str]

    @property
    def is_admin(self) -> bool:
        return "admin" in self.roles


@dataclass(frozen=True)
class Call:
    """One request, read whole."""

    request: Request
    caller: Caller
    raw: bytes
    body: Any

    def part(self, name: str) -> str:
        return str(self.request.path_params[name])

    def asked(self, name: str) -> list[str]:
        return self.request.query_params.getlist(name)

    def query(self, name: str, default: str = "") -> str:
        return str(self.request.query_params.get(name, default))

    @property
    def pairs(self) -> list[tuple[str, str]]:
        return list(self.request.query_params.multi_items())

    @property
    def base(self) -> str:
        """The address of the whole cloud, as the caller named it."""
        return f"{self.request.url.scheme}://{self.request.url.netloc}"


Handler = Callable[[Call], Response]
NOBODY = Caller("", "", "", frozenset())
UNAUTHORISED = "The request you have made requires authentication."


@dataclass
class Service:
    """One of the cloud's services. Handlers run on the server's only thread, each whole before the next."""

    identify: Callable[[str], Caller | None]
    address: str = ""  # scheme, host and port of the cloud, once it is served
    path: str = ""
    routes: list[Route] = field(default_factory=list)

    def refusal(self, refused: Refused) -> Response:
        raise NotImplementedError

    def unauthorised(self) -> Response:
        """As keystonemiddleware words it."""
        error = {"code": 401, "title": "Unauthorized", "message": UNAUTHORISED}
        return JSONResponse(
            {"error": error}, 401, {"WWW-Authenticate": f'Keystone uri="{self.address}/identity"'}
        )

    async def instead(self, request: Request) -> Response | None:
        """An answer to give in the place of the service's own, if any."""
        return None

    def finish(self, call: Call, answer: Response) -> Response:
        """What a service puts on every answer."""
        return answer

    def serve(self, pattern: str, handler: Handler, *, open_to_all: bool = False) -> None:
        """Answer `METHOD /path` below the service's own path by `handler`."""
        method, path = pattern.split(" ", 1)

        async def endpoint(request: Request) -> Response:
            if (answer := await self.instead(request)) is not None:
                return answer
            caller = self.identify(request.headers.get("x-auth-token", ""))
            if caller is None and not open_to_all:
                return self.unauthorised()
            raw = await request.body()
            body: Any = None
            if raw and "json" in request.headers.get("content-type", ""):
                try:
                    body = json.loads(raw)
                except ValueError:
                    return self.refusal(Refused(400, "The body is not JSON."))
            call = Call(request, caller or NOBODY, raw, body)
            try:
                return self.finish(call, handler(call))
            except Refused as refused:
                return self.finish(call, self.refusal(refused))

        self.routes.append(Route(self.path + path, endpoint, methods=[method]))


def new_id() -> str:
    return str(uuid.uuid4())


def now(style: str = "seconds") -> str:
    """Nova, Neutron and Glance write seconds and a Z; Cinder and Nova's extensions write fractions and no zone."""
    moment = datetime.now(UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ" if style == "seconds" else "%Y-%m-%dT%H:%M:%S.000000")


def html_page(status: int, title: str, message: str) -> str:
    """Glance's way to refuse, which is webob's."""
    return (
        f"<html>\n <head>\n  <title>{status} {title}</title>\n </head>\n <body>\n  <h1>{status} {title}</h1>\n"
        f"  {html.escape(message, quote=False)}<br /><br />\n\n\n\n </body>\n</html>"
    )


def page(
    found: Sequence[Mapping[str, Any]], call: Call, *, longest: int = 1000
) -> tuple[list[Mapping[str, Any]], str]:
    """What `limit` and `marker` ask for, and the query of the page after it (empty when there is none)."""
    limit = min(int(call.query("limit") or longest), longest)
    marker = call.query("marker")
    start = 0
    if marker:
        places = [place for place, one in enumerate(found) if one["id"] == marker]
        if not places:
            raise Refused(400, f"marker [{marker}] not found")
        start = places[0] + 1
    shown = list(found[start : start + limit])
    # The real services say that there is more whenever a page is full, even when nothing follows.
    if not call.query("limit") or len(shown) < limit or not shown:
        return shown, ""
    kept = [(name, value) for name, value in call.pairs if name != "marker"]
    return shown, urlencode([*kept, ("marker", shown[-1]["id"])])


def has_tags(tags: Iterable[str], call: Call) -> bool:
    """Nova's and Neutron's four filters by tags."""
    have = set(tags)

    def named(name: str) -> set[str]:
        return {tag for value in call.asked(name) for tag in value.split(",")}

    if not named("tags") <= have:
        return False
    if call.asked("tags-any") and not named("tags-any") & have:
        return False
    if call.asked("not-tags") and named("not-tags") <= have:
        return False
    return not (call.asked("not-tags-any") and named("not-tags-any") & have)
