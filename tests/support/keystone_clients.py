"""What tests do with a Keystone, real or simulated, through its public routes; and an Argosy that believes it."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx
import yaml

from tests.support.cloud.keystone import running_keystone
from tests.support.server import NO_TLS, Server, running

Json = dict[str, Any]
DEFAULT = {"id": "default"}


@dataclass
class Login:
    """Who somebody is; `token` is got anew with every call of `Identity.log_in`."""

    name: str
    password: str = field(repr=False)
    project: str


class KeystoneApi:
    """A Keystone by its URL, with an administrator's rights. Everything made is named for this run, and removed."""

    def __init__(self, url: str, admin: Login) -> None:
        self.url = url
        self.admin = admin
        self._http = httpx.Client(base_url=url, timeout=60, trust_env=False)
        self._undo = ExitStack()
        self._token = self.log_in(admin)
        # Argosy's own user, with no more than it needs.
        self.service = self.user("service")

    def close(self) -> None:
        with closing(self._http), self._undo:
            # Tests that revoke or disable may have ended this one as well.
            self._token = self.log_in(self.admin)

    # Logging in

    def log_in(self, who: Login, scope: Json | str | None = "") -> str:
        """A token of the user's own project, or of another scope; None is unscoped."""
        user = {"name": who.name, "domain": DEFAULT, "password": who.password}
        auth: Json = {"identity": {"methods": ["password"], "password": {"user": user}}}
        if scope == "":
            auth["scope"] = {"project": {"name": who.project, "domain": DEFAULT}}
        elif scope is None:
            auth["scope"] = "unscoped"
        else:
            auth["scope"] = scope
        return self.issue(auth)

    def issue(self, auth: Json) -> str:
        answer = self._http.post("/auth/tokens", json={"auth": auth})
        assert answer.status_code == 201, answer.text
        return answer.headers["x-subject-token"]

    def told_of(self, token: str) -> Json:
        shown: Json = self.ask("GET", "/auth/tokens", headers={"X-Subject-Token": token})["token"]
        return shown

    def revoke(self, token: str) -> None:
        self.ask("DELETE", "/auth/tokens", headers={"X-Subject-Token": token})

    # Administering

    def ask(self, method: str, path: str, body: Json | None = None, **more: Any) -> Any:
        headers = {"X-Auth-Token": self._token, **more.pop("headers", {})}
        answer = self._http.request(method, path, json=body, headers=headers, **more)
        assert answer.is_success, f"{method} {path}: {answer.text}"
        return answer.json() if answer.content else None

    def make(self, kind: str, **asked: Any) -> Json:
        """A user, project, service, endpoint or region, until the end of the tests."""
        made: Json = self.ask("POST", f"/{kind}s", {kind: asked})[kind]
        self._undo.callback(self._remove, f"/{kind}s/{made['id']}")
        return made

    def _remove(self, path: str) -> None:
        with suppress(AssertionError):
            self.ask("DELETE", path)

    def role(self, name: str) -> str:
        return str(self.ask("GET", "/roles", params={"name": name})["roles"][0]["id"])

    def project(self) -> str:
        return str(self.make("project", name=f"argosy-{secrets.token_hex(4)}", domain_id="default")["id"])

    def user(self, *roles: str, project: str | None = None) -> Login:
        """A new user with roles in a project of its own, or in this one (an id)."""
        if project is None:
            project = self.project()
        name, password = f"argosy-{secrets.token_hex(4)}", secrets.token_urlsafe(12)
        made = self.make("user", name=name, password=password, domain_id="default")
        for role in roles:
            self.ask("PUT", f"/projects/{project}/users/{made['id']}/roles/{self.role(role)}")
        shown: Json = self.ask("GET", f"/projects/{project}")["project"]
        return Login(name, password, shown["name"])

    def id_of(self, who: Login) -> str:
        return str(self.ask("GET", "/users", params={"name": who.name})["users"][0]["id"])

    def change_user(self, who: Login, **changes: Any) -> None:
        self.ask("PATCH", f"/users/{self.id_of(who)}", {"user": changes})

    def credential(self, who: Login, **asked: Any) -> Json:
        """An application credential of a user, in the user's project."""
        made: Json = self._http.post(
            f"/users/{self.id_of(who)}/application_credentials",
            json={"application_credential": {"name": f"app-{secrets.token_hex(4)}", **asked}},
            headers={"X-Auth-Token": self.log_in(who)},
        ).json()
        credential: Json = made["application_credential"]
        return credential

    def token_of_credential(self, credential: Json) -> str:
        named = {"id": credential["id"], "secret": credential["secret"]}
        return self.issue(
            {"identity": {"methods": ["application_credential"], "application_credential": named}}
        )

    def cloud(self, who: Login | Json) -> Json:
        """What clouds.yaml says of a user, or of an application credential, without a region."""
        if isinstance(who, Login):
            auth = {
                "username": who.name,
                "password": who.password,
                "project_name": who.project,
                "user_domain_name": "Default",
                "project_domain_name": "Default",
            }
        else:
            auth = {"application_credential_id": who["id"], "application_credential_secret": who["secret"]}
        kind = "v3password" if isinstance(who, Login) else "v3applicationcredential"
        return {"auth_type": kind, "auth": {"auth_url": self.url, **auth}, "identity_api_version": 3}

    def offer(self, url: str) -> str:
        """Put an Argosy into the catalog, in a region of its own, whose name this is."""
        region = f"argosy-{secrets.token_hex(4)}"
        self.make("region", id=region, name=region)
        service = self.make("service", type="database", name=f"argosy-{secrets.token_hex(4)}")
        for interface in ("public", "internal"):
            self.make(
                "endpoint",
                service_id=service["id"],
                region_id=region,
                interface=interface,
                url=f"{url}/v1.0/%(project_id)s",
            )
        return region


