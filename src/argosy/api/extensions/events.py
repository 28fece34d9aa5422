"""/events: what happened, kept after an instance is gone."""

from __future__ import annotations

from typing import Any

from argosy.api.call import Asked
from argosy.api.route import faults, resource
from argosy.api.v1 import shapes, views

router = resource("events")

AT_MOST = 100


@router.get(
    "/events",
    response_model=shapes.Events,
    responses=faults(400),
    openapi_extra=shapes.PAGED_OF_INSTANCE,
)
def list_events(call: Asked) -> dict[str, Any]:
    """The project's events, newest first, up to 100 a page; those of `instance_id` alone when it is given."""
    call.allow("event:index")
    limit, instance_id = call.limit(at_most=AT_MOST), call.asks("instance_id")
    before = call.offset() if call.marker else None
    with call.read() if instance_id else call.read_project() as tx:
        found, more = tx.events.page(limit, instance_id=instance_id, before=before)
    answer: dict[str, Any] = {"events": [views.event_view(event) for event in found]}
    if more:
        answer["links"] = call.next_link(str(found[-1].id))
    return answer
