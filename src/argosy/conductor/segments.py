"""Writes down what guests archive of their logs, and tells where something is missing."""

from __future__ import annotations

import structlog
from fastapi import FastAPI, Request, Response

from argosy.domain.log_archive import Segment, Stretch
from argosy.metadata.store import Store, Transaction
from argosy.rpc import peers
from argosy.rpc.reports import GuestReport
from argosy.rpc.segments import PATH, SegmentsKnown, SegmentTold
from argosy.rpc.server import PEER

log = structlog.get_logger()


def add_routes(app: FastAPI, store: Store) -> None:
    @app.post(PATH)
    def take_segment(request: Request, body: SegmentTold) -> Response:
        """A segment is in the store. The answer says which was the last before it; 409 for an archive that has ended."""
        peer = request.scope.get("extensions", {}).get(PEER)
        if peer != peers.guest(body.instance_id):
            log.warning("segment refused", peer=peer, instance_id=body.instance_id)
            return Response("a guest archives the log of its own instance only", 403)
        with store.write() as tx:
            archive = tx.log_archives.find(body.archive_id)
            if archive is None or archive.instance_id != body.instance_id or archive.ended_at is not None:
                return Response("there is no such archive, or it has ended", 409)
            last = tx.log_archives.last(archive.id)
            known = SegmentsKnown() if last is None else SegmentsKnown(last=last.name, ends=last.ends)
            if body.segment is not None:
                segment = Segment(**{key: getattr(body.segment, key) for key in Segment.__dataclass_fields__})
                before = tx.log_archives.take(archive.id, segment)
                if before is not None:
                    log.warning("gap in the log", instance_id=body.instance_id, segment=segment.name)
                    tx.events.add(
                        archive.project_id, archive.instance_id, "log_archive.gap", _gap(before), "conductor"
                    )
        return Response(known.model_dump_json(), media_type="application/json")


def note(tx: Transaction, report: GuestReport) -> None:
    """How far its guest says the archive of its log is."""
    if report.log is None:
        return
    archive = tx.log_archives.find(report.log.archive_id)
    if archive is not None and archive.instance_id == report.instance_id and archive.ended_at is None:
        tx.log_archives.told(
            archive.id, lag_bytes=report.log.lag_bytes, until=report.log.until, error=report.log.error
        )


def _gap(before: Stretch) -> str:
    since = "then" if before.until is None else f"{before.until:%Y-%m-%d %H:%M:%S} UTC"
    return (
        f"Some of the log after {since} was lost before it could be archived: the instance can be restored to moments "
        f"until {since}, and from the next backup on."
    )
