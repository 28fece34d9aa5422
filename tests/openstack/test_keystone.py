"""Users whom a Keystone knows: a real one where ARGOSY_TEST_CLOUD names a cloud, else the simulated one."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from argosy.domain.instance import Flavor, Instance
from argosy.metadata.store import Store
from tests.support.keystone_clients import Believing, KeystoneApi, Login, a_keystone, believing
from tests.support.server import wait_until

CACHE_S = 2
NOTHING = "00000000-0000-0000-0000-000000000000"
REFUSED_WITHIN_S = CACHE_S + 12  # the promise is CACHE_S; the rest is for a busy machine


@pytest.fixture(scope="module")
def keystone() -> Iterator[KeystoneApi]:
    with a_keystone() as known:
        yield known


@pytest.fixture(scope="module")
def argosy(keystone: KeystoneApi) -> Iterator[Believing]:
    """The API alone, which needs no more to know its callers."""
    with believing(keystone, "api", ARGOSY_KEYSTONE__CACHE_S=str(CACHE_S)) as server:
        flavors = [Flavor("1", "db.tiny", 256, 1), Flavor("2", "db.small", 512, 1)]
        with closing(Store(server.server.settings.database_url)) as store, store.write() as tx:
            tx.flavors.publish(flavors)
        yield server


def ids(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [one["id"] for one in answer.json()["instances"]]


def refused(argosy: Believing, token: str, project: str) -> None:
    """Raises unless the token is worth nothing soon."""
    wait_until(
        "the token is refused",
        lambda: argosy.lists(token, project).status_code == 401,
        REFUSED_WITHIN_S,
        every_s=0.2,
    )


def member(keystone: KeystoneApi) -> tuple[Login, str, str]:
    """A new member of a new project: with a token, and the project's id."""
    user = keystone.user("member")
    token = keystone.log_in(user)
    return user, token, keystone.told_of(token)["project"]["id"]


# Who may what


def test_a_user_of_keystone_is_let_in_to_the_tokens_own_project(
    argosy: Believing, keystone: KeystoneApi
) -> None:
    _, token, project = member(keystone)
    assert ids(argosy.lists(token, project)) == []
    _, _, other = member(keystone)
    answer = argosy.lists(token, other)
    assert (answer.status_code, list(answer.json())) == (403, ["forbidden"])
    admin = keystone.log_in(keystone.admin)
    assert argosy.lists(admin, other).status_code == 403  # an administrator too has a project, as ever


def test_roles_decide_by_the_policy(argosy: Believing, keystone: KeystoneApi) -> None:
    answers = {}
    for role in ("reader", "member", "service"):
        token = keystone.log_in(keystone.user(role))
        project = keystone.told_of(token)["project"]["id"]
        answers[role] = (
            argosy.lists(token, project).status_code,
            argosy.ask("DELETE", f"/{project}/instances/{NOTHING}", token).status_code,
            argosy.get(f"/{project}/mgmt/instances", token).status_code,
        )
    assert answers == {"reader": (200, 403, 401), "member": (200, 404, 401), "service": (403, 403, 401)}
    token = keystone.log_in(keystone.admin)
    project = keystone.told_of(token)["project"]["id"]
    assert argosy.get(f"/{project}/mgmt/instances", token).status_code == 200


def test_the_operators_policy_file_speaks_of_keystones_roles_and_domains(
    argosy: Believing, keystone: KeystoneApi
) -> None:
    policy = argosy.server.home / "policy.yaml"
    _, token, project = member(keystone)
    try:
        policy.write_text('"instance:index": "user_domain_id:default and role:nobody"\n')
        assert argosy.lists(token, project).status_code == 403
        policy.write_text('"instance:index": "user_domain_id:default and project_domain_id:default"\n')
        assert ids(argosy.lists(token, project)) == []
    finally:
        policy.unlink()


