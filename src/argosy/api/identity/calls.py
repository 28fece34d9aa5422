"""What every route asks of a request: who calls, from where, under which address."""

from __future__ import annotations

from dataclasses import dataclass

from fastapi import Request

from argosy.api.identity.faults import base_url
from argosy.domain.errors import Forbidden, Unauthorized
from argosy.domain.identity import Caller
from argosy.identity import Identity
from argosy.identity.service import NOT_AUTHENTICATED


@dataclass(frozen=True)
class Calls:
    identity: Identity
    public_url: str | None
    region: str

    def base(self, request: Request) -> str:
        return self.public_url or base_url(request)

    def url(self, request: Request) -> str:
        return f"{self.base(request)}/identity/v3"

    def source(self, request: Request) -> str:
        return request.client.host if request.client is not None else ""

    def token(self, request: Request) -> str:
        """Raises Unauthorized without an X-Auth-Token."""
        token = request.headers.get("x-auth-token")
        if not token:
            raise Unauthorized(NOT_AUTHENTICATED)
        return token

    def caller(self, request: Request) -> Caller:
        return self.identity.caller_of(self.token(request))

    def administrator(self, request: Request, action: str) -> Caller:
        """Raises Forbidden, naming the action, for anybody else."""
        caller = self.caller(request)
        if not caller.is_admin:
            raise _forbidden(action)
        return caller

    def oneself_or_administrator(self, request: Request, user_id: str, action: str) -> Caller:
        caller = self.caller(request)
        if caller.user_id != user_id and not caller.is_admin:
            raise _forbidden(action)
        return caller


def _forbidden(action: str) -> Forbidden:
    return Forbidden(f"You are not authorized to perform the requested action: {action}.")
