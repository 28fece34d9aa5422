"""One request to a route: who asks, for which project, and what the routes need to answer."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar
from urllib.parse import quote, unquote, urlencode

from fastapi import Depends, Request

from argosy import catalog
from argosy.api.parts import Parts
from argosy.api.wire import caller_of
from argosy.domain import operations
from argosy.domain.datastore import Capability, Datastore
from argosy.domain.errors import ArgosyError, Busy, Forbidden, InstanceNotFound, Invalid, Unauthorized
from argosy.domain.identity import Caller
from argosy.domain.instance import Instance
from argosy.metadata.store import Transaction
from argosy.rpc.messages import Call as GuestCall
from argosy.rpc.messages import Reply

PAGE = 20
_HOST = re.compile(r"[\w.:\[\]-]+", re.ASCII)
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_BIGGEST_PLACE = 2**31

Item = TypeVar("Item")


class Call:
    """A request below /v1.0/{project_id}/, whose caller has a token of that project."""

    def __init__(self, request: Request, project_id: str) -> None:
        self.request = request
        self.project_id = project_id
        self.caller: Caller = caller_of(request)
        self.parts: Parts = request.app.state.parts
        self.now = datetime.now(UTC)
        self.base_url = self.parts.public_endpoint or address_of(request)

    def allow(self, rule: str, *, project_id: str | None = None) -> None:
        """Raises Forbidden unless the policy lets the caller do this in the URL's project, or the one named."""
        self.parts.policy.allow(self.caller, rule, {"project_id": project_id or self.project_id})

    def allow_management(self, rule: str) -> None:
        """Like `allow`, for what is administrators' alone: raises Unauthorized, as Trove does (contract 1.3)."""
        try:
            self.allow(rule)
        except Forbidden as error:
            raise Unauthorized(error.sentence) from error

    def allow_again(self, rule: str) -> None:
        """For answers that go on for long: raises Unauthorized or Forbidden when the caller may not any more."""
        identity, headers = self.parts.identity, self.request.headers
        token = headers.get("x-auth-token")
        if token is not None:
            caller = identity.caller_of(token, headers.get("x-service-token"))
        else:
            client = self.request.client
            caller = identity.authenticate_basic(headers["authorization"], client.host if client else "")
        if caller.project_id != self.project_id:
            raise Forbidden("Your project is another one now.")
        self.parts.policy.allow(caller, rule, {"project_id": self.project_id})

    @property
    def _scope(self) -> str | None:
        # An administrator finds single objects of every project, from a URL of their own (contract 1.3).
        return None if self.caller.is_admin else self.project_id

    @contextmanager
    def read(self) -> Iterator[Transaction]:
        with self.parts.store.read(self._scope) as tx:
            yield tx

    @contextmanager
    def write(self) -> Iterator[Transaction]:
        with self.parts.store.write(self._scope) as tx:
            yield tx

    @contextmanager
    def read_project(self) -> Iterator[Transaction]:
        """For lists: of the URL's project, also for an administrator."""
        with self.parts.store.read(self.project_id) as tx:
            yield tx

    def instance(self, instance_id: str) -> Instance:
        """Raises InstanceNotFound."""
        check_instance_id(instance_id)
        with self.read() as tx:
            return tx.instances.get(instance_id)

    def serving(self, instance_id: str, capability: Capability) -> tuple[Instance, Datastore]:
        """An instance whose database server answers and has the capability. Raises InstanceBusy or Busy (422)."""
        instance = self.instance(instance_id)
        datastore = self.datastore_of(instance)
        if capability not in datastore.capabilities:
            raise Busy(
                f"Instance {instance.id} is {datastore.title}, which has no {capability} to manage here.",
                code="not-in-this-datastore",
            )
        instance.check_serves(self.now)
        return instance, datastore

    def begin_alone(self, request: operations.Request) -> operations.Operation:
        """An operation that holds no instance, begun for the caller's project."""
        with self.parts.store.write(self.project_id) as tx:
            tx.operations.begin_alone(self.project_id, request, requested_by=self.caller.user_name)
            return tx.operations.get(request.operation_id)

    def guest(self, instance: Instance, asked: GuestCall[Reply]) -> Reply:
        """What the instance's guest answers. No transaction may be open meanwhile: it may take a while.

        A refusal of the database server itself is the request's fault (contract 4.3): Invalid, in its words.
        """
        try:
            return self.parts.guests.call(instance.address or "", asked)
        except ArgosyError as error:
            if error.code == "engine-error":
                raise Invalid(error.sentence, code=error.code) from error
            raise

    def datastore_of(self, instance: Instance) -> Datastore:
        try:
            return catalog.datastores()[instance.datastore]
        except KeyError:
            # Another process has only just offered it.
            catalog.changed()
            return catalog.datastores()[instance.datastore]

    def links(self, collection: str, identity: str) -> list[dict[str, str]]:
        quoted = quote(identity, safe="")
        return [
            {"rel": "self", "href": f"{self.base_url}/v1.0/{self.project_id}/{collection}/{quoted}"},
            {"rel": "bookmark", "href": f"{self.base_url}/{collection}/{quoted}"},
        ]

    def asks(self, parameter: str) -> str | None:
        """A parameter of the query; None for one that is not there or empty."""
        return self.request.query_params.get(parameter) or None

    def asks_all(self, parameter: str) -> list[str]:
        """Every value of a parameter that may be given more than once."""
        return [value for value in self.request.query_params.getlist(parameter) if value]

    def asks_whether(self, parameter: str) -> bool | None:
        """A parameter compared as Trove does: `true` in any case is true, anything else false (contract 1.2)."""
        asked = self.asks(parameter)
        return None if asked is None else asked.lower() == "true"

    def limit(self, *, at_most: int = PAGE) -> int:
        """The page size asked for, at most `at_most`. Raises Invalid unless it is a number from 1 up."""
        asked = self.asks("limit")
        if asked is None:
            return PAGE
        return min(number(asked, "limit", least=1), at_most)

    @property
    def marker(self) -> str | None:
        """The last item of the page before; clients send it quoted once more than usual (contract 3.8)."""
        asked = self.asks("marker")
        if asked is None:
            return None
        marker = unquote(asked)
        if "\0" in marker:
            # Quoted twice it comes this far, and PostgreSQL has no text with one.
            raise Invalid("Validation error: marker must not hold NUL characters.")
        return marker

    def offset(self) -> int:
        """The marker of lists that are paged by number. Raises Invalid unless it is a number."""
        asked = self.marker
        return 0 if asked is None else number(asked, "marker", least=0)

    def next_link(self, marker: str) -> list[dict[str, str]]:
        """What a list carries when there is more: the same request with the marker moved."""
        query = [each for each in self.request.query_params.multi_items() if each[0] != "marker"]
        query.append(("marker", quote(marker, safe="")))
        path = quote(self.request.url.path)
        return [{"rel": "next", "href": f"{self.base_url}{path}?{urlencode(query)}"}]

    def page(
        self, name: str, items: Sequence[Item], key: Callable[[Item], str], view: Callable[[Item], Any]
    ) -> dict[str, Any]:
        """A page of what a guest listed: by `key`, which is the marker too."""
        rest = sorted(items, key=key)
        marker = self.marker
        if marker is not None:
            rest = [item for item in rest if key(item) > marker]
        limit = self.limit()
        answer: dict[str, Any] = {name: [view(item) for item in rest[:limit]]}
        if len(rest) > limit:
            answer["links"] = self.next_link(key(rest[limit - 1]))
        return answer


def address_of(request: Request) -> str:
    """The scheme and host the request was sent to, without a trailing slash."""
    host = request.headers.get("host", "")
    if not _HOST.fullmatch(host):
        address, port = request.scope.get("server") or ("localhost", None)
        host = f"{address}:{port}" if port else address
    return f"{request.scope['scheme']}://{host}"


def check_instance_id(instance_id: str) -> None:
    """Raises InstanceNotFound for what cannot be an id, so that clients go on to look for a name."""
    if not _UUID.fullmatch(instance_id):
        raise InstanceNotFound(instance_id=instance_id[:255])


def number(text: str, what: str, *, least: int) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 18 or int(text) < least:
        raise Invalid(f"Validation error: {what} must be a whole number from {least} up.")
    return min(int(text), _BIGGEST_PLACE)


async def _documented(project_id: str) -> None:
    """Puts the project's id into the OpenAPI document; a Route makes the Call itself."""


Asked = Annotated[Call, Depends(_documented)]
