"""/swift/v1: what Swift's clients are answered, python-swiftclient among them, and what nobody gets."""

from __future__ import annotations

import hashlib
import json
import socket
import uuid
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest
import swiftclient
from swiftclient.exceptions import ClientException

from tests.api.conftest import Api
from tests.support.server import Client


class Swift(httpx.Client):
    """A user's session with their own account."""

    def __init__(self, api: Api, client: Client) -> None:
        super().__init__(
            base_url=f"{api.server.url}/swift/v1/AUTH_{client.project_id}",
            headers={"X-Auth-Token": client.token},
            timeout=60,
        )


@pytest.fixture(scope="module")
def swift(api: Api) -> Iterator[Swift]:
    with Swift(api, api.demo) as client:
        yield client


@pytest.fixture
def container(swift: Swift) -> Iterator[str]:
    name = f"c-{uuid.uuid4().hex[:8]}"
    assert swift.put(f"/{name}").status_code == 201
    yield name
    for one in swift.get(f"/{name}?format=json").json():
        swift.delete(f"/{name}/{quote(one['name'], safe='')}")
    swift.delete(f"/{name}")


def test_the_catalog_leads_to_the_account(api: Api) -> None:
    shown = httpx.get(
        f"{api.server.url}/identity/v3/auth/catalog", headers={"X-Auth-Token": api.demo.token}
    ).json()
    (url,) = {
        endpoint["url"]
        for service in shown["catalog"]
        if service["type"] == "object-store"
        for endpoint in service["endpoints"]
    }
    assert url == f"{api.server.url}/swift/v1/AUTH_{api.demo.project_id}"
    answer = httpx.head(url, headers={"X-Auth-Token": api.demo.token})
    assert answer.status_code == 204
    assert int(answer.headers["x-account-container-count"]) >= 0


@pytest.mark.filterwarnings("ignore:Using the .* argument:DeprecationWarning")
@pytest.mark.filterwarnings("ignore::DeprecationWarning:keystoneclient")
def test_swiftclient_speaks_to_it(api: Api) -> None:
    connection = swiftclient.Connection(
        authurl=f"{api.server.url}/identity/v3",
        user="demo",
        key=api.server.password("demo"),
        auth_version="3",
        os_options={
            "project_name": "demo",
            "user_domain_name": "Default",
            "project_domain_name": "Default",
            "region_name": "RegionOne",
        },
    )
    connection.put_container("clients", {"X-Container-Meta-Colour": "blue"})
    body = b"0123456789" * 100_000
    digest = connection.put_object(
        "clients", "a/näme +%2F", body, content_type="text/plain", headers={"X-Object-Meta-Lines": "3"}
    )
    assert digest == hashlib.md5(body, usedforsecurity=False).hexdigest()
    headers, listing = connection.get_container("clients", prefix="a/")
    assert headers["x-container-meta-colour"] == "blue"
    assert headers["x-container-object-count"] == "1"
    assert [(one["name"], one["bytes"], one["hash"]) for one in listing] == [
        ("a/näme +%2F", len(body), digest)
    ]
    assert connection.head_object("clients", "a/näme +%2F")["x-object-meta-lines"] == "3"
    headers, read = connection.get_object("clients", "a/näme +%2F")
    assert read == body
    assert headers["content-type"] == "text/plain"
    with pytest.raises(ClientException) as refusal:
        connection.delete_container("clients")
    assert refusal.value.http_status == 409
    connection.delete_object("clients", "a/näme +%2F")
    with pytest.raises(ClientException) as refusal:
        connection.head_object("clients", "a/näme +%2F")
    assert refusal.value.http_status == 404
    connection.delete_container("clients")
    assert "clients" not in [one["name"] for one in connection.get_account()[1]]
    connection.close()


def test_a_container_is_made_once_and_changed(swift: Swift, container: str) -> None:
    assert swift.put(f"/{container}", headers={"X-Container-Meta-A": "1"}).status_code == 202
    assert swift.post(f"/{container}", headers={"X-Container-Meta-B": "2"}).status_code == 204
    assert swift.post(f"/{container}", headers={"X-Remove-Container-Meta-A": "x"}).status_code == 204
    shown = swift.head(f"/{container}")
    assert shown.status_code == 204
    assert "x-container-meta-a" not in shown.headers
    assert shown.headers["x-container-meta-b"] == "2"


