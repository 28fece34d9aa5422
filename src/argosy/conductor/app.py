"""The conductor's application, over mutual TLS: a guest may speak for its own instance only."""

from __future__ import annotations

from datetime import UTC, datetime

import structlog
from fastapi import FastAPI, Request, Response

from argosy.conductor import guests, objects, segments
from argosy.domain.errors import InstanceNotFound
from argosy.domain.status import Report, Service
from argosy.metadata.store import Store
from argosy.rpc import peers, reports
from argosy.rpc.certificates import Authority
from argosy.rpc.server import PEER
from argosy.storage.backups import BackupStore

log = structlog.get_logger()


def application(
    store: Store, backups: BackupStore, control: Authority | None = None, database: Authority | None = None
) -> FastAPI:
    """With its authorities it takes guests that enrol."""
    app = FastAPI(title="Argosy conductor", docs_url=None, redoc_url=None, openapi_url=None)

    @app.post(reports.PATH, status_code=204)
    def take_report(request: Request, body: reports.GuestReport) -> Response:
        """Write a report down; one that is older than what is known is dropped, and that is no error."""
        peer = request.scope.get("extensions", {}).get(PEER)
        if peer != peers.guest(body.instance_id):
            log.warning("report refused", peer=peer, instance_id=body.instance_id)
            return Response("a guest reports for its own instance only", 403)
        try:
            service = Service(body.service)
        except ValueError:
            return Response(f"service must be one of {', '.join(Service)}", 400)
        report = Report(
            service=service,
            number=body.number,
            at=datetime.now(UTC),
            volume_used_bytes=body.volume_used_bytes,
            volume_size_bytes=body.volume_size_bytes,
            server_version=body.server_version,
            restart_required=body.restart_required,
            release=body.release,
            configuration_error=body.configuration_error,
            agent=body.agent,
        )
        with store.write() as tx:
            try:
                instance = tx.instances.get(body.instance_id)
            except InstanceNotFound:
                # Its last words while it is being deleted.
                return Response(status_code=204)
            if tx.instances.report(body.instance_id, report):
                segments.note(tx, body)
            # Of an older report too: it may be an agent's last words.
            for event in body.events:
                tx.events.add(instance.project_id, instance.id, event.kind, event.message, "guest")
        return Response(status_code=204)

    objects.add_routes(app, store, backups)
    segments.add_routes(app, store)
    if control is not None and database is not None:
        guests.add_routes(app, store, control, database)
    return app
