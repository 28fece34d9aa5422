"""What is beside the database API, Keystone's routes and Swift's, is not surprised by anything either."""

from __future__ import annotations

import json
import re
from typing import Any, cast

import httpx
import pytest
from starlette.routing import Route

from argosy.api.identity.routes import identity_router
from tests.api.conftest import Api
from tests.api.test_hostile_requests import BODIES, QUERIES, SEGMENTS, variants

NOBODY = "0" * 32
IDENTITY = sorted(
    {
        (method, route.path)
        for route in identity_router(cast("Any", None), cast("Any", None)).routes
        if isinstance(route, Route)
        for method in route.methods or ()
        if "path:path" not in route.path
    }
)
# Of somebody who is not there, so that nobody is locked out.
VALID: dict[tuple[str, str], dict[str, Any]] = {
    ("POST", "/identity/v3/auth/tokens"): {
        "auth": {
            "identity": {
                "methods": ["password"],
                "password": {
                    "user": {"name": "nobody", "domain": {"id": "default"}, "password": "x"},
                },
            },
            "scope": {"project": {"name": "none", "domain": {"name": "Default"}}},
        }
    },
    ("POST", "/identity/v3/users"): {
        "user": {"name": "admin", "password": "x-Secret-77", "email": "a@b", "default_project_id": NOBODY}
    },
    ("PATCH", f"/identity/v3/users/{NOBODY}"): {"user": {"enabled": True, "description": "x"}},
    ("POST", "/identity/v3/projects"): {
        "project": {"name": "admin", "domain_id": "default", "enabled": True}
    },
    ("POST", "/identity/v3/roles"): {"role": {"name": "admin"}},
    ("POST", f"/identity/v3/users/{NOBODY}/password"): {
        "user": {"password": "x-Secret-77", "original_password": "x"}
    },
    ("POST", f"/identity/v3/users/{NOBODY}/application_credentials"): {
        "application_credential": {
            "name": "x",
            "roles": [{"name": "member"}],
            "expires_at": "2999-01-01T00:00:00.000000Z",
            "unrestricted": False,
        }
    },
}


def fill(path: str, value: str) -> str:
    """The path with every parameter in it being the value."""
    return value.join(re.split(r"\{\w+\}", path))


def check(answer: httpx.Response, what: str) -> None:
    told = f"{what}: {answer.status_code} {answer.text[:300]}"
    assert answer.status_code < 500, told
    if answer.status_code >= 400 and answer.request.method != "HEAD":
        (fault,) = answer.json().values()
        assert fault["code"] == answer.status_code, told
        assert fault["message"], told
        assert len(answer.content) < 10_000, told


def test_there_are_routes_to_try() -> None:
    paths = {path for _, path in IDENTITY}
    assert len(IDENTITY) > 30
    for _, path in VALID:
        assert any(re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", known), path) for known in paths), path


@pytest.mark.parametrize("body", BODIES)
def test_no_body_is_a_surprise_to_keystones_routes(api: Api, body: str) -> None:
    headers = {"Content-Type": "application/json", "X-Subject-Token": "x"}
    for method, path in IDENTITY:
        where = api.server.url + fill(path, NOBODY)
        check(api.admin.request(method, where, content=BODIES[body], headers=headers), f"{method} {where}")


def test_no_path_and_no_query_is_a_surprise_to_keystones_routes(api: Api) -> None:
    for method, path in IDENTITY:
        for segment in SEGMENTS if "{" in path else ():
            where = api.server.url + fill(path, segment)
            check(api.admin.request(method, where, json={}), f"{method} {where}")
        for query in QUERIES if method == "GET" else ():
            where = f"{api.server.url}{fill(path, NOBODY)}?{query}"
            check(api.admin.get(where), where)


@pytest.mark.parametrize("route", VALID, ids=" ".join)
def test_no_value_is_a_surprise_at_any_key_of_keystones_bodies(api: Api, route: tuple[str, str]) -> None:
    method, path = route
    for body in variants(VALID[route]):
        content = json.dumps(body).encode("ascii")
        answer = api.admin.request(
            method, api.server.url + path, content=content, headers={"Content-Type": "application/json"}
        )
        check(answer, f"{method} {path} {content[:200]!r}")


def test_no_header_is_a_surprise(api: Api) -> None:
    strange = [b"", b"\xff\xfe", b"a" * 7000, b"'; drop table identity_tokens; --", b"\xe2\x80\xa8"]
    for value in strange:
        for name in (b"X-Auth-Token", b"X-Subject-Token", b"Authorization", b"Last-Event-ID", b"Accept"):
            for where in ("/identity/v3/auth/tokens", f"/v1.0/{api.demo.project_id}/instances"):
                headers = [(b"X-Auth-Token", api.demo.token.encode())] if name != b"X-Auth-Token" else []
                answer = httpx.get(api.server.url + where, headers=[*headers, (name, value)], timeout=30)
                check(answer, f"{where} {name!r}: {value!r}")


def test_nothing_is_a_surprise_to_swifts_routes(api: Api) -> None:
    """Its refusals are plain text, as Swift's are."""
    account = f"{api.server.url}/swift/v1/AUTH_{api.demo.project_id}"
    for method in ("GET", "HEAD", "PUT", "POST", "DELETE", "PATCH", "OPTIONS", "COPY"):
        for segment in [*SEGMENTS, "plain"]:
            for where in (f"{account}/{segment}", f"{account}/box/{segment}", f"{account}{segment}"):
                for query in (
                    "",
                    "?format=json&limit=x&marker=%FF&prefix=%00&delimiter=//",
                    "?multipart-manifest=put",
                ):
                    if method == "PUT" and not query:
                        continue
                    answer = api.demo.request(
                        method, where + query, content=b"x" if method == "PUT" else None
                    )
                    told = f"{method} {where}{query}: {answer.status_code} {answer.text[:300]}"
                    assert answer.status_code < 500 or answer.status_code in {501, 507}, told
                    assert len(answer.content) < 100_000, told
