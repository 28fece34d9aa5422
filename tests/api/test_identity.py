"""The identity API on the wire, field by field, and what it answers to nonsense."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.identity import Server, fresh_home, running_server
from tests.support.server import NO_TLS


@dataclass
class Keystone:
    """The API of a fresh home, with the passwords of its two users."""

    http: httpx.Client
    v3: str
    passwords: dict[str, str]

    def log_in(self, name: str = "demo", scope: Any = None, **more: Any) -> httpx.Response:
        user = {"name": name, "domain": {"name": "Default"}, "password": self.passwords.get(name, "x")} | more
        scope = {"project": {"name": name, "domain": {"name": "Default"}}} if scope is None else scope
        return self.auth({"methods": ["password"], "password": {"user": user}}, scope)

    def auth(self, identity: Any, scope: Any = None) -> httpx.Response:
        auth = {"identity": identity} if scope is None else {"identity": identity, "scope": scope}
        return self.http.post(f"{self.v3}/auth/tokens", json={"auth": auth})

    def token(self, name: str = "demo") -> dict[str, str]:
        return {"X-Auth-Token": self.log_in(name).headers["x-subject-token"]}


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running_server() as server:
        yield server


@pytest.fixture
def keystone(tmp_path: Path, server: Server) -> Iterator[Keystone]:
    with fresh_home(tmp_path) as home, httpx.Client(base_url=server.url, verify=NO_TLS, timeout=60) as http:
        server.app = home.app
        yield Keystone(http, f"{server.url}/identity/v3", home.passwords)


@pytest.mark.parametrize("path", ["/identity", "/identity/"])
def test_the_root_lists_the_version(keystone: Keystone, path: str) -> None:
    answer = keystone.http.get(path)
    assert answer.status_code == 300
    (version,) = answer.json()["versions"]["values"]
    assert version["links"] == [{"rel": "self", "href": f"{keystone.v3}/"}]


@pytest.mark.parametrize("path", ["/identity/v3", "/identity/v3/"])
def test_the_version_says_where_it_is(keystone: Keystone, path: str) -> None:
    answer = keystone.http.get(path)
    assert answer.status_code == 200
    assert answer.json()["version"]["id"].startswith("v3.")
    assert answer.json()["version"]["links"][0]["href"] == f"{keystone.v3}/"


def test_a_token_has_every_field_a_client_reads(keystone: Keystone) -> None:
    answer = keystone.log_in()
    assert answer.status_code == 201
    assert not answer.headers["x-subject-token"].startswith("-")
    token = answer.json()["token"]
    assert token["methods"] == ["password"]
    assert token["user"]["domain"] == token["project"]["domain"] == {"id": "default", "name": "Default"}
    assert token["issued_at"].endswith("Z")
    assert token["expires_at"] > token["issued_at"]
    assert [role["name"] for role in token["roles"]] == ["member"]
    urls = {
        (service["type"], endpoint["interface"]): (endpoint["region"], endpoint["url"])
        for service in token["catalog"]
        for endpoint in service["endpoints"]
    }
    for interface in ("public", "internal", "admin"):
        assert urls["identity", interface] == ("RegionOne", keystone.v3)
        assert urls["database", interface] == (
            "RegionOne",
            f"{keystone.v3.removesuffix('/identity/v3')}/v1.0/{token['project']['id']}",
        )
    assert "password" not in token["user"]


@pytest.mark.parametrize("domain", [{}, {"domain": {"id": "default"}}, {"domain": {"name": "default"}}])
def test_a_missing_domain_is_the_default_one(keystone: Keystone, domain: dict[str, Any]) -> None:
    user = {"name": "demo", "password": keystone.passwords["demo"], **domain}
    scope = {"project": {"name": "demo", **domain}}
    answer = keystone.auth({"methods": ["password"], "password": {"user": user}}, scope)
    assert answer.status_code == 201


def test_an_unscoped_token_has_no_project_and_no_catalog(keystone: Keystone) -> None:
    ways: list[Any] = ["unscoped", {"unscoped": {}}]
    for scope in ways:
        token = keystone.log_in(scope=scope).json()["token"]
        assert not {"project", "catalog", "roles"} & token.keys()


def test_a_token_can_be_shown_checked_and_revoked(keystone: Keystone) -> None:
    mine = keystone.token()
    headers = mine | {"X-Subject-Token": mine["X-Auth-Token"]}
    shown = keystone.http.get(f"{keystone.v3}/auth/tokens", headers=headers)
    assert shown.status_code == 200
    assert shown.headers["x-subject-token"] == mine["X-Auth-Token"]
    assert "catalog" in shown.json()["token"]
    assert (
        "catalog"
        not in keystone.http.get(f"{keystone.v3}/auth/tokens?nocatalog", headers=headers).json()["token"]
    )
    assert keystone.http.head(f"{keystone.v3}/auth/tokens", headers=headers).status_code == 200
    gone = keystone.http.delete(f"{keystone.v3}/auth/tokens", headers=headers)
    assert (gone.status_code, gone.content) == (204, b"")
    assert keystone.http.get(f"{keystone.v3}/auth/tokens", headers=headers).status_code == 401


def test_the_token_of_another_is_shown_to_administrators_only(keystone: Keystone) -> None:
    demo, admin = keystone.token(), keystone.token("admin")
    url = f"{keystone.v3}/auth/tokens"
    assert (
        keystone.http.get(url, headers=admin | {"X-Subject-Token": demo["X-Auth-Token"]}).status_code == 200
    )
    assert (
        keystone.http.get(url, headers=demo | {"X-Subject-Token": admin["X-Auth-Token"]}).status_code == 403
    )
    assert keystone.http.get(url, headers=admin | {"X-Subject-Token": "unknown"}).status_code == 404
    assert keystone.http.get(url, headers=admin).status_code == 404


@pytest.mark.parametrize(
    "headers", [{}, {"X-Auth-Token": ""}, {"X-Auth-Token": "x" * 5000}, {"X-Auth-Token": "\xff"}]
)
def test_nobody_is_told_where_to_log_in(keystone: Keystone, headers: dict[str, str]) -> None:
    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    answer = keystone.http.get(f"{keystone.v3}/auth/projects", headers=raw)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == f'Keystone uri="{keystone.v3}"'
    assert answer.json()["error"] == {
        "code": 401,
        "title": "Unauthorized",
        "message": "The request you have made requires authentication.",
    }


def test_a_wrong_password_and_an_unknown_user_look_the_same(keystone: Keystone) -> None:
    wrong, unknown = keystone.log_in(password="wrong"), keystone.log_in("nobody")
    assert wrong.status_code == unknown.status_code == 401
    assert wrong.content == unknown.content


@pytest.mark.parametrize(
    "scope", [{"system": {"all": True}}, {"domain": {"id": "default"}}, {"OS-TRUST:trust": {"id": "x"}}, {}]
)
def test_a_scope_we_do_not_have_is_refused(keystone: Keystone, scope: dict[str, Any]) -> None:
    assert keystone.log_in(scope=scope).status_code == 401


NUL, LONG = "a\0b", "x" * 100_000
NONSENSE: list[Any] = [
    None, 1, "text", [], {}, {"auth": None}, {"auth": []}, {"auth": {}}, {"auth": {"identity": 5}},
    {"auth": {"identity": {"methods": []}}}, {"auth": {"identity": {"methods": "password"}}},
    {"auth": {"identity": {"methods": ["password"]}}}, {"auth": {"identity": {"methods": [None]}}},
    {"auth": {"identity": {"methods": ["totp"], "totp": {}}}},
    {"auth": {"identity": {"methods": ["password", "totp"], "password": {"user": {"name": "demo", "password": "x"}}}}},
    {"auth": {"identity": {"methods": ["password"], "password": {"user": {"name": 7, "password": "x"}}}}},
    {"auth": {"identity": {"methods": ["password"], "password": {"user": {"name": NUL, "password": NUL}}}}},
    {"auth": {"identity": {"methods": ["password"], "password": {"user": {"name": LONG, "password": "x"}}}}},
    {"auth": {"identity": {"methods": ["password"], "password": {"user": {"name": "demo", "password": LONG}}}}},
    {"auth": {"identity": {"methods": ["password"], "password": {"user": {"password": "x"}}}}},
    {"auth": {"identity": {"methods": ["password"], "password": {"user": {"id": "' OR 1=1 --", "password": "x"}}}}},
    {"auth": {"identity": {"methods": ["password"], "password": {"user": {"name": "demo", "domain": "Default",
                                                                          "password": "x"}}}}},
    {"auth": {"identity": {"methods": ["token"], "token": {"id": ""}}}},
    {"auth": {"identity": {"methods": ["token"], "token": {"id": {"$ne": 1}}}}},
    {"auth": {"identity": {"methods": ["application_credential"], "application_credential": {"secret": "x"}}}},
    {"auth": {"identity": {"methods": ["application_credential"],
                           "application_credential": {"name": "a", "user": {"id": "0"}, "secret": "x"}}}},
    {"auth": {"identity": {"methods": ["password"], "password": {"user": {"name": "demo", "password": "x"}}},
              "scope": "everything"}},
]  # fmt: skip


@pytest.mark.parametrize("body", NONSENSE, ids=range(len(NONSENSE)))
def test_a_nonsensical_login_is_refused_in_keystones_words(keystone: Keystone, body: Any) -> None:
    answer = keystone.http.post(f"{keystone.v3}/auth/tokens", json=body)
    assert answer.status_code in {400, 401}
    error = answer.json()["error"]
    assert error["code"] == answer.status_code
    assert error["message"]


@pytest.mark.parametrize(
    "body",
    [b"{", b"\xff\xfe", b'{"auth": "\\ud800"}', b"[" * 50_000, b"NaN", b"1" * 5000,
     b'{"auth": {"identity": {"methods": ["password"], "password": {"user": {"name": "\\ud800", "password": "x"}}}}}'],
    ids=range(7),
)  # fmt: skip
def test_a_body_that_is_no_json_is_refused(keystone: Keystone, body: bytes) -> None:
    answer = keystone.http.post(
        f"{keystone.v3}/auth/tokens", content=body, headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 400
    assert answer.json()["error"]["title"] == "Bad Request"


@pytest.mark.parametrize(
    "auth",
    [None, {}, {"passwordCredentials": None}, {"passwordCredentials": {"username": 1, "password": "x"}},
     {"token": {"id": "x"}}, {"passwordCredentials": {"username": NUL, "password": "x"}}],
    ids=range(6),
)  # fmt: skip
def test_a_nonsensical_login_the_old_way_is_refused(keystone: Keystone, auth: Any) -> None:
    answer = keystone.http.post("/identity/v2.0/tokens", json={"auth": auth})
    assert answer.status_code == 400


def test_a_huge_body_is_refused_before_it_is_read_whole(keystone: Keystone) -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(1000):
            yield b"[" * 10_000

    answer = keystone.http.post(
        f"{keystone.v3}/auth/tokens", content=endless(), headers={"Content-Type": "application/json"}
    )
    assert answer.status_code in {400, 413}
    assert answer.json()["error"]["code"] == answer.status_code


def test_a_password_is_never_repeated_in_an_answer(keystone: Keystone) -> None:
    user = {"name": 5, "password": "hunter2"}
    answer = keystone.auth({"methods": ["password"], "password": {"user": user, "hunter2": 1}})
    assert "hunter2" not in answer.text


@pytest.mark.parametrize("host", ["[", "a b", "evil/../x", "x" * 3000, "a:b:c"])
def test_a_strange_host_header_breaks_nothing(keystone: Keystone, host: str) -> None:
    assert keystone.http.get("/identity/v3", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize(
    "path", ["/identity/v2.0/tenants", "/identity/v3/nothing", "/identity/v3/users/a/b/c"]
)
def test_what_is_not_there_is_keystones_404(keystone: Keystone, method: str, path: str) -> None:
    answer = keystone.http.request(method, path)
    assert answer.status_code == 404
    assert answer.json()["error"]["title"] == "Not Found"


ADMIN_ONLY = [
    ("POST", "/projects", {"project": {"name": "x"}}),
    ("PATCH", "/projects/{demo}", {"project": {"enabled": False}}),
    ("DELETE", "/projects/{demo}", None),
    ("POST", "/users", {"user": {"name": "x"}}),
    ("GET", "/users/{admin}", None),
    ("PATCH", "/users/{demo}", {"user": {"enabled": True}}),
    ("DELETE", "/users/{demo}", None),
    ("GET", "/users/{admin}/projects", None),
    ("POST", "/roles", {"role": {"name": "x"}}),
    ("PATCH", "/roles/{demo}", {"role": {"name": "x"}}),
    ("DELETE", "/roles/{demo}", None),
    ("PUT", "/projects/{demo}/users/{demo}/roles/{demo}", None),
    ("DELETE", "/projects/{demo}/users/{demo}/roles/{demo}", None),
    ("HEAD", "/projects/{admin}/users/{admin}/roles/{demo}", None),
    ("GET", "/projects/{admin}/users/{admin}/roles", None),
    ("GET", "/role_assignments", None),
    ("GET", "/users/{admin}/application_credentials", None),
    ("POST", "/users/{admin}/application_credentials", {"application_credential": {"name": "x"}}),
]


@pytest.mark.parametrize(("method", "path", "body"), ADMIN_ONLY)
def test_only_an_administrator_keeps_accounts(keystone: Keystone, method: str, path: str, body: Any) -> None:
    ids = {name: keystone.log_in(name).json()["token"]["user"]["id"] for name in ("demo", "admin")}
    url = keystone.v3 + path.format(**ids)
    assert keystone.http.request(method, url, json=body, headers=keystone.token()).status_code == 403
    assert keystone.http.request(method, url, json=body).status_code == 401


WRONG: list[Any] = [None, 5, "x", [], {}, {"name": None}, {"name": ""}, {"name": "  "}, {"name": 5}, {"name": NUL},
         {"name": "x" * 300}, {"name": "x", "enabled": "yes"}, {"name": "x", "description": 5},
         {"name": "x", "description": NUL}, {"name": "x", "domain_id": "other"}]  # fmt: skip


@pytest.mark.parametrize("kind", ["project", "user"])
@pytest.mark.parametrize("value", WRONG, ids=range(len(WRONG)))
def test_accounts_of_wrong_types_are_refused(keystone: Keystone, kind: str, value: Any) -> None:
    answer = keystone.http.post(f"{keystone.v3}/{kind}s", json={kind: value}, headers=keystone.token("admin"))
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == 400


@pytest.mark.parametrize(
    "user",
    [{"password": ""}, {"password": "x" * 2000}, {"default_project_id": "nowhere"},
     {"default_project_id": "0" * 32}, {"email": "x" * 300}],
    ids=range(5),
)  # fmt: skip
def test_users_that_cannot_be_are_refused(keystone: Keystone, user: dict[str, Any]) -> None:
    answer = keystone.http.post(
        f"{keystone.v3}/users", json={"user": {"name": "x"} | user}, headers=keystone.token("admin")
    )
    assert answer.status_code == 400


def test_a_name_that_is_taken_is_a_conflict(keystone: Keystone) -> None:
    admin = keystone.token("admin")
    for kind, name in (("project", "demo"), ("user", "demo"), ("role", "member")):
        answer = keystone.http.post(f"{keystone.v3}/{kind}s", json={kind: {"name": name}}, headers=admin)
        assert answer.status_code == 409
        assert name in answer.json()["error"]["message"]


@pytest.mark.parametrize("ugly", ["%00", "%ff", "..%2f..", "x" * 2000, "%F0%9F%92%A9", "'"])
def test_ugly_ids_are_not_found(keystone: Keystone, ugly: str) -> None:
    admin = keystone.token("admin")
    for collection in ("projects", "users", "roles", "domains"):
        assert keystone.http.get(f"{keystone.v3}/{collection}/{ugly}", headers=admin).status_code == 404
        found = keystone.http.get(f"{keystone.v3}/{collection}?name={ugly}", headers=admin).json()
        assert found[collection] == []


def test_a_user_changes_the_own_password_with_the_old_one(keystone: Keystone) -> None:
    login = keystone.log_in()
    user_id, token = login.json()["token"]["user"]["id"], login.headers["x-subject-token"]
    url = f"{keystone.v3}/users/{user_id}/password"
    wrong = {"user": {"original_password": "wrong", "password": "better"}}
    right = {"user": {"original_password": keystone.passwords["demo"], "password": "better"}}
    assert keystone.http.post(url, json=wrong).status_code == 401
    assert keystone.http.post(f"{keystone.v3}/users/nobody/password", json=right).status_code == 401
    assert keystone.http.post(url, json=right).status_code == 204
    assert (
        keystone.http.get(f"{keystone.v3}/auth/projects", headers={"X-Auth-Token": token}).status_code == 401
    )
    keystone.passwords["demo"] = "better"
    assert keystone.log_in().status_code == 201


def test_a_user_is_never_shown_with_a_hash(keystone: Keystone) -> None:
    answer = keystone.http.get(f"{keystone.v3}/users", headers=keystone.token("admin"))
    assert {user["name"] for user in answer.json()["users"]} == {"admin", "demo"}
    assert "argon2" not in answer.text


def test_a_program_may_not_make_itself_another_credential(keystone: Keystone) -> None:
    user_id = keystone.log_in().json()["token"]["user"]["id"]
    url = f"{keystone.v3}/users/{user_id}/application_credentials"

    def token_of(unrestricted: bool) -> dict[str, str]:
        body = {"name": f"app-{unrestricted}", "unrestricted": unrestricted}
        made = keystone.http.post(url, json={"application_credential": body}, headers=keystone.token()).json()
        sent = {key: made["application_credential"][key] for key in ("id", "secret")}
        login = keystone.auth({"methods": ["application_credential"], "application_credential": sent})
        assert login.status_code == 201
        return {"X-Auth-Token": login.headers["x-subject-token"]}

    more = {"application_credential": {"name": "more"}}
    assert keystone.http.post(url, json=more, headers=token_of(unrestricted=False)).status_code == 403
    assert keystone.http.post(url, json=more, headers=token_of(unrestricted=True)).status_code == 201
    rules = {"application_credential": {"name": "ruled", "access_rules": [{"path": "/", "method": "GET"}]}}
    assert keystone.http.post(url, json=rules, headers=keystone.token()).status_code == 400
    listed = keystone.http.get(url, headers=keystone.token()).json()["application_credentials"]
    assert [credential["name"] for credential in listed] == ["app-False", "app-True", "more"]
    assert "secret" not in json.dumps(listed)


def test_guessing_is_answered_with_how_long_to_wait(keystone: Keystone) -> None:
    for _ in range(5):
        keystone.log_in(password="guess")
    answer = keystone.log_in()
    assert answer.status_code == 401
    assert "try again in" in answer.json()["error"]["message"]