@pytest.mark.parametrize(
    "scope",
    [None, {"domain": {"id": "default"}}, {"system": {"all": True}}],
    ids=["unscoped", "domain", "system"],
)
def test_a_token_without_a_project_gives_no_rights(
    argosy: Believing, keystone: KeystoneApi, scope: dict[str, Any] | None
) -> None:
    user, own, project = member(keystone)
    keystone.ask("PUT", f"/domains/default/users/{keystone.id_of(user)}/roles/{keystone.role('admin')}")
    keystone.ask("PUT", f"/system/users/{keystone.id_of(user)}/roles/{keystone.role('admin')}")
    token = keystone.log_in(user, scope)
    assert argosy.lists(own, project).status_code == 200
    for path in (f"/{project}/instances", f"/{project}/mgmt/instances", "/default/instances"):
        assert argosy.get(path, token).status_code == 403


def test_quotas_are_of_projects_that_keystone_has(argosy: Believing, keystone: KeystoneApi) -> None:
    admin = keystone.log_in(keystone.admin)
    own = keystone.told_of(admin)["project"]["id"]
    other = keystone.project()
    changed = argosy.ask("PUT", f"/{own}/mgmt/quotas/{other}", admin, {"quotas": {"instances": 3}})
    assert changed.json() == {"quotas": {"instances": 3}}
    shown = argosy.get(f"/{own}/mgmt/quotas/{other}", admin).json()["quotas"]
    assert {one["resource"]: one["limit"] for one in shown}["instances"] == 3
    assert argosy.get(f"/{own}/mgmt/quotas/no%20project", admin).status_code == 404


def test_an_administrator_finds_and_deletes_what_a_deleted_project_has_left(
    argosy: Believing, keystone: KeystoneApi
) -> None:
    project, now = keystone.project(), datetime.now(UTC)
    left = Instance(
        id=str(uuid.uuid4()),
        project_id=project,
        name="left",
        datastore="mariadb",
        version="11.8",
        flavor_id="1",
        volume_gb=1,
        created_at=now,
        updated_at=now,
        access={"is_public": False},
    )
    with closing(Store(argosy.server.settings.database_url)) as store, store.write() as tx:
        tx.instances.add(left)
    keystone.ask("DELETE", f"/projects/{project}")
    argosy.cloud("admin", keystone.admin)
    listed = ask(argosy, "admin", "argosy", "admin", "instances", "--project", project, "--json")
    assert [one["id"] for one in listed] == [left.id]
    admin = keystone.log_in(keystone.admin)
    own = keystone.told_of(admin)["project"]["id"]
    assert argosy.ask("DELETE", f"/{own}/instances/{left.id}", admin).status_code == 202


# What a token is worth


@pytest.mark.parametrize("token", ["", "nonsense", "gAAAAA" + "x" * 200, "y" * 9000, "\xe9t\xe9"])
def test_what_is_no_token_is_refused_and_told_where_to_get_one(
    argosy: Believing, keystone: KeystoneApi, token: str
) -> None:
    url = f"{argosy.server.url}/v1.0/{'0' * 32}/instances"
    for _ in range(2):
        answer = httpx.get(url, headers={b"X-Auth-Token": token.encode("latin-1")}, trust_env=False)
        assert (answer.status_code, list(answer.json())) == (401, ["unauthorized"])
        assert answer.headers["www-authenticate"] == f'Keystone uri="{keystone.url}"'
    nobody = httpx.get(url, trust_env=False)
    assert nobody.headers["www-authenticate"] == f'Keystone uri="{keystone.url}"'
    assert f"{keystone.url}/auth/tokens" in nobody.json()["unauthorized"]["message"]
    basic = httpx.get(url, auth=("demo", "demo"), trust_env=False)
    assert (basic.status_code, "HTTP Basic" in basic.text) == (401, True)


def test_a_revoked_token_is_refused_within_the_time_stated(argosy: Believing, keystone: KeystoneApi) -> None:
    user, token, project = member(keystone)
    assert ids(argosy.lists(token, project)) == []
    keystone.revoke(token)
    refused(argosy, token, project)
    assert ids(argosy.lists(keystone.log_in(user), project)) == []