@dataclass
class Believing:
    """An Argosy whose users a Keystone knows. `region` is where the catalog has it."""

    server: Server
    keystone: KeystoneApi
    region: str
    directory: Path

    def get(self, path: str, token: str, **headers: str) -> httpx.Response:
        """`path` is below /v1.0."""
        return self.ask("GET", path, token, None, **headers)

    def ask(
        self, method: str, path: str, token: str, body: Json | None = None, **headers: str
    ) -> httpx.Response:
        sent = {"X-Auth-Token": token, **{name.replace("_", "-"): text for name, text in headers.items()}}
        url = f"{self.server.url}/v1.0{path}"
        return httpx.request(method, url, json=body, headers=sent, timeout=60, trust_env=False, verify=NO_TLS)

    def lists(self, token: str, project: str | None = None, **headers: str) -> httpx.Response:
        """The instances of the token's project, or of another."""
        project = project or self.keystone.told_of(token)["project"]["id"]
        return self.get(f"/{project}/instances", token, **headers)

    def write_settings(self) -> None:
        """What the environment of its processes says, for those who look into its home."""
        (self.server.home / "argosy.toml").write_text(
            f"""identity = "keystone"
[api]
listen = "{self.server.listen}"
[keystone]
auth_url = "{self.keystone.url}"
username = "{self.keystone.service.name}"
password_file = "{self.directory / "password"}"
project_name = "{self.keystone.service.project}"
"""
        )

    def cloud(self, name: str, who: Login | Json) -> None:
        """Write a cloud into the server's clouds.yaml: of a user, or of an application credential."""
        file = self.server.clouds
        stored = yaml.safe_load(file.read_text()) if file.exists() else {"clouds": {}}
        stored["clouds"][name] = {**self.keystone.cloud(who), "region_name": self.region}
        file.write_text(yaml.safe_dump(stored))


@contextmanager
def a_keystone() -> Iterator[KeystoneApi]:
    """The real one of the cloud that ARGOSY_TEST_CLOUD names, whose user is an administrator; or else a simulated one."""
    with ExitStack() as stack:
        cloud = os.environ.get("ARGOSY_TEST_CLOUD")
        if cloud is None:
            simulated = stack.enter_context(running_keystone())
            url, admin = f"{simulated.url}/v3", Login("admin", "admin", "admin")
        else:
            clouds = yaml.safe_load(Path(os.environ["OS_CLIENT_CONFIG_FILE"]).read_text())["clouds"]
            auth = clouds[cloud]["auth"]
            url, admin = auth["auth_url"], Login(auth["username"], auth["password"], auth["project_name"])
        keystone = KeystoneApi(url, admin)
        stack.callback(keystone.close)
        yield keystone


@contextmanager
def believing(keystone: KeystoneApi, *parts: str, **environment: str) -> Iterator[Believing]:
    """An Argosy that believes this Keystone, in its catalog."""
    with TemporaryDirectory() as place:
        password = Path(place) / "password"
        password.write_text(f"{keystone.service.password}\n")
        settings = {
            "ARGOSY_IDENTITY": "keystone",
            "ARGOSY_KEYSTONE__AUTH_URL": keystone.url,
            "ARGOSY_KEYSTONE__USERNAME": keystone.service.name,
            "ARGOSY_KEYSTONE__PASSWORD_FILE": str(password),
            "ARGOSY_KEYSTONE__PROJECT_NAME": keystone.service.project,
            **environment,
        }
        with running(*parts, **settings) as server:
            yield Believing(server, keystone, keystone.offer(server.url), Path(place))
