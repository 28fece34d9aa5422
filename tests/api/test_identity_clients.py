"""The clients people already have, logging in to a real server and keeping accounts on it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keystoneauth1.exceptions
import pytest
import troveclient.apiclient.exceptions
import yaml
from fastapi import Request
from fastapi.responses import JSONResponse
from keystoneauth1 import http_basic, session, token_endpoint
from keystoneauth1.identity import v3
from troveclient.client import HTTPClient

from argosy.domain.errors import Unauthorized
from tests.support.identity import Home, Server, fresh_home, running_server


@dataclass
class Cloud:
    """A fresh home; `requests` lists what clients sent, method and path."""

    url: str
    home: Home
    folder: Path
    requests: list[str] = field(default_factory=list)

    @property
    def auth_url(self) -> str:
        return f"{self.url}/identity/v3"

    def password(self, name: str = "demo", **more: Any) -> v3.Password:
        asked: dict[str, Any] = {
            "project_name": name,
            "user_domain_name": "Default",
            "project_domain_name": "Default",
        }
        return v3.Password(self.auth_url, username=name, password=self.home.passwords[name], **(asked | more))

    def openstack(self, cloud: str, *arguments: str) -> Any:
        """What the command prints, read as JSON where there is any. Raises CalledProcessError when it fails."""
        program = Path(sys.executable).with_name("openstack")
        clouds = {"OS_CLIENT_CONFIG_FILE": str(self.folder / "clouds.yaml"), "HOME": str(self.folder)}
        done = subprocess.run(
            [program, "--os-cloud", cloud, *arguments],
            env={"PATH": os.environ["PATH"]} | clouds,
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        return json.loads(done.stdout) if done.stdout.strip().startswith(("{", "[")) else done.stdout

    def describe(self, name: str, auth: dict[str, str], **more: str) -> None:
        """Add a cloud to clouds.yaml."""
        path = self.folder / "clouds.yaml"
        clouds = yaml.safe_load(path.read_text()) if path.exists() else {"clouds": {}}
        clouds["clouds"][name] = {"auth": auth, "region_name": "RegionOne", **more}
        path.write_text(yaml.safe_dump(clouds))


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running_server("127.77.240.2") as server:
        yield server


@pytest.fixture
def cloud(tmp_path: Path, server: Server) -> Iterator[Cloud]:
    with fresh_home(tmp_path) as home:
        cloud = Cloud(server.url, home, tmp_path)

        @home.app.middleware("http")
        async def note(request: Request, call_next: Any) -> Any:
            cloud.requests.append(f"{request.method} {request.url.path}")
            return await call_next(request)

        def instances(request: Request, project_id: str) -> JSONResponse:
            """Stands where the database API will: says who called."""
            try:
                if "authorization" in request.headers:
                    caller = home.identity.authenticate_basic(request.headers["authorization"], "test")
                else:
                    caller = home.identity.caller_of(request.headers.get("x-auth-token", ""))
            except Unauthorized as error:
                return JSONResponse({"unauthorized": {"code": 401, "message": error.sentence}}, 401)
            assert caller.project_id == project_id
            return JSONResponse({"instances": [], "caller": caller.user_name, "roles": sorted(caller.roles)})

        home.app.add_api_route("/v1.0/{project_id}/instances", instances, response_model=None)
        server.app = home.app
        for name, password in home.passwords.items():
            auth = {"auth_url": cloud.auth_url, "username": name, "password": password, "project_name": name}
            cloud.describe(name, auth | {"user_domain_name": "Default", "project_domain_name": "Default"})
        yield cloud


def token_of(plugin: Any) -> str:
    return str(session.Session(auth=plugin).get_token())


def ask(plugin: Any) -> Any:
    """The database service, found as the client of it does."""
    client = session.Session(auth=plugin)
    found = {"service_type": "database", "region_name": "RegionOne", "interface": "public"}
    return client.get("/instances", endpoint_filter=found).json()


def test_a_password_logs_in_by_the_requests_the_contract_lists(cloud: Cloud) -> None:
    answer = ask(cloud.password())
    assert answer["caller"] == "demo"
    project = cloud.home.directory.projects()[1].id
    assert cloud.requests[-2:] == ["POST /identity/v3/auth/tokens", f"GET /v1.0/{project}/instances"]
    assert set(cloud.requests[:-2]) <= {"GET /identity/v3"}


def test_the_root_of_the_identity_is_an_auth_url_as_well(cloud: Cloud) -> None:
    from keystoneauth1.identity import generic

    plugin = generic.Password(
        f"{cloud.url}/identity",
        username="demo",
        password=cloud.home.passwords["demo"],
        project_name="demo",
        user_domain_id="default",
        project_domain_id="default",
    )
    assert ask(plugin)["caller"] == "demo"
    assert cloud.requests[0] == "GET /identity"


def test_a_token_buys_another(cloud: Cloud) -> None:
    first = token_of(cloud.password())
    again = v3.Token(cloud.auth_url, first, project_name="demo", project_domain_name="Default")
    assert ask(again)["caller"] == "demo"


def test_an_application_credential_logs_in_without_the_password(cloud: Cloud) -> None:
    made = cloud.openstack(
        "demo", "application credential", "create", "app", "--role", "member", "-f", "json"
    )
    plugin = v3.ApplicationCredential(
        cloud.auth_url, application_credential_id=made["ID"], application_credential_secret=made["Secret"]
    )
    assert ask(plugin) == {"instances": [], "caller": "demo", "roles": ["member"]}
    listed = cloud.openstack("demo", "application credential", "list", "-f", "json")
    assert [each["Name"] for each in listed] == ["app"]
    shown = cloud.openstack("demo", "application credential", "show", "app", "-f", "json")
    assert shown["Project ID"] == made["Project ID"]
    cloud.openstack("demo", "application credential", "delete", "app")
    with pytest.raises(keystoneauth1.exceptions.Unauthorized):
        ask(
            plugin.__class__(
                cloud.auth_url, application_credential_id=made["ID"], application_credential_secret="x"
            )
        )


def test_basic_and_a_bare_token_need_no_catalog(cloud: Cloud) -> None:
    token = token_of(cloud.password())
    endpoint = f"{cloud.url}/v1.0/{cloud.home.identity.caller_of(token).project_id}"
    basic = http_basic.HTTPBasicAuth(
        endpoint=endpoint, username="demo", password=cloud.home.passwords["demo"]
    )
    assert ask(basic)["caller"] == "demo"
    assert ask(token_endpoint.Token(endpoint, token))["caller"] == "demo"


def test_troveclient_without_a_session_logs_in_the_old_way(cloud: Cloud) -> None:
    password = cloud.home.passwords["demo"]
    client = HTTPClient("demo", password, "demo", f"{cloud.url}/identity/v2.0", service_type="database")
    client.authenticate()
    caller = cloud.home.identity.caller_of(client.auth_token)
    assert client.management_url == f"{cloud.url}/v1.0/{caller.project_id}"
    refused = HTTPClient("demo", "wrong", "demo", f"{cloud.url}/identity/v2.0", service_type="database")
    with pytest.raises(troveclient.apiclient.exceptions.Unauthorized):
        refused.authenticate()


def test_a_client_whose_token_was_revoked_logs_in_again(cloud: Cloud) -> None:
    plugin = cloud.password()
    client = session.Session(auth=plugin)
    cloud.home.identity.revoke(str(client.get_token()))
    assert client.get("/instances", endpoint_filter={"service_type": "database"}).status_code == 200
    assert cloud.requests.count("POST /identity/v3/auth/tokens") == 2


@pytest.mark.parametrize(
    "wrong", [{"password": "wrong"}, {"project_name": "admin"}, {"user_domain_name": "Other"}]
)
def test_a_login_that_is_refused_says_so(cloud: Cloud, wrong: dict[str, str]) -> None:
    asked: dict[str, Any] = {
        "username": "demo",
        "password": cloud.home.passwords["demo"],
        "project_name": "demo",
    }
    asked |= {"user_domain_name": "Default", "project_domain_name": "Default"} | wrong
    with pytest.raises(keystoneauth1.exceptions.Unauthorized):
        ask(v3.Password(cloud.auth_url, **asked))


def test_openstack_logs_in_without_naming_a_domain(cloud: Cloud) -> None:
    auth = {"auth_url": cloud.auth_url, "username": "demo", "password": cloud.home.passwords["demo"]}
    cloud.describe("plain", auth | {"project_name": "demo"})
    issued = cloud.openstack("plain", "token", "issue", "-f", "json")
    assert cloud.home.identity.caller_of(issued["id"]).user_name == "demo"
    cloud.openstack("plain", "token", "revoke", issued["id"])
    with pytest.raises(Unauthorized):
        cloud.home.identity.caller_of(issued["id"])
    types = [service["Type"] for service in cloud.openstack("plain", "catalog", "list", "-f", "json")]
    assert types == ["identity", "database", "object-store"]


def test_openstack_database_commands_get_as_far_as_the_database_api(cloud: Cloud) -> None:
    assert cloud.openstack("demo", "database", "instance", "list", "-f", "json") == []


def test_an_administrator_keeps_accounts_with_openstack(cloud: Cloud) -> None:
    def admin(*arguments: str) -> Any:
        return cloud.openstack("admin", *arguments)

    project = admin("project", "create", "web", "--description", "Web", "-f", "json")
    user = admin("user", "create", "ann", "--project", "web", "--password", "first", "-f", "json")
    admin("role", "add", "member", "--user", "ann", "--project", "web")
    (assigned,) = admin("role", "assignment", "list", "--user", "ann", "--names", "-f", "json")
    assert (assigned["Role"], assigned["Project"]) == ("member", "web@Default")
    cloud.home.passwords["ann"] = "first"
    ann = token_of(cloud.password("ann", project_name="web"))
    assert cloud.home.identity.caller_of(ann).project_id == project["id"]

    admin("user", "set", "ann", "--email", "ann@web.test", "--disable")
    shown = admin("user", "show", "ann", "-f", "json")
    assert (shown["email"], shown["enabled"], shown["id"]) == ("ann@web.test", False, user["id"])
    with pytest.raises(Unauthorized):
        cloud.home.identity.caller_of(ann)
    admin("user", "set", "ann", "--enable")
    admin("project", "set", "web", "--name", "web2")
    assert admin("project", "show", "web2", "-f", "json")["id"] == project["id"]
    admin("role", "remove", "member", "--user", "ann", "--project", "web2")
    assert admin("role", "assignment", "list", "--project", "web2", "-f", "json") == []
    assert {role["Name"] for role in admin("role", "list", "-f", "json")} == {
        "admin",
        "member",
        "reader",
        "service",
    }
    admin("user", "delete", "ann")
    admin("project", "delete", "web2")
    assert [each["Name"] for each in admin("user", "list", "-f", "json")] == ["admin", "demo"]
    assert [each["Name"] for each in admin("project", "list", "-f", "json")] == ["admin", "demo"]


def test_a_user_changes_the_password_with_openstack_and_may_do_little_else(cloud: Cloud) -> None:
    old = cloud.home.passwords["demo"]
    cloud.openstack("demo", "user", "password", "set", "--original-password", old, "--password", "better")
    with pytest.raises(keystoneauth1.exceptions.Unauthorized):
        ask(cloud.password())
    cloud.home.passwords["demo"] = "better"
    assert ask(cloud.password())["caller"] == "demo"
    auth = {"auth_url": cloud.auth_url, "username": "demo", "password": "better", "project_name": "demo"}
    cloud.describe("demo", auth)
    assert cloud.openstack("demo", "project", "show", "demo", "-f", "json")["name"] == "demo"
    assert cloud.openstack("demo", "user", "show", "demo", "-f", "json")["name"] == "demo"
    with pytest.raises(subprocess.CalledProcessError) as refused:
        cloud.openstack("demo", "user", "create", "eve", "--password", "x")
    assert "identity:create_user" in refused.value.stderr