def test_the_token_of_a_user_who_was_disabled_is_refused(argosy: Believing, keystone: KeystoneApi) -> None:
    user, token, project = member(keystone)
    assert ids(argosy.lists(token, project)) == []
    keystone.change_user(user, enabled=False)
    refused(argosy, token, project)


def test_a_role_that_was_taken_away_is_gone_within_the_time_stated(
    argosy: Believing, keystone: KeystoneApi
) -> None:
    user = keystone.user("member", "reader")
    token = keystone.log_in(user)
    project = keystone.told_of(token)["project"]["id"]
    assert ids(argosy.lists(token, project)) == []
    for role in ("member", "reader"):
        keystone.ask(
            "DELETE", f"/projects/{project}/users/{keystone.id_of(user)}/roles/{keystone.role(role)}"
        )
    wait_until(
        "the role is gone",
        lambda: argosy.lists(token, project).status_code in {401, 403},
        REFUSED_WITHIN_S,
        every_s=0.2,
    )


# Application credentials


def test_an_application_credential_has_the_roles_it_was_given(
    argosy: Believing, keystone: KeystoneApi
) -> None:
    user = keystone.user("member", "reader")
    whole, restricted = keystone.credential(user), keystone.credential(user, roles=[{"name": "reader"}])
    statuses = []
    for credential in (whole, restricted):
        token = keystone.token_of_credential(credential)
        project = keystone.told_of(token)["project"]["id"]
        assert ids(argosy.lists(token, project)) == []
        statuses.append(argosy.ask("DELETE", f"/{project}/instances/{NOTHING}", token).status_code)
    assert statuses == [404, 403]


def test_access_rules_of_an_application_credential_hold(argosy: Believing, keystone: KeystoneApi) -> None:
    user = keystone.user("member", "reader")
    rules = [
        {"service": "database", "method": "GET", "path": "/v1.0/*/instances"},
        {"service": "database", "method": "GET", "path": "/v1.0/{project_id}/flavors/**"},
        {"service": "compute", "method": "GET", "path": "/**"},
    ]
    token = keystone.token_of_credential(keystone.credential(user, access_rules=rules))
    project = _project_of(keystone, user)
    for path, status in {
        f"/{project}/instances": 200,
        f"/{project}/flavors/1": 200,
        f"/{project}/flavors": 401,
        f"/{project}/instances/{NOTHING}": 401,
        f"/{project}/configurations": 401,
    }.items():
        assert argosy.get(path, token).status_code == status, path
    assert argosy.ask("POST", f"/{project}/instances", token, {}).status_code == 401
    assert "access rules" in argosy.get(f"/{project}/configurations", token).text


def _project_of(keystone: KeystoneApi, user: Login) -> str:
    return str(keystone.told_of(keystone.log_in(user))["project"]["id"])


# Other services


def test_a_service_may_ask_for_a_user_and_nobody_else(argosy: Believing, keystone: KeystoneApi) -> None:
    _, token, project = member(keystone)
    service = keystone.log_in(keystone.user("service"))
    assert ids(argosy.lists(token, project, x_service_token=service)) == []
    for not_one in (token, "nonsense"):
        answer = argosy.lists(token, project, x_service_token=not_one)
        assert answer.status_code == 401
    assert ids(argosy.lists(token, project)) == []


def test_an_expired_token_is_let_in_for_a_service_that_vouches_for_it(
    argosy: Believing, keystone: KeystoneApi
) -> None:
    user = keystone.user("member")
    project = _project_of(keystone, user)
    service = keystone.log_in(keystone.user("service"))
    # The only token that ends when we say so is that of an application credential.
    ends = datetime.now(UTC) + timedelta(seconds=6)
    credential = keystone.credential(user, expires_at=ends.strftime("%Y-%m-%dT%H:%M:%S.%fZ"))
    token = keystone.token_of_credential(credential)
    refused(argosy, token, project)
    assert datetime.now(UTC) >= ends
    assert ids(argosy.lists(token, project, x_service_token=service)) == []
    assert argosy.lists(token, project).status_code == 401


