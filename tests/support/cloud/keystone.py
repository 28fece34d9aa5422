"""Keystone v3: users, projects and roles, tokens of them by password, token and application credential, and the catalog.

A part of the simulated cloud, and by itself (`running_keystone`): it answers as Keystone 22 does, can be told to fail, and
counts what it was asked. The same tests run against a real one (tests/openstack).
"""

from __future__ import annotations

import hashlib
import secrets
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from tests.support.cloud.wire import UNAUTHORISED, Body, Call, Caller, Refused, Service
from tests.support.identity import running_server

REGION = "RegionOne"
DOMAIN = {"id": "default", "name": "Default"}
INTERFACES = ("public", "internal", "admin")
VERSION = {
    "id": "v3.14",
    "status": "stable",
    "updated": "2020-04-07T00:00:00Z",
    "media-types": [{"base": "application/json", "type": "application/vnd.openstack.identity-v3+json"}],
}
# What there is of each kind, one of it, and what it has unless it is given.
KINDS: dict[str, tuple[str, Body]] = {
    "users": (
        "user",
        {"domain_id": "default", "enabled": True, "options": {}, "password_expires_at": None},
    ),
    "projects": (
        "project",
        {
            "domain_id": "default",
            "description": "",
            "enabled": True,
            "parent_id": "default",
            "is_domain": False,
            "tags": [],
            "options": {},
        },
    ),
    "roles": ("role", {"domain_id": None, "description": None, "options": {"immutable": True}}),
    "services": ("service", {"enabled": True}),
    "endpoints": ("endpoint", {"enabled": True, "region_id": None}),
    "regions": ("region", {"description": "", "parent_region_id": None}),
}
# Who has the one has the other, too.
IMPLIED = {"admin": "member", "member": "reader"}
# Where a role may be held that is of no one project.
SYSTEM = "system"


def fixed_id(*words: str) -> str:
    """The same for the same words in every run."""
    return hashlib.md5("/".join(words).encode(), usedforsecurity=False).hexdigest()


@dataclass
class Token:
    id: str
    body: Body
    expires_at: datetime
    where: str  # the id of a project or a domain, SYSTEM, or nothing
    credential: Body | None

    @property
    def user_id(self) -> str:
        return str(self.body["user"]["id"])


