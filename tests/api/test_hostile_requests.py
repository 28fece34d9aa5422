"""Nothing a client can send makes the API fail by surprise, and every refusal has the documented form."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from argosy.api.app import RESOURCES
from tests.api.conftest import Api

PROJECT = "/v1.0/{project_id}"

# Every way of calling what there is: method and path, with the names of its parameters.
ROUTES = sorted(
    {
        (method, re.sub(r":path", "", route.path.removeprefix(PROJECT)))
        for module in RESOURCES
        for route in module.router.routes
        for method in route.methods
        # A stream does not end by itself: see test_streams.
        if not route.path.endswith("/stream")
    }
)

DEEP = 100_000
BODIES: dict[str, bytes] = {
    "nothing": b"",
    "blanks": b" \n\t",
    "half an object": b'{"instance": {',
    "text": b"hello",
    "a list": b"[]",
    "a list of objects": b'[{"instance": {}}]',
    "null": b"null",
    "a number": b"42",
    "a string": b'"instance"',
    "an empty object": b"{}",
    "NaN": b'{"instance": NaN, "users": Infinity, "databases": -Infinity}',
    "invalid UTF-8": b'{"instance": {"name": "\xff\xfe"}}',
    "UTF-16": '{"instance": {}}'.encode("utf-16"),
    "a byte order mark": b'\xef\xbb\xbf{"instance": {}}',
    "deep lists": b"[" * DEEP + b"]" * DEEP,
    "deep objects": b'{"a":' * DEEP + b"1" + b"}" * DEEP,
    "deep within": b'{"instance": {"configuration": ' + b"[" * 900 + b"]" * 900 + b"}}",
    "duplicate keys": b'{"instance": {"name": "a", "name": 1}, "instance": 2, "restart": {}, "restart": 1}',
    "a lone surrogate": b'{"instance": {"name": "\\ud800", "\\udfff": 1}, "\\ud800": {}, "users": ["\\udc00"]}',
    "a lone surrogate as the action": b'{"\\ud800": {}}',
    "a NUL": b'{"instance": {"name": "a\\u0000b"}, "\\u0000": 1}',
    "a NUL as the action": b'{"\\u0000": {}}',
    "a huge number": b'{"restart": ' + b"9" * 10_000 + b"}",
    "a huge key": b'{"' + b"k" * 100_000 + b'": {}}',
    "many wrong things": json.dumps({"users": [1] * 5000, "databases": [1] * 5000}).encode(),
}
SEGMENTS = [
    "%00",
    "%2F",
    "a%2Fb",
    "..%2F..",
    "%FF",
    "%ED%A0%80",
    "a" * 5000,
    "%",
    "%25",
    "💥",
    "'; drop table instances; --",
    "@",
    "@%",
    "%40%25",
    "0",
    "-1",
]
QUERIES = [
    "limit=",
    "limit=abc",
    "limit=-1",
    "limit=0",
    "limit=1.5",
    "limit=" + "9" * 5000,
    "limit=%00",
    "limit=٣",
    "marker=%00",
    "marker=%2500",
    "marker=" + "m" * 20_000,
    "marker=" + "9" * 400,
    "marker=%ED%A0%80",
    "marker=-1",
    "marker=💥",
    "marker=%",
    "limit=1&limit=x",
    "instance_id=%FF&project_id='&deleted=maybe",
    "&&&===",
]
STRANGE: list[Any] = [
    None,
    True,
    0,
    -1,
    1.5,
    10**30,
    "",
    " ",
    "\0",
    "a\0b",
    "\ud800",
    "💥" * 300,
    "x" * 70_000,
    [],
    [[]],
    [None],
    {},
    {"": None},
    [{}] * 3,
    {"name": {"name": {}}},
]
VALID: dict[tuple[str, str], Any] = {
    ("POST", "/instances"): {
        "instance": {
            "name": "db",
            "flavorRef": "1",
            "flavor": "1",
            "volume": {"size": 1, "type": "x"},
            "databases": [{"name": "shop", "character_set": "utf8mb4", "collate": "utf8mb4_bin"}],
            "users": [{"name": "ann", "password": "secret", "host": "%", "databases": [{"name": "shop"}]}],
            "datastore": {"type": "mariadb", "version": "11.8", "version_number": "1"},
            "nics": [{"net-id": "n", "ip_address": "10.0.0.1"}],
            "access": {"is_public": True, "allowed_cidrs": ["10.0.0.0/8"]},
            "availability_zone": "nova",
            "region_name": "RegionOne",
            "locality": "affinity",
            "configuration": None,
            "restorePoint": None,
            "replica_of": None,
            "replica_count": 1,
            "modules": [],
        }
    },
    ("PUT", "/instances/{instance_id}"): {
        "instance": {"name": "db", "access": {}, "configuration": None, "replica_of": None}
    },
    ("POST", "/instances/{instance_id}/action"): {"resize": {"volume": {"size": 3}}},
    ("POST", "/instances/{instance_id}/databases"): {
        "databases": [{"name": "shop", "character_set": "utf8mb4", "collate": "utf8mb4_bin"}]
    },
    ("POST", "/instances/{instance_id}/users"): {
        "users": [{"name": "ann", "password": "secret", "host": "%", "databases": [{"name": "shop"}]}]
    },
    ("PUT", "/instances/{instance_id}/users"): {
        "users": [{"name": "ann", "password": "secret", "host": "%"}]
    },
    ("PUT", "/instances/{instance_id}/users/{user}"): {
        "user": {"name": "bob", "password": "secret", "host": "%"}
    },
    ("PUT", "/instances/{instance_id}/users/{user}/databases"): {"databases": [{"name": "shop"}]},
    ("POST", "/instances/{instance_id}/root"): {"password": "secret"},
    ("POST", "/instances/{instance_id}/log"): {"name": "general", "publish": 1, "enable": 0, "discard": 1},
    ("POST", "/images"): {"image": {"datastore": "redis", "version": "7"}},
    ("POST", "/mgmt/instances/{instance_id}/action"): {"reset-task-status": {}},
    ("POST", "/mgmt/instances/{instance_id}/upgrade"): {
        "upgrade": {"instance_version": "1", "location": None, "metadata": {}}
    },
    ("PUT", "/mgmt/quotas/{of_project}"): {
        "quotas": {"instances": 10, "ram": -1, "volumes": 40, "backups": 50}
    },
    ("POST", "/mgmt/datastore-versions"): {
        "version": {
            "name": "7.1",
            "datastore_name": "redis",
            "datastore_manager": "redis",
            "image_tags": ["bookworm"],
            "packages": ["redis-server", "redis-tools"],
            "active": True,
            "default": False,
            "version": "7.1",
        }
    },
    ("PATCH", "/mgmt/datastore-versions/{version_id}"): {"active": True, "default": True, "name": "x"},
}


@pytest.fixture
def instance_id(api: Api) -> Iterator[str]:
    yield api.silent_mariadb("target")
    with api.store.write() as tx:
        tx.connection.exec_driver_sql("DELETE FROM instances")
        tx.connection.exec_driver_sql("DELETE FROM idempotent_requests")


def check(answer: httpx.Response, what: str) -> None:
    """Anything but a surprise: 501 and 503 are our words too, when a feature or a guest is not there."""
    told = f"{what}: {answer.status_code} {answer.text[:300]}"
    assert answer.status_code < 500 or answer.status_code in {501, 503}, told
    assert answer.headers["content-type"] == "application/json", told
    assert re.fullmatch(r"req-[0-9a-f-]{36}", answer.headers["x-openstack-request-id"]), told
    if answer.status_code >= 400:
        ((_, fault),) = answer.json().items()
        assert fault["code"] == answer.status_code, told
        assert fault["message"], told
        assert len(answer.content) < 10_000, told


def fill(path: str, instance_id: str, other: str = "x") -> str:
    return re.sub(r"\{(\w+)\}", lambda found: instance_id if found[1] == "instance_id" else other, path)


@pytest.mark.parametrize("body", BODIES)
def test_no_body_is_a_surprise_to_any_route(api: Api, instance_id: str, body: str) -> None:
    for method, path in ROUTES:
        where = fill(path, instance_id)
        answer = api.admin.request(
            method, where, content=BODIES[body], headers={"Content-Type": "application/json"}
        )
        check(answer, f"{method} {where}")


def test_no_path_is_a_surprise_to_any_route(api: Api, instance_id: str) -> None:
    for method, path in ROUTES:
        for segment in SEGMENTS:
            for where in {fill(path, instance_id, segment), fill(path, segment, segment)}:
                check(api.demo.request(method, where, json={}), f"{method} {where}")


def test_no_query_is_a_surprise_to_any_route(api: Api, instance_id: str) -> None:
    for method, path in ROUTES:
        if method != "GET":
            continue
        for query in QUERIES:
            where = f"{fill(path, instance_id)}?{query}"
            check(api.admin.get(where), where)


def variants(value: Any) -> Iterator[Any]:
    """The value with each of its parts, one at a time, replaced by everything strange."""
    yield from STRANGE
    if isinstance(value, dict):
        for key, part in value.items():
            for strange in variants(part):
                yield value | {key: strange}
            yield {other: value[other] for other in value if other != key}
    elif isinstance(value, list) and value:
        for strange in variants(value[0]):
            yield [strange, *value[1:]]
        yield value * 2


@pytest.mark.parametrize("route", VALID, ids=" ".join)
def test_no_value_is_a_surprise_at_any_key(api: Api, instance_id: str, route: tuple[str, str]) -> None:
    method, path = route
    for body in variants(VALID[route]):
        content = json.dumps(body).encode("ascii")
        where = fill(path, instance_id)
        answer = api.admin.request(
            method, where, content=content, headers={"Content-Type": "application/json"}
        )
        check(answer, f"{method} {where} {content[:200]!r}")


def test_a_refused_password_is_not_repeated(api: Api, instance_id: str) -> None:
    secret = "tell\x01nobody"
    bodies = {
        f"/instances/{instance_id}/users": {"users": [{"name": "ann", "password": [secret]}]},
        f"/instances/{instance_id}/root": {"password": secret},
        "/instances": {"instance": {"name": "x", "users": [{"name": "ann", "password": secret}]}},
    }
    for where, body in bodies.items():
        answer = api.demo.post(where, json=body)
        assert answer.status_code == 400
        assert "nobody" not in answer.text


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Auth-Token": ""},
        {"X-Auth-Token": "\xff" * 4000},
        {"X-Auth-Token": "gone"},
        {"Authorization": "Basic !!!", "X-Auth-Token": None},
        {"Authorization": "Basic " + "A" * 4000, "X-Auth-Token": None},
        {"X-Auth-Token": None},
    ],
)
def test_a_token_worth_nothing_is_refused(api: Api, headers: dict[str, str | None]) -> None:
    sent = {name.encode(): value.encode("latin-1") for name, value in headers.items() if value is not None}
    answer = httpx.get(f"{api.demo.base_url}instances", headers=sent)
    assert answer.status_code == 401
    assert list(answer.json()) == ["unauthorized"]
    assert answer.headers["www-authenticate"].startswith('Keystone uri="http')


def test_a_body_too_large_is_refused_whether_or_not_it_says_so(api: Api) -> None:
    sent = {"Content-Type": "application/json"}
    large = b'{"instance": "' + b"x" * 1_100_000 + b'"}'
    assert api.demo.post("/instances", content=large, headers=sent).status_code == 413
    chunks = (large[start : start + 100_000] for start in range(0, len(large), 100_000))
    answer = api.demo.post("/instances", content=chunks, headers=sent)
    assert answer.status_code == 413
    assert answer.json()["overLimit"]["code"] == 413


def test_a_host_header_cannot_write_links(api: Api) -> None:
    host, port = api.server.listen.split(":")
    request = (
        f"GET /v1.0/{api.demo.project_id}/flavors/1 HTTP/1.1\r\n"
        f'Host: evil.example/"><script>\r\nX-Auth-Token: {api.demo.token}\r\nConnection: close\r\n\r\n'
    )
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(request.encode())
        with connection.makefile("rb") as answers:
            answer = answers.read()
    assert b"evil" not in answer


def test_a_client_that_hangs_up_leaves_the_server_well(api: Api) -> None:
    host, port = api.server.listen.split(":")
    for sent in (b"POST /v1.0/", b"\x16\x03\x01\x02\x00", b"GET / HTTP/1.1\r\nContent-Length: 10\r\n\r\nabc"):
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(sent)
    assert api.demo.get("/instances").status_code == 200


def test_a_connection_is_kept_for_longer_than_clients_keep_it(api: Api) -> None:
    """After five seconds httpx lets go of an idle one: what is asked just then is lost if the server does so too."""
    host, port = api.server.listen.split(":")
    with socket.create_connection((host, int(port)), timeout=6) as connection:
        connection.sendall(b"GET /healthcheck HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = b""
        while not answer.endswith(b"\r\n\r\nOK"):
            part = connection.recv(65536)
            assert part, answer
            answer += part
        with pytest.raises(TimeoutError):
            connection.recv(1)
