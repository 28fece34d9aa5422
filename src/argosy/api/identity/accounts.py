"""Projects, users, roles and application credentials.

An administrator may everything. Others see themselves, their projects and the roles, change their own password and
handle their own application credentials.
"""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus
from typing import Any, TypeVar

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel

from argosy.api.identity import views
from argosy.api.identity.bodies import (
    NewCredential,
    NewProject,
    NewRole,
    NewUser,
    PasswordChange,
    ProjectChange,
    RoleChange,
    UserChange,
)
from argosy.api.identity.calls import Calls
from argosy.domain.errors import Forbidden, NotFound
from argosy.domain.identity import DOMAIN_ID, DOMAIN_NAME, Assignment, Caller, Project, Role, User
from argosy.identity import Directory

_Named = TypeVar("_Named", Project, User, Role)
_NO_CONTENT = HTTPStatus.NO_CONTENT


class AccountRoutes:
    def __init__(self, calls: Calls, directory: Directory) -> None:
        self._calls = calls
        self._directory = directory

    def add_to(self, router: APIRouter) -> None:
        grants = "/v3/projects/{project_id}/users/{user_id}/roles"
        own = "/v3/users/{user_id}/application_credentials"
        for method, path, handler in (
            ("GET", "/v3/domains", self.domains),
            ("GET", "/v3/domains/{domain_id}", self.domain),
            ("GET", "/v3/projects", self.projects),
            ("POST", "/v3/projects", self.create_project),
            ("GET", "/v3/projects/{project_id}", self.project),
            ("PATCH", "/v3/projects/{project_id}", self.change_project),
            ("DELETE", "/v3/projects/{project_id}", self.delete_project),
            ("GET", "/v3/users", self.users),
            ("POST", "/v3/users", self.create_user),
            ("GET", "/v3/users/{user_id}", self.user),
            ("PATCH", "/v3/users/{user_id}", self.change_user),
            ("DELETE", "/v3/users/{user_id}", self.delete_user),
            ("POST", "/v3/users/{user_id}/password", self.change_own_password),
            ("GET", "/v3/users/{user_id}/projects", self.projects_of_user),
            ("GET", "/v3/roles", self.roles),
            ("POST", "/v3/roles", self.create_role),
            ("GET", "/v3/roles/{role_id}", self.role),
            ("PATCH", "/v3/roles/{role_id}", self.change_role),
            ("DELETE", "/v3/roles/{role_id}", self.delete_role),
            ("GET", "/v3/role_assignments", self.assignments),
            ("GET", grants, self.grants),
            ("PUT", grants + "/{role_id}", self.grant),
            ("GET", grants + "/{role_id}", self.check_grant),
            ("HEAD", grants + "/{role_id}", self.check_grant),
            ("DELETE", grants + "/{role_id}", self.withdraw),
            ("GET", own, self.credentials),
            ("POST", own, self.create_credential),
            ("GET", own + "/{credential_id}", self.credential),
            ("DELETE", own + "/{credential_id}", self.delete_credential),
        ):
            router.add_api_route(path, handler, methods=[method])

    # Domains

    def domains(self, request: Request) -> JSONResponse:
        self._calls.caller(request)
        url = self._calls.url(request)
        asked = request.query_params.get("name", DOMAIN_NAME)
        found = [views.domain(url)] if asked.casefold() == DOMAIN_NAME.casefold() else []
        return JSONResponse(views.listed("domains", found, f"{url}/domains"))

    def domain(self, request: Request, domain_id: str) -> JSONResponse:
        self._calls.caller(request)
        if domain_id != DOMAIN_ID:
            raise NotFound(f"There is no domain {domain_id!r}.")
        return JSONResponse({"domain": views.domain(self._calls.url(request))})

    # Projects

    def projects(self, request: Request) -> JSONResponse:
        caller = self._calls.caller(request)
        found = self._directory.projects() if caller.is_admin else self._directory.projects_of(caller.user_id)
        url = self._calls.url(request)
        shown = [views.project(project, url) for project in _asked_for(request, found)]
        return JSONResponse(views.listed("projects", shown, f"{url}/projects"))

    def create_project(self, request: Request, body: NewProject) -> JSONResponse:
        self._calls.administrator(request, "identity:create_project")
        sent = body.project
        project = self._directory.create_project(
            sent.name, description=sent.description or "", enabled=sent.enabled is not False
        )
        return self._project(request, project, HTTPStatus.CREATED)

    def project(self, request: Request, project_id: str) -> JSONResponse:
        caller = self._calls.caller(request)
        if caller.is_admin:
            return self._project(request, self._directory.project(project_id))
        for project in self._directory.projects_of(caller.user_id):
            if project.id == project_id:
                return self._project(request, project)
        raise NotFound(f"There is no project {project_id!r}, or none of yours.")

    def change_project(self, request: Request, project_id: str, body: ProjectChange) -> JSONResponse:
        self._calls.administrator(request, "identity:update_project")
        project = self._directory.change_project(project_id, **_changes(body.project))
        return self._project(request, project)

    def delete_project(self, request: Request, project_id: str) -> Response:
        self._calls.administrator(request, "identity:delete_project")
        self._directory.delete_project(project_id)
        return Response(status_code=_NO_CONTENT)

    # Users

    def users(self, request: Request) -> JSONResponse:
        caller = self._calls.caller(request)
        found = self._directory.users() if caller.is_admin else [self._directory.user(caller.user_id)]
        url = self._calls.url(request)
        shown = [views.user(user, url) for user in _asked_for(request, found)]
        return JSONResponse(views.listed("users", shown, f"{url}/users"))

    def create_user(self, request: Request, body: NewUser) -> JSONResponse:
        self._calls.administrator(request, "identity:create_user")
        sent = body.user
        user = self._directory.create_user(
            sent.name,
            password=None if sent.password is None else sent.password.get_secret_value(),
            email=sent.email,
            description=sent.description or "",
            default_project_id=sent.default_project_id,
            enabled=sent.enabled is not False,
        )
        return self._user(request, user, HTTPStatus.CREATED)

    def user(self, request: Request, user_id: str) -> JSONResponse:
        self._calls.oneself_or_administrator(request, user_id, "identity:get_user")
        return self._user(request, self._directory.user(user_id))

    def change_user(self, request: Request, user_id: str, body: UserChange) -> JSONResponse:
        self._calls.administrator(request, "identity:update_user")
        changes = _changes(body.user, clearable=("email", "default_project_id"))
        password = changes.pop("password", None)
        user = self._directory.change_user(
            user_id, password=None if password is None else password.get_secret_value(), **changes
        )
        return self._user(request, user)

    def delete_user(self, request: Request, user_id: str) -> Response:
        self._calls.administrator(request, "identity:delete_user")
        self._directory.delete_user(user_id)
        return Response(status_code=_NO_CONTENT)

    def change_own_password(self, request: Request, user_id: str, body: PasswordChange) -> Response:
        # The old password is the proof; a token is not asked for, as in Keystone.
        self._directory.change_own_password(
            user_id,
            original=body.user.original_password.get_secret_value(),
            password=body.user.password.get_secret_value(),
            source=self._calls.source(request),
        )
        return Response(status_code=_NO_CONTENT)

    def projects_of_user(self, request: Request, user_id: str) -> JSONResponse:
        self._calls.oneself_or_administrator(request, user_id, "identity:list_user_projects")
        url = self._calls.url(request)
        found = self._directory.projects_of(self._directory.user(user_id).id)
        shown = [views.project(project, url) for project in _asked_for(request, found)]
        return JSONResponse(views.listed("projects", shown, f"{url}/users/{user_id}/projects"))

    # Roles and who has them

    def roles(self, request: Request) -> JSONResponse:
        self._calls.caller(request)
        url = self._calls.url(request)
        found = [views.role(role, url) for role in _asked_for(request, self._directory.roles())]
        return JSONResponse(views.listed("roles", found, f"{url}/roles"))

    def create_role(self, request: Request, body: NewRole) -> JSONResponse:
        self._calls.administrator(request, "identity:create_role")
        role = self._directory.create_role(body.role.name, description=body.role.description or "")
        return JSONResponse({"role": views.role(role, self._calls.url(request))}, HTTPStatus.CREATED)

    def role(self, request: Request, role_id: str) -> JSONResponse:
        self._calls.caller(request)
        return JSONResponse({"role": views.role(self._directory.role(role_id), self._calls.url(request))})

    def change_role(self, request: Request, role_id: str, body: RoleChange) -> JSONResponse:
        self._calls.administrator(request, "identity:update_role")
        role = self._directory.change_role(role_id, **_changes(body.role))
        return JSONResponse({"role": views.role(role, self._calls.url(request))})

    def delete_role(self, request: Request, role_id: str) -> Response:
        self._calls.administrator(request, "identity:delete_role")
        self._directory.delete_role(role_id)
        return Response(status_code=_NO_CONTENT)

    def assignments(self, request: Request) -> JSONResponse:
        asked = request.query_params
        user_id = asked.get("user.id")
        self._calls.oneself_or_administrator(request, user_id or "", "identity:list_role_assignments")
        found: list[Assignment] = []
        # There are no groups, and no roles in a domain or the whole system.
        if not any(key in asked for key in ("group.id", "scope.domain.id", "scope.system")):
            found = self._directory.assignments(
                user_id=user_id, project_id=asked.get("scope.project.id"), role_id=asked.get("role.id")
            )
        names = self._names() if asked.get("include_names", "0").lower() not in {"0", "false"} else None
        url = self._calls.url(request)
        if names is not None:
            # Somebody may have been deleted since the assignments were read.
            users, projects, roles = names
            found = [
                each
                for each in found
                if each.user_id in users and each.project_id in projects and each.role_id in roles
            ]
        shown = [views.assignment(each, url, names) for each in found]
        return JSONResponse(views.listed("role_assignments", shown, f"{url}/role_assignments"))

    def grants(self, request: Request, project_id: str, user_id: str) -> JSONResponse:
        self._calls.oneself_or_administrator(request, user_id, "identity:list_grants")
        url = self._calls.url(request)
        found = [views.role(role, url) for role in self._directory.roles_of(user_id, project_id)]
        return JSONResponse(
            views.listed("roles", found, f"{url}/projects/{project_id}/users/{user_id}/roles")
        )

    def grant(self, request: Request, project_id: str, user_id: str, role_id: str) -> Response:
        self._calls.administrator(request, "identity:create_grant")
        self._directory.grant(user_id, project_id, role_id)
        return Response(status_code=_NO_CONTENT)

    def check_grant(self, request: Request, project_id: str, user_id: str, role_id: str) -> Response:
        self._calls.oneself_or_administrator(request, user_id, "identity:check_grant")
        if not self._directory.has_role(user_id, project_id, role_id):
            raise NotFound(f"User {user_id} does not have role {role_id} in project {project_id}.")
        return Response(status_code=_NO_CONTENT)

    def withdraw(self, request: Request, project_id: str, user_id: str, role_id: str) -> Response:
        self._calls.administrator(request, "identity:revoke_grant")
        self._directory.withdraw(user_id, project_id, role_id)
        return Response(status_code=_NO_CONTENT)

    # Application credentials

    def credentials(self, request: Request, user_id: str) -> JSONResponse:
        self._calls.oneself_or_administrator(request, user_id, "identity:list_application_credentials")
        url, roles = self._calls.url(request), self._directory.roles()
        asked = request.query_params.get("name")
        found = [
            views.credential(credential, roles, url)
            for credential in self._directory.credentials_of(self._directory.user(user_id).id)
            if asked in {None, credential.name}
        ]
        own = f"{url}/users/{user_id}/application_credentials"
        return JSONResponse(views.listed("application_credentials", found, own))

    def create_credential(self, request: Request, user_id: str, body: NewCredential) -> JSONResponse:
        caller = self._may_handle_credentials(request)
        if caller.user_id != user_id:
            raise Forbidden("Application credentials can be made for oneself only.")
        sent = body.application_credential
        credential, secret = self._directory.create_credential(
            caller,
            sent.name,
            roles=[(role.id, role.name) for role in sent.roles or () if role.id or role.name],
            secret=None if sent.secret is None else sent.secret.get_secret_value(),
            description=sent.description or "",
            expires_at=sent.expires_at,
            unrestricted=sent.unrestricted is True,
        )
        shown = views.credential(credential, self._directory.roles(), self._calls.url(request), secret=secret)
        return JSONResponse({"application_credential": shown}, HTTPStatus.CREATED)

    def credential(self, request: Request, user_id: str, credential_id: str) -> JSONResponse:
        self._calls.oneself_or_administrator(request, user_id, "identity:get_application_credential")
        credential = self._directory.credential(user_id, credential_id)
        shown = views.credential(credential, self._directory.roles(), self._calls.url(request))
        return JSONResponse({"application_credential": shown})

    def delete_credential(self, request: Request, user_id: str, credential_id: str) -> Response:
        self._calls.oneself_or_administrator(request, user_id, "identity:delete_application_credential")
        self._may_handle_credentials(request)
        self._directory.delete_credential(user_id, credential_id)
        return Response(status_code=_NO_CONTENT)

    # How

    def _may_handle_credentials(self, request: Request) -> Caller:
        session = self._calls.identity.session_of(self._calls.token(request))
        if session.credential is not None and not session.credential.unrestricted:
            raise Forbidden(
                "This application credential may not make or delete others: make it with --unrestricted."
            )
        return self._calls.caller(request)

    def _project(
        self, request: Request, project: Project, status: HTTPStatus = HTTPStatus.OK
    ) -> JSONResponse:
        return JSONResponse({"project": views.project(project, self._calls.url(request))}, status)

    def _user(self, request: Request, user: User, status: HTTPStatus = HTTPStatus.OK) -> JSONResponse:
        return JSONResponse({"user": views.user(user, self._calls.url(request))}, status)

    def _names(self) -> tuple[dict[str, User], dict[str, Project], dict[str, Role]]:
        return (
            {user.id: user for user in self._directory.users()},
            {project.id: project for project in self._directory.projects()},
            {role.id: role for role in self._directory.roles()},
        )


def _asked_for(request: Request, found: Iterable[_Named]) -> list[_Named]:
    """Those the query string asks for, by name, state and domain."""
    asked = request.query_params
    if asked.get("domain_id") not in {None, DOMAIN_ID}:
        return []
    name, enabled = asked.get("name"), asked.get("enabled")
    wanted = None if enabled is None else enabled.lower() not in {"0", "false"}
    return [
        each
        for each in found
        if name in {None, each.name} and (wanted is None or getattr(each, "enabled", True) is wanted)
    ]


def _changes(body: BaseModel, *, clearable: tuple[str, ...] = ()) -> dict[str, Any]:
    """The attributes sent. A null means "leave it", but for those that may be cleared."""
    return {
        name: getattr(body, name)
        for name in body.model_fields_set - {"domain_id"}
        if name in clearable or getattr(body, name) is not None
    }
