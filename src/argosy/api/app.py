"""The API's application: its routes, and the documented form of every failure."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi_offline import FastAPIOffline
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp

import argosy
from argosy.api import faults
from argosy.api.extensions import (
    backup_keys,
    backup_schedules,
    certificates,
    drift,
    dumps,
    events,
    images,
    log_archives,
    operations,
    protection,
    tags,
    upgrades,
    verification,
)
from argosy.api.extensions import configurations as configuration_histories
from argosy.api.extensions import logs as log_lines
from argosy.api.identity.routes import identity_router
from argosy.api.objectstore.app import ObjectStoreApi
from argosy.api.parts import Parts
from argosy.api.v1 import (
    access,
    actions,
    backup_strategies,
    backups,
    configurations,
    databases,
    datastore_versions,
    datastores,
    flavors,
    instances,
    later,
    limits,
    logs,
    management,
    parameters,
    quotas,
    root,
    users,
)
from argosy.api.wire import Wire
from argosy.domain.errors import ArgosyError

RESOURCES = (
    instances,
    actions,
    databases,
    users,
    root,
    logs,
    log_lines,
    parameters,  # before datastores, where /datastores/versions/… would be taken for a datastore's
    datastores,
    flavors,
    limits,
    quotas,
    tags,
    protection,
    upgrades,
    configurations,
    configuration_histories,
    access,
    log_archives,
    backups,
    backup_strategies,
    backup_schedules,
    verification,
    operations,
    events,
    images,
    backup_keys,
    certificates,
    drift,
    dumps,
    management,
    datastore_versions,
    later,
)
VERSION = {"id": "v1.0", "status": "CURRENT", "updated": "2012-08-01T00:00:00Z"}


def application(parts: Parts) -> ASGIApp:
    """The ASGI application; `parts` are what its routes work with."""
    # Its documentation page needs nothing from the network, as no page of a database service should.
    app = FastAPIOffline(
        title="Argosy",
        version=argosy.__version__,
        description="Database as a service, over the OpenStack Trove v1.0 API.",
        redirect_slashes=False,
    )
    for failure, answer in (
        (ArgosyError, faults.of_ours),
        (RequestValidationError, faults.of_validation),
        (HTTPException, faults.of_http),
        (Exception, faults.of_surprise),
    ):
        app.add_exception_handler(failure, answer)
    app.state.parts = parts
    for module in RESOURCES:
        # Not by include_router, which would find each route anew for every request.
        app.router.routes.extend(module.router.routes)
    if parts.directory is not None:
        accounts = parts.directory
        app.include_router(
            identity_router(
                accounts.identity, accounts, public_url=parts.public_endpoint, region=parts.region
            )
        )
    _add_documents(app, parts)
    objects = ObjectStoreApi(parts.objects, parts.policy)
    return Wire(app, parts.identity, parts.public_endpoint, parts.rates, objects)


def _add_documents(app: FastAPI, parts: Parts) -> None:
    def version(request: Request) -> dict[str, Any]:
        base = parts.public_endpoint or str(request.base_url).rstrip("/")
        return {**VERSION, "links": [{"rel": "self", "href": f"{base}/v1.0/"}]}

    @app.get("/", tags=["versions"])
    async def versions(request: Request) -> dict[str, Any]:
        return {"versions": [version(request)]}

    @app.get("/v1.0", tags=["versions"])
    @app.get("/v1.0/", include_in_schema=False)
    async def one_version(request: Request) -> dict[str, Any]:
        return {"version": version(request)}

    @app.get("/healthcheck", tags=["operations of the service"], response_class=PlainTextResponse)
    def healthcheck() -> PlainTextResponse:
        """OK when the metadata database answers, and the process is not about to end."""
        if parts.ending.is_set():
            return PlainTextResponse("ending", 503)
        with parts.store.read() as tx:
            tx.flavors.all()
        return PlainTextResponse("OK")

    @app.get("/metrics", tags=["operations of the service"], response_class=PlainTextResponse)
    async def metrics() -> Response:
        """Prometheus's text form."""
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)