def test_listings_are_json_or_lines(swift: Swift, container: str) -> None:
    assert swift.get(f"/{container}").status_code == 204
    assert swift.get(f"/{container}?format=json").json() == []
    for name in ("a", "b/1", "b/2", "c"):
        assert swift.put(f"/{container}/{name}", content=b"x").status_code == 201
    assert swift.get(f"/{container}").text == "a\nb/1\nb/2\nc\n"
    assert swift.get(f"/{container}?delimiter=/").text == "a\nb/\nc\n"
    assert {"subdir": "b/"} in swift.get(f"/{container}?delimiter=/&format=json").json()
    assert swift.get(f"/{container}?marker=a&limit=2").text == "b/1\nb/2\n"
    assert swift.get(f"/{container}?prefix=b/&end_marker=b/2").text == "b/1\n"
    assert swift.get(f"/{container}?limit=0").status_code == 204
    accepts = swift.get(f"/{container}", headers={"Accept": "application/json"})
    assert [one["name"] for one in accepts.json()] == ["a", "b/1", "b/2", "c"]
    assert container in swift.get("").text.split()
    for query in ("limit=x", "limit=-1", "limit=10001"):
        assert swift.get(f"/{container}?{query}").status_code == 400


def test_a_part_of_an_object_is_read(swift: Swift, container: str) -> None:
    where = f"/{container}/digits"
    swift.put(where, content=b"0123456789")
    for asked, status, body in (
        ("bytes=2-4", 206, b"234"),
        ("bytes=7-", 206, b"789"),
        ("bytes=-3", 206, b"789"),
        ("bytes=5-100", 206, b"56789"),
        ("bytes=-100", 206, b"0123456789"),
        ("bytes=4-2", 200, b"0123456789"),
        ("lines=1-2", 200, b"0123456789"),
        ("bytes=0-1,3-4", 200, b"0123456789"),
    ):
        answer = swift.get(where, headers={"Range": asked})
        assert (answer.status_code, answer.content) == (status, body), asked
    answer = swift.get(where, headers={"Range": "bytes=2-4"})
    assert answer.headers["content-range"] == "bytes 2-4/10"
    answer = swift.get(where, headers={"Range": "bytes=10-"})
    assert (answer.status_code, answer.headers["content-range"]) == (416, "bytes */10")


def test_conditions_are_kept(swift: Swift, container: str) -> None:
    where = f"/{container}/x"
    digest = swift.put(where, content=b"x", headers={"If-None-Match": "*"}).headers["etag"]
    assert swift.put(where, content=b"y", headers={"If-None-Match": "*"}).status_code == 412
    assert swift.get(where, headers={"If-None-Match": digest}).status_code == 304
    assert swift.get(where, headers={"If-Match": "other"}).status_code == 412
    assert swift.get(where, headers={"If-Match": f'"{digest}"'}).content == b"x"
    assert swift.put(where, content=b"y", headers={"ETag": "0" * 32}).status_code == 422
    assert swift.get(where).content == b"x"


def test_an_upload_in_chunks_of_any_size_is_taken(swift: Swift, container: str) -> None:
    parts = [b"x" * 700_000, b"", b"y" * 1_300_000]
    answer = swift.put(f"/{container}/large", content=iter(parts))
    assert answer.status_code == 201
    assert swift.head(f"/{container}/large").headers["content-length"] == "2000000"
    assert swift.get(f"/{container}/large").content == b"".join(parts)


def test_an_object_expires(swift: Swift, container: str) -> None:
    where = f"/{container}/short"
    swift.put(where, content=b"x", headers={"X-Delete-After": "3600"})
    assert int(swift.head(where).headers["x-delete-at"]) > 0
    assert swift.post(where, headers={"X-Object-Meta-Kept": "yes"}).status_code == 202
    shown = swift.head(where).headers
    assert "x-delete-at" not in shown
    assert shown["x-object-meta-kept"] == "yes"
    for header, value in (
        ("X-Delete-After", "soon"),
        ("X-Delete-After", "-1"),
        ("X-Delete-After", "0"),
        ("X-Delete-After", "9" * 12),
        ("X-Delete-At", "1"),
    ):
        assert swift.put(where, content=b"x", headers={header: value}).status_code == 400, value


def test_an_upload_that_breaks_off_changes_nothing(api: Api, swift: Swift, container: str) -> None:
    swift.put(f"/{container}/kept", content=b"whole")
    host, port = api.server.listen.split(":")
    path = f"/swift/v1/AUTH_{api.demo.project_id}/{container}/kept"
    request = (
        f"PUT {path} HTTP/1.1\r\nHost: x\r\nX-Auth-Token: {api.demo.token}\r\nContent-Length: 100\r\n\r\nhalf"
    )
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(request.encode())
    assert swift.get(f"/{container}/kept").content == b"whole"


