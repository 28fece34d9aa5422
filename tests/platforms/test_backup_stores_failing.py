"""What the control plane makes of stores that fail, refuse, are full, or hang up: words and kinds of errors of ours."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from argosy.domain.errors import ArgosyError, Failed, Forbidden, Invalid, Unavailable
from argosy.processes.backup_stores import backup_store
from argosy.processes.shared import URLS_KEY
from argosy.settings import BackupSettings, Settings, SwiftSettings
from argosy.storage.backup_s3 import S3Backups
from argosy.storage.backup_swift import SwiftBackups, by_name
from argosy.storage.backups import BackupStore
from argosy.storage.base import ContainerNotFound, ObjectNotFound, StoreFull

CUT = -1
Answer = tuple[int, dict[str, str], bytes]


class Store(ThreadingHTTPServer):
    """Answers everything but logging in as `answer` says; `asked` has the requests."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.asked: list[tuple[str, str, dict[str, str]]] = []
        self.tokens = 0
        self.answer: Callable[[str, dict[str, str]], Answer] = lambda *_: (200, {}, b"")

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that go away are the tests' own doing."""

    def token(self, asked: bytes) -> Answer:
        """Keystone's answer, with two regions in its catalog."""
        wanted = json.loads(asked)["auth"]["identity"]
        if wanted["password"]["user"]["password"] != "right":
            return 401, {}, b"{}"
        self.tokens += 1
        endpoints = [
            {
                "interface": "public",
                "region": region,
                "region_id": region,
                "url": f"{self.url}/v1/AUTH_{region.lower()}",
            }
            for region in ("One", "Two")
        ]
        made = {
            "methods": ["password"],
            "issued_at": "2026-11-28T00:00:00Z",
            "expires_at": "2099-01-01T00:00:00Z",
            "user": {"id": "u", "name": "backups", "domain": {"id": "default", "name": "Default"}},
            "project": {"id": "p", "name": "argosy", "domain": {"id": "default", "name": "Default"}},
            "catalog": [{"type": "object-store", "name": "swift", "endpoints": endpoints}],
        }
        return 201, {"X-Subject-Token": f"token-{self.tokens}"}, json.dumps({"token": made}).encode()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Store

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base's name
        """Nothing."""

    def do_GET(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def _answer(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        if self.path == "/auth/v1.0":
            self.server.tokens += 1
            account = f"{self.server.url}/v1/AUTH_one"
            self._say(200, {"X-Storage-Url": account, "X-Auth-Token": f"token-{self.server.tokens}"}, b"")
        elif self.path == "/v3/auth/tokens":
            self._say(*self.server.token(content))
        elif self.path in {"/v3", "/v3/"}:
            links = [{"rel": "self", "href": f"{self.server.url}/v3/"}]
            found = {"id": "v3.14", "status": "stable", "links": links}
            self._say(200, {}, json.dumps({"version": found}).encode())
        else:
            self.server.asked.append((self.command, self.path, headers))
            self._say(*self.server.answer(self.command, headers))

    def _say(self, status: int, headers: dict[str, str], content: bytes) -> None:
        self.close_connection = status == CUT or "cut" in headers
        if status == CUT:
            return
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content) + (100 if "cut" in headers else 0)))
        self.end_headers()
        self.wfile.write(content)


