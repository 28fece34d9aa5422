"""Versions, logging in, and what a token says."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from argosy.api.identity import views
from argosy.api.identity.bodies import AuthRequest, OldAuthRequest
from argosy.api.identity.calls import Calls
from argosy.domain.errors import Forbidden, NotFound, Unauthorized
from argosy.domain.identity import Session
from argosy.identity import Directory
from argosy.identity.catalog import catalog


class TokenRoutes:
    def __init__(self, calls: Calls, directory: Directory) -> None:
        self._calls = calls
        self._directory = directory

    def add_to(self, router: APIRouter) -> None:
        for path in ("", "/"):
            router.add_api_route(path, self.versions, methods=["GET"])
            router.add_api_route(f"/v3{path}", self.version, methods=["GET"])
        router.add_api_route("/v3/auth/tokens", self.log_in, methods=["POST"])
        router.add_api_route("/v3/auth/tokens", self.show, methods=["GET", "HEAD"])
        router.add_api_route("/v3/auth/tokens", self.revoke, methods=["DELETE"])
        router.add_api_route("/v2.0/tokens", self.log_in_the_old_way, methods=["POST"])
        router.add_api_route("/v3/auth/catalog", self.catalog, methods=["GET"])
        router.add_api_route("/v3/auth/projects", self.projects, methods=["GET"])
        router.add_api_route("/v3/auth/domains", self.domains, methods=["GET"])

    async def versions(self, request: Request) -> JSONResponse:
        found = {"versions": {"values": [views.version(self._calls.url(request))]}}
        headers = {"Location": f"{self._calls.url(request)}/"}
        return JSONResponse(found, HTTPStatus.MULTIPLE_CHOICES, headers)

    async def version(self, request: Request) -> JSONResponse:
        return JSONResponse({"version": views.version(self._calls.url(request))})

    def log_in(self, request: Request, body: AuthRequest) -> JSONResponse:
        proof = body.auth.identity.proof()
        if proof is None:
            raise Unauthorized("Log in with one of the methods password, token and application_credential.")
        token, session = self._calls.identity.login(proof, body.scope(), self._calls.source(request))
        return self._shown(request, session, {"X-Subject-Token": token}, HTTPStatus.CREATED)

    def log_in_the_old_way(self, request: Request, body: OldAuthRequest) -> JSONResponse:
        token, session = self._calls.identity.login(body.proof(), body.scope(), self._calls.source(request))
        found = catalog(self._calls.base(request), self._calls.region, session.token.project_id or "")
        return JSONResponse(views.old_access(token, session, found))

    def show(self, request: Request) -> JSONResponse:
        subject, session = self._subject(request)
        return self._shown(request, session, {"X-Subject-Token": subject}, HTTPStatus.OK)

    def revoke(self, request: Request) -> Response:
        subject, _ = self._subject(request)
        self._calls.identity.revoke(subject)
        return Response(status_code=HTTPStatus.NO_CONTENT)

    def catalog(self, request: Request) -> JSONResponse:
        caller = self._calls.caller(request)
        found = catalog(self._calls.base(request), self._calls.region, caller.project_id)
        url = f"{self._calls.url(request)}/auth/catalog"
        return JSONResponse(views.listed("catalog", found, url))

    def projects(self, request: Request) -> JSONResponse:
        caller = self._calls.caller(request)
        url = self._calls.url(request)
        found = [views.project(project, url) for project in self._directory.projects_of(caller.user_id)]
        return JSONResponse(views.listed("projects", found, f"{url}/auth/projects"))

    def domains(self, request: Request) -> JSONResponse:
        self._calls.caller(request)
        url = self._calls.url(request)
        return JSONResponse(views.listed("domains", [views.domain(url)], f"{url}/auth/domains"))

    def _subject(self, request: Request) -> tuple[str, Session]:
        """The token asked about: one's own, or anybody's for an administrator or another service."""
        caller = self._calls.caller(request)
        subject = request.headers.get("x-subject-token", "")
        try:
            session = self._calls.identity.session_of(subject)
        except Unauthorized as error:
            raise NotFound("There is no such token.") from error
        privileged = caller.is_admin or "service" in caller.roles
        if session.user.id != caller.user_id and not privileged:
            raise Forbidden("The token is somebody else's.")
        return subject, session

    def _shown(
        self, request: Request, session: Session, headers: dict[str, str], status: HTTPStatus
    ) -> JSONResponse:
        found: list[dict[str, Any]] | None = None
        if "nocatalog" not in request.query_params:
            found = catalog(self._calls.base(request), self._calls.region, session.token.project_id or "")
        return JSONResponse(views.token(session, found), status, headers)
