"""The routes under `/identity`, put together."""

from __future__ import annotations

from http import HTTPStatus

from fastapi import APIRouter
from fastapi.responses import JSONResponse

from argosy.api.identity.accounts import AccountRoutes
from argosy.api.identity.calls import Calls
from argosy.api.identity.faults import KeystoneRoute, fault
from argosy.api.identity.tokens import TokenRoutes
from argosy.identity import Directory, Identity


def identity_router(
    identity: Identity, directory: Directory, *, public_url: str | None = None, region: str = "RegionOne"
) -> APIRouter:
    """`public_url` (no trailing slash) is what clients reach us by; without it, whatever they addressed us by.

    Everything below `/identity` is answered here, what does not exist with Keystone's own 404.
    """
    calls = Calls(identity, public_url=public_url, region=region)
    router = APIRouter(
        prefix="/identity", route_class=KeystoneRoute, tags=["identity"], include_in_schema=False
    )
    TokenRoutes(calls, directory).add_to(router)
    AccountRoutes(calls, directory).add_to(router)
    everything = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]
    router.add_api_route("/{path:path}", _not_here, methods=everything)
    return router


async def _not_here() -> JSONResponse:
    return fault(HTTPStatus.NOT_FOUND, "The resource could not be found.")
