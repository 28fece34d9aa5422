"""One request to a route: who asks, for which project, and what the routes need to answer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated
from urllib.parse import quote, unquote, urlencode

from fastapi import Depends, Request

from argosy import catalog
from argosy.api.parts import Parts
from argosy.api.wire import caller_of
from argosy.domain.datastore import Datastore
from argosy.domain.errors import Invalid
from argosy.domain.identity import Caller
from argosy.domain.instance import Instance
from argosy.metadata.store import Transaction

PAGE = 20


class Call:
    """A request below /v1.0/{project_id}/, whose caller has a token of that project."""

    def __init__(self, request: Request, project_id: str) -> None:
        self.request = request
        self.project_id = project_id
        self.caller: Caller = caller_of(request)
        self.parts: Parts = request.app.state.parts

    def allow(self, rule: str) -> None:
        """Raises Forbidden unless the policy lets the caller do this in the project."""
        self.parts.policy.allow(self.caller, rule, {"project_id": self.project_id})

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
        with self.read() as tx:
            return tx.instances.get(instance_id)

    def datastore_of(self, instance: Instance) -> Datastore:
        return catalog.datastores()[instance.datastore]

    @property
    def base_url(self) -> str:
        """Where the client reaches us, without a trailing slash."""
        return self.parts.public_endpoint or str(self.request.base_url).rstrip("/")

    def links(self, collection: str, identity: str) -> list[dict[str, str]]:
        return [
            {
                "rel": "self",
                "href": f"{self.base_url}/v1.0/{self.project_id}/{collection}/{quote(identity, safe='')}",
            },
            {"rel": "bookmark", "href": f"{self.base_url}/{collection}/{quote(identity, safe='')}"},
        ]

    def limit(self, *, at_most: int = PAGE) -> int:
        """The page size asked for, at most `at_most`. Raises Invalid unless it is a number from 1 up."""
        asked = self.request.query_params.get("limit")
        if asked is None or asked == "":
            return PAGE
        if not asked.isascii() or not asked.isdigit() or int(asked) < 1:
            raise Invalid(f"Validation error: limit must be a whole number from 1 up, not {asked!r}.")
        return min(int(asked), at_most)

    @property
    def marker(self) -> str | None:
        """The last item of the page before; clients send it quoted once more than usual (contract 3.8)."""
        asked = self.request.query_params.get("marker")
        return unquote(asked) if asked else None

    def next_link(self, marker: str) -> list[dict[str, str]]:
        """What a list carries when there is more: the same request with the marker moved."""
        query = {key: value for key, value in self.request.query_params.items() if key != "marker"}
        query["marker"] = quote(marker, safe="")
        return [{"rel": "next", "href": f"{self.base_url}{self.request.url.path}?{urlencode(query)}"}]


async def _call(request: Request, project_id: str) -> Call:
    return Call(request, project_id)


Asked = Annotated[Call, Depends(_call)]