@dataclass
class Keystone(Service):
    """`failing` is asked before every answer, on a thread of its own, and may give another one."""

    path: str = "/identity"
    lifetime: timedelta = timedelta(hours=8)
    allow_expired_window: timedelta = timedelta(hours=48)
    kept: dict[str, dict[str, Body]] = field(default_factory=lambda: {kind: {} for kind in KINDS})
    passwords: dict[str, str] = field(default_factory=dict)
    grants: set[tuple[str, str, str]] = field(default_factory=set)  # user, where, role
    credentials: dict[str, Body] = field(default_factory=dict)
    tokens: dict[str, Token] = field(default_factory=dict)
    asked: Counter[str] = field(default_factory=Counter)  # by method and path
    failing: Callable[[Request], Response | None] | None = None

    def __post_init__(self) -> None:
        self.identify = self.who
        self.serve("GET /", self.versions, open_to_all=True)
        self.serve("GET /v3", self.version, open_to_all=True)
        self.serve("GET /v3/", self.version, open_to_all=True)
        self.serve("POST /v3/auth/tokens", self.issue, open_to_all=True)
        self.serve("GET /v3/auth/tokens", self.validate)
        self.serve("HEAD /v3/auth/tokens", self.validate)
        self.serve("DELETE /v3/auth/tokens", self.revoke)
        self.serve("GET /v3/auth/catalog", self.show_catalog)
        self.serve("GET /v3/auth/projects", self.own_projects)
        self.serve("GET /v3/users/{user}/application_credentials", self.list_credentials)
        self.serve("POST /v3/users/{user}/application_credentials", self.create_credential)
        self.serve("DELETE /v3/users/{user}/application_credentials/{id}", self.delete_credential)
        for where in ("projects/{where}", "domains/{where}", SYSTEM):
            self.serve(f"PUT /v3/{where}/users/{{user}}/roles/{{role}}", self.grant)
            self.serve(f"DELETE /v3/{where}/users/{{user}}/roles/{{role}}", self.withdraw)
        for kind in KINDS:
            self.serve(f"GET /v3/{kind}", partial(self.index, kind))
            self.serve(f"POST /v3/{kind}", partial(self.create, kind))
            self.serve(f"GET /v3/{kind}/{{id}}", partial(self.show, kind))
            self.serve(f"PATCH /v3/{kind}/{{id}}", partial(self.change, kind))
            self.serve(f"DELETE /v3/{kind}/{{id}}", partial(self.delete, kind))

    async def instead(self, request: Request) -> Response | None:
        self.asked[f"{request.method} {request.url.path.removeprefix(self.path).rstrip('/')}"] += 1
        failing = self.failing
        return None if failing is None else await run_in_threadpool(failing, request)

    def refusal(self, refused: Refused) -> Response:
        title = HTTPStatus(refused.status).phrase
        error = {"code": refused.status, "message": refused.message, "title": title}
        return JSONResponse({"error": error}, refused.status, refused.headers)

    def unauthorised(self) -> Response:
        return self.refusal(Refused(401, UNAUTHORISED))

    # The test's hands

    @property
    def url(self) -> str:
        return self.address + self.path

    @property
    def validations(self) -> int:
        return self.asked["GET /v3/auth/tokens"]

    def add(self, kind: str, name: str, **more: Any) -> str:
        """Its id, which is the same for the same name in every run."""
        id_ = fixed_id(KINDS[kind][0], name)
        self.kept[kind][id_] = {**KINDS[kind][1], "id": id_, "name": name, **more}
        return id_

    def add_user(self, name: str, password: str, project: str, *roles: str) -> str:
        user = self.add("users", name)
        self.passwords[user] = password
        self.grants |= {(user, fixed_id("project", project), fixed_id("role", role)) for role in roles}
        return user

    def add_service(self, kind: str, name: str, address: str) -> None:
        """`address` may be that of a path in the cloud; `%(project_id)s` is the caller's."""
        self.kept["regions"].setdefault(REGION, {**KINDS["regions"][1], "id": REGION})
        service = self.add("services", name, type=kind)
        for interface in INTERFACES:
            id_ = fixed_id("endpoint", kind, interface)
            place = {"service_id": service, "region_id": REGION, "interface": interface, "url": address}
            self.kept["endpoints"][id_] = {"id": id_, "enabled": True, **place}

    def project_id(self, name: str) -> str:
        return fixed_id("project", name)

    def expire(self, token: str, ago: timedelta = timedelta(seconds=1)) -> None:
        self.tokens[token].expires_at = datetime.now(UTC) - ago
        self.tokens[token].body["expires_at"] = _time(self.tokens[token].expires_at)

    def who(self, token: str) -> Caller | None:
        """Whom a token stands for, as every service asks."""
        known = self._living(token)
        if known is None:
            return None
        roles = frozenset(role["name"] for role in known.body.get("roles", []))
        return Caller(token, known.user_id, known.body.get("project", {}).get("id", ""), roles)

    # Versions

    def versions(self, call: Call) -> Response:
        return JSONResponse({"versions": {"values": [self._version(call)]}}, 300)

    def version(self, call: Call) -> Response:
        return JSONResponse({"version": self._version(call)})

    def _version(self, call: Call) -> Body:
        return {**VERSION, "links": [{"rel": "self", "href": f"{call.base}{self.path}/v3/"}]}

    # Tokens

    def issue(self, call: Call) -> Response:
        try:
            asked = call.body["auth"]
            methods = list(asked["identity"]["methods"])
        except (KeyError, TypeError):
            raise Refused(400, "'identity' is a required property") from None
        unknown = [name for name in methods if name not in asked["identity"]]
        if unknown:
            raise Refused(400, f"Expecting to find {unknown[0]} in identity.")
        token = self._log_in(methods, asked, call)
        self.tokens[token.id] = token
        return JSONResponse({"token": token.body}, 201, {"X-Subject-Token": token.id})

    def _log_in(self, methods: list[str], asked: Body, call: Call) -> Token:
        identity, scope = asked["identity"], asked.get("scope")
        credential: Body | None = None
        ends = datetime.now(UTC) + self.lifetime
        if "application_credential" in methods:
            given = identity["application_credential"]
            credential = self.credentials.get(given.get("id", ""))
            if credential is None or credential["secret"] != given.get("secret"):
                raise Refused(401, UNAUTHORISED)
            user = self.kept["users"].get(credential["user_id"], {})
            scope = {"project": {"id": credential["project_id"]}}
        elif "token" in methods:
            old = self._living(identity["token"]["id"])
            user = self.kept["users"][old.user_id] if old else {}
            ends = old.expires_at if old else ends
        else:
            given = identity["password"]["user"]
            user = self._found("users", given)
            if self.passwords.get(user.get("id", "")) != given.get("password"):
                user = {}
        if not user.get("enabled"):
            raise Refused(401, UNAUTHORISED)
        return self._token(user, scope, credential, methods, ends, call)

    def _found(self, kind: str, named: Body) -> Body:
        for one in self.kept[kind].values():
            if one["id"] == named.get("id") or one["name"] == named.get("name"):
                return one
        return {}

    def _token(
        self, user: Body, scope: Any, credential: Body | None, methods: list[str], ends: datetime, call: Call
    ) -> Token:
        body: Body = {
            "methods": methods,
            "user": {"domain": DOMAIN, "id": user["id"], "name": user["name"], "password_expires_at": None},
            "audit_ids": [secrets.token_urlsafe(16)],
            "expires_at": _time(ends),
            "issued_at": _time(datetime.now(UTC)),
        }
        where = ""
        match scope:
            case {"project": asked}:
                project = self._found("projects", asked)
                where = project.get("id", "")
                if not project.get("enabled"):
                    raise Refused(401, UNAUTHORISED)
                body["project"] = {"domain": DOMAIN, "id": where, "name": project["name"]}
                body["is_domain"] = False
            case {"domain": _}:
                where, body["domain"] = DOMAIN["id"], DOMAIN
            case {"system": _}:
                where, body["system"] = SYSTEM, {"all": True}
        if where:
            body["roles"] = self._held(user["id"], where, credential)
            if not body["roles"]:
                raise Refused(401, UNAUTHORISED)
            body["catalog"] = self._catalog(call.base, body.get("project", {}).get("id", ""))
        if credential is not None:
            told = {"id": credential["id"], "name": credential["name"]}
            body["application_credential"] = {**told, "restricted": not credential["unrestricted"]}
            if credential.get("access_rules"):
                body["application_credential"]["access_rules"] = credential["access_rules"]
            if credential["expires_at"]:
                # As Keystone 22 writes it: without a zone.
                body["expires_at"] = credential["expires_at"]
                ends = datetime.fromisoformat(credential["expires_at"]).replace(tzinfo=UTC)
        return Token(secrets.token_urlsafe(32), body, ends, where, credential)

    def _held(self, user: str, where: str, credential: Body | None) -> list[Body]:
        """The roles that a user has somewhere, of which a credential may have some."""
        roles = self.kept["roles"]
        held = {
            roles[role]["name"]: roles[role] for who, at, role in self.grants if (who, at) == (user, where)
        }
        for role, implied in IMPLIED.items():
            if role in held:
                held.setdefault(implied, self._found("roles", {"name": implied}))
        if credential is not None:
            names = {role["name"] for role in credential["roles"]}
            held = {name: role for name, role in held.items() if name in names}
        return [{"id": role["id"], "name": name} for name, role in held.items()]

    def _living(self, text: str, *, expired_for: timedelta = timedelta()) -> Token | None:
        token = self.tokens.get(text)
        if token is None or token.expires_at + expired_for <= datetime.now(UTC):
            return None
        user = self.kept["users"].get(token.user_id)
        project = token.body.get("project")
        there = project is None or self.kept["projects"].get(project["id"], {}).get("enabled")
        if user is None or not user["enabled"] or not there:
            return None
        if token.credential is not None and token.credential["id"] not in self.credentials:
            return None
        # Roles are those that the user has now.
        if token.where:
            token.body["roles"] = self._held(token.user_id, token.where, token.credential)
        return token if token.body.get("roles") != [] else None

    def _subject(self, call: Call, *, window: timedelta = timedelta()) -> Token:
        """The token that a request is about."""
        token = self._living(call.request.headers.get("x-subject-token", ""), expired_for=window)
        if token is None:
            raise Refused(404, "Failed to validate token")
        if token.id != call.caller.token and not call.caller.roles & {"admin", "service"}:
            raise _forbidden("validate_token")
        return token

    def validate(self, call: Call) -> Response:
        allowed = call.query("allow_expired") == "1"
        token = self._subject(call, window=self.allow_expired_window if allowed else timedelta())
        has_rules = bool(token.body.get("application_credential", {}).get("access_rules"))
        if has_rules and call.request.headers.get("openstack-identity-access-rules") != "1":
            raise Refused(404, "Failed to validate token")
        body = dict(token.body)
        if "nocatalog" in call.request.query_params:
            body.pop("catalog", None)
        return JSONResponse({"token": body}, 200, {"X-Subject-Token": token.id})

    def revoke(self, call: Call) -> Response:
        del self.tokens[self._subject(call).id]
        return Response(status_code=204)

    # The catalog

    def show_catalog(self, call: Call) -> Response:
        if not call.caller.roles:
            raise _forbidden("get_auth_catalog")
        catalog = self._catalog(call.base, call.caller.project_id)
        return JSONResponse({"catalog": catalog, "links": {"self": str(call.request.url)}})

    def _catalog(self, base: str, project_id: str) -> list[Body]:
        def endpoint(one: Body) -> Body:
            url = str(one["url"]).replace("%(project_id)s", project_id)
            shown = {key: one[key] for key in ("id", "interface", "region_id")}
            return {**shown, "region": one["region_id"], "url": base + url if url.startswith("/") else url}

        def endpoints(service: str) -> list[Body]:
            # Those of a project are nobody's without one.
            return [
                endpoint(one)
                for one in self.kept["endpoints"].values()
                if one["service_id"] == service and (project_id or "%(project_id)s" not in one["url"])
            ]

        return [
            {"id": one["id"], "type": one["type"], "name": one["name"], "endpoints": endpoints(one["id"])}
            for one in self.kept["services"].values()
        ]

    # Users, projects, roles, services, endpoints and regions

    def index(self, kind: str, call: Call) -> Response:
        _administered(call, f"list_{kind}")
        asked = {key: value for key, value in call.pairs if key != "limit"}
        found = [
            self._shown(kind, one, call)
            for one in self.kept[kind].values()
            if all(one.get(key) == value for key, value in asked.items())
        ]
        return JSONResponse({kind: found, "links": _links(call)})

    def own_projects(self, call: Call) -> Response:
        own = {where for user, where, _ in self.grants if user == call.caller.user_id}
        found = [
            self._shown("projects", one, call) for one in self.kept["projects"].values() if one["id"] in own
        ]
        return JSONResponse({"projects": found, "links": _links(call)})

    def create(self, kind: str, call: Call) -> Response:
        single, usual = KINDS[kind]
        _administered(call, f"create_{single}")
        given = dict(call.body[single])
        password = given.pop("password", None)
        made = {**usual, "id": secrets.token_hex(16), **given}
        if kind in {"users", "projects", "roles"} and self._found(kind, {"name": made["name"]}):
            what = f"Duplicate entry found with name {made['name']}"
            raise Refused(409, f"Conflict occurred attempting to store {single} - {what}.")
        self.kept[kind][made["id"]] = made
        if password is not None:
            self.passwords[made["id"]] = password
        return JSONResponse({single: self._shown(kind, made, call)}, 201)

    def show(self, kind: str, call: Call) -> Response:
        own = {"users": call.caller.user_id, "projects": call.caller.project_id}.get(kind)
        if call.part("id") != own:
            _administered(call, f"get_{KINDS[kind][0]}")
        return JSONResponse({KINDS[kind][0]: self._shown(kind, self._one(kind, call), call)})

    def change(self, kind: str, call: Call) -> Response:
        single = KINDS[kind][0]
        _administered(call, f"update_{single}")
        one, given = self._one(kind, call), dict(call.body[single])
        if "password" in given:
            self.passwords[one["id"]] = given.pop("password")
        one.update(given)
        more: Body = {"extra": {}} if kind == "users" else {}
        return JSONResponse({single: self._shown(kind, one, call) | more})

    def delete(self, kind: str, call: Call) -> Response:
        _administered(call, f"delete_{KINDS[kind][0]}")
        del self.kept[kind][self._one(kind, call)["id"]]
        return Response(status_code=204)

    def _one(self, kind: str, call: Call) -> Body:
        one = self.kept[kind].get(call.part("id"))
        if one is None:
            raise Refused(404, f"Could not find {KINDS[kind][0]}: {call.part('id')}.")
        return one

    def _shown(self, kind: str, one: Body, call: Call) -> Body:
        region = {"region": one["region_id"]} if kind == "endpoints" else {}
        return {**one, **region, "links": {"self": f"{call.base}{self.path}/v3/{kind}/{one['id']}"}}

    # Roles of users

    def grant(self, call: Call) -> Response:
        _administered(call, "create_grant")
        self.grants.add(self._granted(call))
        return Response(status_code=204)

    def withdraw(self, call: Call) -> Response:
        _administered(call, "revoke_grant")
        granted = self._granted(call)
        if granted not in self.grants:
            raise Refused(404, f"Could not find role assignment with role: {granted[2]}.")
        self.grants.discard(granted)
        return Response(status_code=204)

    def _granted(self, call: Call) -> tuple[str, str, str]:
        where = str(call.request.path_params.get("where", SYSTEM))
        for kind in ("user", "role"):
            if call.part(kind) not in self.kept[f"{kind}s"]:
                raise Refused(404, f"Could not find {kind}: {call.part(kind)}.")
        return call.part("user"), where, call.part("role")

    # Application credentials

    def list_credentials(self, call: Call) -> Response:
        own = [one for one in self.credentials.values() if one["user_id"] == call.part("user")]
        shown = [{key: value for key, value in one.items() if key != "secret"} for one in own]
        return JSONResponse({"application_credentials": shown, "links": _links(call)})

    def create_credential(self, call: Call) -> Response:
        if call.part("user") != call.caller.user_id:
            raise _forbidden("create_application_credential")
        asked = call.body["application_credential"]
        names = [role["name"] for role in asked.get("roles", [])] or sorted(call.caller.roles)
        if not set(names) <= call.caller.roles:
            raise Refused(400, "Could not find role assignment.")
        id_ = secrets.token_hex(16)
        roles = [one for one in self.kept["roles"].values() if one["name"] in names]
        credential = {
            "id": id_,
            "name": asked["name"],
            "description": asked.get("description"),
            "user_id": call.caller.user_id,
            "project_id": call.caller.project_id,
            "system": None,
            "expires_at": asked["expires_at"].removesuffix("Z") if asked.get("expires_at") else None,
            "unrestricted": asked.get("unrestricted", False),
            "roles": roles,
            "secret": asked.get("secret") or secrets.token_urlsafe(64),
            "links": {"self": f"{call.base}{self.path}/v3/application_credentials/{id_}"},
        }
        if asked.get("access_rules"):
            credential["access_rules"] = [
                {"id": secrets.token_hex(16), **rule} for rule in asked["access_rules"]
            ]
        self.credentials[id_] = credential
        return JSONResponse({"application_credential": credential}, 201)

    def delete_credential(self, call: Call) -> Response:
        if self.credentials.pop(call.part("id"), None) is None:
            raise Refused(404, f"Could not find Application Credential: {call.part('id')}.")
        return Response(status_code=204)


def _administered(call: Call, rule: str) -> None:
    if not call.caller.is_admin:
        raise _forbidden(rule)


def _forbidden(rule: str) -> Refused:
    return Refused(403, f"You are not authorized to perform the requested action: identity:{rule}.")


def _links(call: Call) -> Body:
    return {"next": None, "self": str(call.request.url), "previous": None}


def _time(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


@contextmanager
def running_keystone(
    host: str = "127.77.240.3", certificate: tuple[Path, Path] | None = None
) -> Iterator[Keystone]:
    """One by itself, with the usual roles and a user admin, whose password is its name."""
    keystone = Keystone(lambda _: None, path="")
    for role in ("admin", "member", "reader", "service"):
        keystone.add("roles", role)
    keystone.add("projects", "admin")
    keystone.add_user("admin", "admin", "admin", "admin")
    with running_server(host, certificate) as server:
        server.app = Starlette(routes=keystone.routes)
        keystone.address = server.url
        yield keystone
