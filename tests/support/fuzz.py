"""Sends what schemathesis makes of our OpenAPI document to a live server, and holds the answers against it.

Stricter than the document is, which has a `default` answer so that clients may expect anything: here only
statuses that a route names count. 500 never does.
"""

from __future__ import annotations

import copy
import itertools
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from schemathesis.core.failures import FailureGroup
from schemathesis.core.result import Ok

from tests.support.server import Client

CHECKS = [
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
# Unavailable is an answer of a guest that is being stopped or started, which what is sent may ask for.
UNAVAILABLE = {"guest-unreachable", "engine-not-ready", "too-many-streams"}


@dataclass
class Fuzz:
    """`known` holds, by the name of a path's or query's parameter, values that exist; `bodies` the same of bodies.

    They take the place of three in four of those that were made up, so that requests get far.
    """

    url: str
    clients: Sequence[Client]
    known: Mapping[str, Sequence[Any]]
    bodies: Mapping[tuple[str, str], Sequence[Any]] = field(default_factory=dict)
    sent: Counter[str] = field(default_factory=Counter)
    wrong: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    def run(self, per_route: int, *, prepare: Any = lambda: None) -> None:
        """Up to so many requests to each route, the same at every run; `prepare` is called before each route."""
        with httpx.Client(timeout=60) as self._http:
            document = self._http.get(f"{self.url}/openapi.json").json()
            strict = copy.deepcopy(document)
            for route in _operations(strict):
                route["responses"].pop("default", None)
            schema = schemathesis.openapi.from_dict(strict)
            for result in schema.get_all_operations():
                assert isinstance(result, Ok)
                prepare()
                self._bounds(result.ok(), per_route)
                prepare()
                self._route(result.ok(), per_route)

    def _bounds(self, operation: Any, at_most: int) -> None:
        """The bounds of each value, one at a time, within and without."""
        cases = operation.schema.iter_coverage_cases(
            operation,
            generation_modes=list(GenerationMode),
            generation_config=operation.schema.config.generation_for(operation=operation),
        )
        # Evenly of all there are, for they come value by value.
        made = [case for case in cases if case.method == operation.method.upper()]
        for turn, case in enumerate(made[:: max(1, len(made) // at_most)]):
            self._send(case, turn, turn * 7919 % 2**16)

    def _route(self, operation: Any, per_route: int) -> None:
        turns = itertools.count()
        modes = [GenerationMode.POSITIVE]
        if list(operation.query) or list(operation.body) or list(operation.headers):
            # Any text is right in a path, so that a route with nothing else cannot be asked wrongly.
            modes.append(GenerationMode.NEGATIVE)
        for mode in modes:

            @settings(
                derandomize=True,
                max_examples=max(1, per_route // len(modes)),
                deadline=None,
                database=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            @given(case=operation.as_strategy(mode), seed=st.integers(0, 2**16))
            def send(case: Case[Any], seed: int) -> None:
                self._send(case, next(turns), seed)

            send()

    def _send(self, case: Case[Any], turn: int, seed: int) -> None:
        client = self.clients[turn % len(self.clients)]
        self._make_it_meaningful(case, client, seed)
        request = case.as_transport_kwargs(base_url=self.url)
        headers = {**request.pop("headers", {}), "X-Auth-Token": client.token}
        if turn % 40 == 39:
            del headers["X-Auth-Token"]
        sent = self._http.build_request(
            request["method"],
            request["url"],
            params=request.get("params"),
            headers={key: str(value).encode("utf-8", "surrogatepass") for key, value in headers.items()},
            content=_content(request),
        )
        answer = self._http.send(sent, stream=True)
        try:
            if answer.headers.get("content-type", "").startswith("text/event-stream"):
                next(answer.iter_raw())
                self.sent["200"] += 1
                return
            answer.read()
        finally:
            answer.close()
        self.sent[str(answer.status_code)] += 1
        self._judge(case, sent, answer)

    def _judge(self, case: Case[Any], sent: httpx.Request, answer: httpx.Response) -> None:
        """Failures are gathered: raised, they would end the route's run, and be tried again in smaller forms."""
        told = f"{sent.method} {sent.url} with {sent.content[:300]!r} answered {answer.status_code} {answer.text[:300]}"
        if answer.status_code == 500:
            self._fail(case, told)
        elif answer.status_code == 503:
            (fault,) = answer.json().values()
            if fault.get("argosy_code") not in UNAVAILABLE:
                self._fail(case, told)
        try:
            case.validate_response(answer, checks=CHECKS)
        except (AssertionError, FailureGroup) as error:
            self._fail(case, f"{told}: {_reason(error)}")

    def _fail(self, case: Case[Any], reason: str) -> None:
        """A few of a route tell what is to be told."""
        label = case.operation.label
        self.wrong[label] += 1
        if self.wrong[label] <= 3:
            self.failures.append(f"{label}: {reason}")

    def _make_it_meaningful(self, case: Case[Any], client: Client, seed: int) -> None:
        if "project_id" in case.path_parameters:
            case.path_parameters["project_id"] = client.project_id
        for number, (values, name) in enumerate(_known(case, self.known)):
            choice = (seed >> (3 * number % 13)) % 8
            if choice < 6:
                known = self.known[name]
                values[name] = known[(seed >> number) % len(known)]
        bodies = self.bodies.get((case.method, case.operation.path.removeprefix("/v1.0/{project_id}")))
        if bodies and seed % 4 < 2:
            case.body = bodies[seed // 4 % len(bodies)]
            case.media_type = "application/json"

    def every_method(self) -> None:
        """Every method of every path, also those that it has not."""
        with httpx.Client(timeout=60) as http:
            document = http.get(f"{self.url}/openapi.json").json()
            for path, methods in document["paths"].items():
                known = {name: values[0] for name, values in self.known.items()}
                known["project_id"] = self.clients[0].project_id
                filled = path
                for name in re.findall(r"\{(\w+)\}", path):
                    filled = filled.replace(f"{{{name}}}", str(known.get(name, "x")))
                for method in METHODS:
                    if method.lower() in methods:
                        continue
                    answer = http.request(
                        method, f"{self.url}{filled}", headers={"X-Auth-Token": self.clients[0].token}
                    )
                    self.sent[str(answer.status_code)] += 1
                    # Not 404 alone: a path may be another one's as well, with this method.
                    if not 400 <= answer.status_code < 500 or answer.status_code == 405:
                        self.failures.append(
                            f"{method} {filled} answered {answer.status_code} {answer.text[:200]}"
                        )


def _operations(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for methods in document["paths"].values():
        yield from methods.values()


def _known(case: Case[Any], known: Mapping[str, Sequence[Any]]) -> Iterator[tuple[dict[str, Any], str]]:
    for values in (case.path_parameters, case.query):
        for name in list(values or {}):
            if name in known:
                yield values, name


def _content(request: dict[str, Any]) -> bytes | None:
    """In ASCII, and with the numbers that JSON does not have."""
    if "json" in request:
        return json.dumps(request["json"]).encode()
    data = request.get("data")
    return data.encode() if isinstance(data, str) else data


def _reason(error: AssertionError | FailureGroup) -> str:
    said = "; ".join(str(one) for one in getattr(error, "exceptions", [error]))
    return " ".join(said.split())
