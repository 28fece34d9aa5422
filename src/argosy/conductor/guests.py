"""How machines' guests enrol, and learn what they are to be: see rpc/enrolment.py."""

from __future__ import annotations

from dataclasses import asdict

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

from argosy.domain.errors import Invalid
from argosy.domain.guest import Told
from argosy.metadata.store import Store
from argosy.rpc import agent_code, enrolment, peers
from argosy.rpc.certificates import Authority, Signed
from argosy.rpc.server import PEER

log = structlog.get_logger()


def add_routes(app: FastAPI, store: Store, control: Authority, database: Authority) -> None:
    """`control` signs the guests' own certificates, `database` those that users see."""

    @app.post(enrolment.ENROL)
    def enrol(request: Request, body: enrolment.Enrol) -> Response:
        """Sign the keys of a guest that has a bootstrap identity not spent yet, or an identity to be renewed."""
        peer = request.scope.get("extensions", {}).get(PEER)
        bootstrap = peers.bootstrapping(peer)
        instance_id = bootstrap[0] if bootstrap is not None else peers.instance(peer)
        with store.read() as tx:
            told = tx.guests.find(instance_id) if instance_id is not None else None
        if told is None:
            log.warning("enrolment refused", peer=peer)
            return Response("there is no such guest", 403)
        try:
            rpc = _identity(control, told, body.rpc_request)
            tls = _shown(database, told, body.tls_request)
        except Invalid as error:
            return Response(error.sentence, 400)
        with store.write() as tx:
            if bootstrap is not None and not tx.guests.enrol(*bootstrap, rpc.key_digest):
                log.warning("enrolment refused", peer=peer, spent=True)
                return Response("this identity is spent, or was replaced", 403)
        log.info("guest enrolled", instance_id=told.instance_id, identity=told.identity)
        return JSONResponse(
            enrolment.Enrolled(
                told=asdict(told),
                rpc_ca=control.certificate,
                rpc_certificate=rpc.certificate,
                tls_ca=database.certificate,
                tls_certificate=tls.certificate,
            ).model_dump()
        )

    @app.get(enrolment.TOLD)
    def tell(request: Request) -> Response:
        """What the guest that asks is to be."""
        instance_id = peers.instance(request.scope.get("extensions", {}).get(PEER))
        with store.read() as tx:
            told = tx.guests.find(instance_id) if instance_id is not None else None
        if told is None:
            return Response("there is no such guest", 403)
        return JSONResponse(asdict(told))

    @app.get(agent_code.CODE)
    def give_code(request: Request) -> Response:
        """The agent's code of this release, to guests that are enrolled."""
        if peers.instance(request.scope.get("extensions", {}).get(PEER)) is None:
            return Response("the agent's code is for guests", 403)
        return Response(agent_code.pack(), media_type="application/gzip")


def _identity(control: Authority, told: Told, request: str) -> Signed:
    name = peers.guest(told.instance_id)
    return control.sign(request, common_name=name, addresses=[told.rpc_address], client=True, server=True)


def _shown(database: Authority, told: Told, request: str) -> Signed:
    shown = told.addresses or (told.address,)
    return database.sign(request, common_name=shown[0], addresses=shown, server=True)