@pytest.fixture
def there() -> Iterator[Store]:
    store = Store()
    thread = threading.Thread(target=store.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield store
    store.shutdown()
    thread.join()
    store.server_close()


@contextmanager
def using(there: Store, kind: str) -> Iterator[BackupStore]:
    made: BackupStore = (
        S3Backups(bucket="b", endpoint=there.url, access_key="a", secret_key="s", tries=2)
        if kind == "s3"
        else SwiftBackups(by_name(f"{there.url}/auth/v1.0", "u", "p"), "key")
    )
    with closing(made):
        yield made


def s3_says(status: int, code: str) -> Answer:
    return status, {}, f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode()


@pytest.mark.parametrize(
    ("kind", "answer", "expected"),
    [
        ("s3", s3_says(500, "InternalError"), Unavailable),
        ("s3", s3_says(503, "SlowDown"), Unavailable),
        ("s3", (502, {}, b"<html>a proxy's words</html>"), Unavailable),
        ("s3", s3_says(507, "XMinioStorageFull"), StoreFull),
        ("s3", s3_says(403, "QuotaExceeded"), StoreFull),
        ("s3", s3_says(403, "AccessDenied"), Forbidden),
        ("s3", s3_says(403, "RequestTimeTooSkewed"), Failed),
        ("s3", s3_says(404, "NoSuchBucket"), ContainerNotFound),
        ("s3", (CUT, {}, b""), Unavailable),
        ("swift", (500, {}, b""), Unavailable),
        ("swift", (503, {}, b""), Unavailable),
        ("swift", (429, {}, b""), Unavailable),
        ("swift", (507, {}, b""), StoreFull),
        ("swift", (413, {}, b"Upload exceeds quota."), StoreFull),
        ("swift", (401, {}, b""), Forbidden),
        ("swift", (403, {}, b""), Forbidden),
        ("swift", (422, {}, b"odd"), Failed),
        ("swift", (CUT, {}, b""), Unavailable),
    ],
)
def test_a_write_that_fails_says_what_the_store_said(
    there: Store, kind: str, answer: Answer, expected: type[ArgosyError]
) -> None:
    there.answer = lambda *_: answer
    with using(there, kind) as store, pytest.raises(expected) as raised:
        store.put("c", "i/b/key.json", b"{}")
    assert type(raised.value) is expected


@pytest.mark.parametrize("kind", ["s3", "swift"])
def test_half_an_object_is_none(there: Store, kind: str) -> None:
    there.answer = lambda *_: (200, {"cut": "yes"}, b"half")
    with using(there, kind) as store:
        with pytest.raises(Unavailable):
            store.get("c", "i/b/manifest.json")
        with pytest.raises(Unavailable):
            list(store.read("c", "i/b/manifest.json"))


def test_an_expired_token_is_renewed(there: Store) -> None:
    good = "token-2"

    def answer(_method: str, headers: dict[str, str]) -> Answer:
        return (200, {}, b"content") if headers["x-auth-token"] == good else (401, {}, b"")

    there.answer = answer
    with using(there, "swift") as store:
        assert store.get("c", "n") == b"content"
        good = "token-3"
        assert b"".join(store.read("c", "n")) == b"content"
        good = "never"
        with pytest.raises(Forbidden):
            list(store.read("c", "n"))


def swift_by_cloud(there: Store, tmp_path: Path, **cloud: Any) -> BackupStore:
    """As the settings have it."""
    auth = {
        "auth_url": f"{there.url}/v3",
        "username": "backups",
        "password": "right",
        "project_name": "argosy",
        "user_domain_id": "default",
        "project_domain_id": "default",
    }
    clouds = tmp_path / "clouds.yaml"
    clouds.write_text(
        json.dumps({"clouds": {"backups": {"auth": {**auth, **cloud.pop("auth", {})}, **cloud}}})
    )
    wanted = BackupSettings(store="swift", swift=SwiftSettings(cloud="backups", clouds_file=clouds))
    (tmp_path / URLS_KEY).write_text("0" * 64)
    return backup_store(Settings(home=tmp_path, backups=wanted), tmp_path)


def test_keystone_tells_where_the_account_of_a_region_is(there: Store, tmp_path: Path) -> None:
    there.answer = lambda *_: (404, {}, b"")
    with closing(swift_by_cloud(there, tmp_path, region_name="Two")) as store:
        with pytest.raises(ObjectNotFound):
            store.get("c", "n")
        assert store.location("c", "i/b/") == f"{there.url}/v1/AUTH_two/c/i/b/"
    ((method, path, headers),) = there.asked
    assert (method, path, headers["x-auth-token"]) == ("GET", "/v1/AUTH_two/c/n", "token-1")


@pytest.mark.parametrize(
    ("cloud", "expected"),
    [({"auth": {"password": "wrong"}}, Forbidden), ({"region_name": "Three"}, Failed)],
)
def test_what_keystone_refuses_is_told(
    there: Store, tmp_path: Path, cloud: dict[str, Any], expected: type[ArgosyError]
) -> None:
    with closing(swift_by_cloud(there, tmp_path, **cloud)) as store, pytest.raises(expected):
        store.check("c")


def test_who_is_away_is_not_asked_for_every_line_of_a_list(there: Store, tmp_path: Path) -> None:
    with closing(swift_by_cloud(there, tmp_path, auth={"auth_url": "http://127.0.0.1:9/v3"})) as store:
        for _ in range(100):
            with pytest.raises(Unavailable):
                store.location("c", "i/b/")
    assert there.tokens == 0


@pytest.mark.parametrize(
    "text", ["", "{", "clouds: {}", "clouds: {backups: {}}", "clouds: {backups: {auth: [1]}}"]
)
def test_a_clouds_file_without_the_cloud_is_told_at_the_start(tmp_path: Path, text: str) -> None:
    clouds = tmp_path / "clouds.yaml"
    clouds.write_text(text)
    wanted = BackupSettings(store="swift", swift=SwiftSettings(cloud="backups", clouds_file=clouds))
    with pytest.raises(Invalid, match="has no cloud backups"):
        backup_store(Settings(home=tmp_path, backups=wanted), tmp_path)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"store": "s3"}, "backups.s3.bucket"),
        ({"store": "s3", "s3": {"bucket": "b", "access_key": "a"}}, "secret_key_file"),
        ({"store": "swift"}, "backups.swift"),
        ({"store": "swift", "swift": {"cloud": "c"}}, "clouds_file"),
        ({"store": "swift", "swift": {"auth_url": "http://x", "user": "u"}}, "password_file"),
        ({"store": "tape"}, "store"),
    ],
)
def test_settings_that_are_not_whole_are_refused(given: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        BackupSettings.model_validate(given)