def test_nobody_without_a_token_of_the_project_gets_anything(api: Api, swift: Swift, container: str) -> None:
    swift.put(f"/{container}/x", content=b"mine")
    url = f"{swift.base_url}{container}/x"
    for method in ("GET", "HEAD", "PUT", "POST", "DELETE"):
        assert httpx.request(method, url, timeout=60).status_code == 401
        gone = httpx.request(method, url, headers={"X-Auth-Token": "gone"}, timeout=60)
        assert gone.status_code == 401
        answer = httpx.request(method, url, headers={"X-Auth-Token": api.admin.token}, timeout=60)
        assert answer.status_code == 403, method
    assert httpx.get(url).headers["www-authenticate"].startswith("Keystone uri=")
    with Swift(api, api.admin) as other:
        assert other.get(f"/{container}/x").status_code == 404
        assert other.get(f"/../AUTH_{api.demo.project_id}/{container}/x").status_code in {403, 404}
    assert swift.get(f"/{container}/x").content == b"mine"


HOSTILE = [
    "/{c}/..%2F..%2F..%2Fetc%2Fpasswd",
    "/{c}/../../../../etc/passwd",
    "/{c}/%2e%2e/%2e%2e/x",
    "/{c}//etc/passwd",
    "/{c}/%00",
    "/{c}/%FF%FE",
    "/{c}/%ED%A0%80",
    "/{c}/" + "n" * 1025,
    "/" + "c" * 257,
    "/..",
    "/%2e%2e/x",
    "/%2F/x",
    "/c%0D%0AX-Evil: 1",
    "/{c}/x%0D%0AX-Evil: 1",
    "/{c}/💥",
    "/{c}/x?limit=%FF",
    "/{c}?prefix=%ED%A0%80&format=json",
    "/{c}?marker=%00",
    "/{c}?" + "a=b&" * 500,
    "//",
    "/{c}/x?format=xml",
]


@pytest.mark.parametrize("path", HOSTILE)
def test_no_path_is_a_surprise(api: Api, container: str, path: str) -> None:
    host, port = api.server.listen.split(":")
    target = f"/swift/v1/AUTH_{api.demo.project_id}" + path.format(c=container)
    for method in ("GET", "HEAD", "PUT", "POST", "DELETE", "COPY", "OPTIONS"):
        body = b"x" if method == "PUT" else b""
        request = (
            f"{method} {target.replace(' ', '%20')} HTTP/1.1\r\nHost: {host}\r\nX-Auth-Token: {api.demo.token}\r\n"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(request.encode() + body)
            with connection.makefile("rb") as answers:
                answer = answers.read()
        status = int(answer.split(b" ", 2)[1])
        assert status < 500, (method, path, answer[:300])
        assert b"\nX-Evil" not in answer
        assert b"root:" not in answer


@pytest.mark.parametrize(
    "headers",
    [
        {"X-Object-Meta-A": "v" * 300},
        {f"X-Object-Meta-{number}": "v" for number in range(95)},
        {"X-Object-Meta-" + "n" * 200: "v"},
        {"X-Object-Meta-": "v"},
        {"Content-Type": "\xff"},
        {"X-Copy-From": "/c/x"},
        {"X-Object-Manifest": "c/x"},
        {"ETag": "nonsense"},
    ],
)
def test_no_header_is_a_surprise(swift: Swift, container: str, headers: dict[str, Any]) -> None:
    sent = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    answer = swift.put(f"/{container}/x", content=b"x", headers=sent)
    assert answer.status_code in {400, 422, 501}, answer.text
    assert answer.headers["content-type"].startswith("text/plain")
    assert len(answer.text) < 500


def test_metadata_comes_back_as_it_was_sent(swift: Swift, container: str) -> None:
    sent = {b"X-Object-Meta-Colour": "grün".encode()}
    assert swift.put(f"/{container}/x", content=b"x", headers=list(sent.items())).status_code == 201
    raw = dict(swift.head(f"/{container}/x").headers.raw)
    assert raw[b"x-object-meta-colour"].decode() == "grün"


def test_what_is_too_large_is_refused_before_it_is_sent(api: Api, container: str) -> None:
    host, port = api.server.listen.split(":")
    path = f"/swift/v1/AUTH_{api.demo.project_id}/{container}/x"
    request = (
        f"PUT {path} HTTP/1.1\r\nHost: x\r\nX-Auth-Token: {api.demo.token}\r\n"
        f"Content-Length: {6 * 2**30}\r\n\r\n"
    )
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(request.encode())
        with connection.makefile("rb") as answers:
            assert int(answers.readline().split(b" ")[1]) == 413


def test_a_body_for_the_database_api_is_bounded_as_before(api: Api) -> None:
    large = json.dumps({"instance": "x" * 1_100_000}).encode()
    answer = api.demo.post("/instances", content=large, headers={"Content-Type": "application/json"})
    assert answer.status_code == 413