def test_a_service_is_not_held_to_the_access_rules_of_the_user(
    argosy: Believing, keystone: KeystoneApi
) -> None:
    user = keystone.user("member", "reader")
    rules = [{"service": "compute", "method": "POST", "path": "/v2.1/servers"}]
    token = keystone.token_of_credential(keystone.credential(user, access_rules=rules))
    project = _project_of(keystone, user)
    service = keystone.log_in(keystone.user("service"))
    assert argosy.lists(token, project).status_code == 401
    assert ids(argosy.lists(token, project, x_service_token=service)) == []
    assert argosy.lists(token, project).status_code == 401


# What Argosy is not


def test_no_account_is_made_and_no_keystone_served(argosy: Believing, keystone: KeystoneApi) -> None:
    for path in ("/identity", "/identity/v3", "/identity/v3/auth/tokens"):
        answer = httpx.get(f"{argosy.server.url}{path}", trust_env=False)
        assert (answer.status_code, list(answer.json())) == (404, ["itemNotFound"])
    with believing(keystone, "api") as fresh:
        assert not fresh.server.clouds.exists()
        fresh.write_settings()
        shown = fresh.server.command("argosy", "status", "--home", str(fresh.server.home))
    assert fresh.server.url in shown.stdout
    assert "Keystone knows the users" in shown.stdout


# The clients people have


def ask(argosy: Believing, cloud: str, program: str, *arguments: str) -> Any:
    done = argosy.server.command(program, *arguments, cloud=cloud)
    assert done.returncode == 0, f"{arguments}: {done.stdout} {done.stderr}"
    return json.loads(done.stdout)


def test_openstacks_client_finds_argosy_in_the_catalog(argosy: Believing, keystone: KeystoneApi) -> None:
    user = keystone.user("member", "reader")
    argosy.cloud("user", user)
    argosy.cloud("app", keystone.credential(user))
    argosy.cloud("admin", keystone.admin)
    for cloud in ("user", "app"):
        assert ask(argosy, cloud, "openstack", "database", "instance", "list", "-f", "json") == []
        flavors = ask(argosy, cloud, "openstack", "database", "flavor", "list", "-f", "json")
        assert {"db.tiny", "db.small"} <= {one["Name"] for one in flavors}
    everybodys = ask(
        argosy, "admin", "openstack", "database", "instance", "list", "--all-projects", "-f", "json"
    )
    assert {one["Name"] for one in everybodys} <= {"left"}
    done = argosy.server.command("openstack", "database", "instance", "list", "--all-projects", cloud="user")
    assert (done.returncode, "HTTP 401" in done.stderr or "401" in done.stderr) == (1, True), done.stderr


def test_argosys_client_logs_in_through_keystone(argosy: Believing, keystone: KeystoneApi) -> None:
    user = keystone.user("member", "reader")
    argosy.cloud("user", user)
    argosy.cloud("app", keystone.credential(user))
    argosy.cloud("admin", keystone.admin)
    for cloud in ("user", "app"):
        assert ask(argosy, cloud, "argosy", "list", "--json") == []
    for command in (["users", "list"], ["projects", "create", "x"], ["roles", "assignments"]):
        done = argosy.server.command("argosy", "admin", *command, cloud="admin")
        assert (done.returncode, "openstack user" in done.stderr) == (1, True), done.stderr
    assert ask(argosy, "admin", "argosy", "admin", "instances", "--project", user.project, "--json") == []
    limited = argosy.server.command("argosy", "quota", "set", user.project, "--instances", "3", cloud="admin")
    assert f"{user.project} may have 3 instances" in limited.stdout, limited.stderr


def test_many_requests_with_one_new_token_are_all_let_in(argosy: Believing, keystone: KeystoneApi) -> None:
    _, token, project = member(keystone)
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda _: argosy.lists(token, project).status_code, range(24)))
    assert answers == [200] * 24
