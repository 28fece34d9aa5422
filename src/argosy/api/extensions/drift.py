"""/mgmt/drift: where the cloud and the metadata differ; for administrators."""

from __future__ import annotations

import uuid
from typing import Any

from argosy.api.call import Asked
from argosy.api.route import faults, resource
from argosy.api.v1 import shapes, views
from argosy.domain.drift import NotedFinding
from argosy.domain.operations import LookForDrift

router = resource("drift")

AT_MOST = 100


@router.get(
    "/mgmt/drift",
    response_model=shapes.Findings,
    responses=faults(400),
    openapi_extra=shapes.PAGED_FINDINGS,
)
def list_findings(call: Asked) -> dict[str, Any]:
    """Those there are, found last first, up to 100 a page; `instance_id` chooses one instance's."""
    call.allow_management("mgmt:drift:index")
    limit, skip = call.limit(at_most=AT_MOST), call.offset()
    with call.parts.store.read() as tx:
        found, more = tx.findings.page(
            limit,
            skip=skip,
            instance_id=call.asks("instance_id"),
            gone=call.asks_whether("all") is True,
        )
    answer: dict[str, Any] = {"findings": [_view(one) for one in found]}
    if more:
        answer["links"] = call.next_link(str(skip + limit))
    return answer


@router.post("/mgmt/drift/look", status_code=202, response_model=shapes.ShownOperation, responses=faults())
def look(call: Asked) -> dict[str, Any]:
    """Have the cloud looked at now. What is found is in the list when the operation has ended."""
    call.allow_management("mgmt:drift:look")
    request = LookForDrift(operation_id=str(uuid.uuid4()))
    return {"operation": views.operation_view(call.begin_alone(request))}


def _view(one: NotedFinding) -> dict[str, Any]:
    return {
        "id": one.id,
        "kind": one.kind,
        "resource": one.resource,
        "message": one.message,
        "instance_id": one.instance_id,
        "instance_name": one.instance_name,
        "tenant_id": one.project_id,
        "repaired": one.repaired,
        "found": views.date(one.found_at),
        "seen": views.date(one.seen_at),
        "gone": None if one.gone_at is None else views.date(one.gone_at),
    }
