"""/events: what happened, kept after an instance is gone."""

from __future__ import annotations

from typing import Any, cast

from starlette.responses import Response

from argosy.api.call import Asked
from argosy.api.extensions.choosing import choice_of, last_seen
from argosy.api.route import faults, resource
from argosy.api.streams import EventStream, Following
from argosy.api.v1 import shapes, views
from argosy.domain.operations import Event, JournalEntry

router = resource("events")

AT_MOST = 100


@router.get("/events", response_model=shapes.Events, responses=faults(400), openapi_extra=shapes.PAGED_EVENTS)
def list_events(call: Asked) -> dict[str, Any]:
    """The project's events, newest first, up to 100 a page; `instance_id`, `kind` and `since` choose among them."""
    call.allow("event:index")
    limit, choice = call.limit(at_most=AT_MOST), choice_of(call, states=False)
    before = call.offset() if call.marker else None
    with call.read() as tx:
        found, more = tx.events.page(limit, before=before, choice=choice)
    answer: dict[str, Any] = {"events": [views.event_view(event) for event in found]}
    if more:
        answer["links"] = call.next_link(str(found[-1].id))
    return answer


@router.get(
    "/events/stream",
    status_code=200,
    response_class=Response,
    responses={200: shapes.STREAM, **faults(400, 413, 503)},
    openapi_extra=shapes.FOLLOWED_EVENTS,
)
def follow_events(call: Asked) -> EventStream:
    """Events as they happen, as server-sent events; the data of each is one event as in the list.

    With `Last-Event-ID` what came since then first. An event named `end` says why the stream ends, one named
    `gap` that what came before is not kept any more.
    """
    call.allow("event:index")
    return EventStream(
        Following(
            streams=call.parts.streams,
            journal="events",
            project_id=call.project_id,
            choice=choice_of(call, states=False),
            view=_view,
            check=lambda: call.allow_again("event:index"),
            last_seen=last_seen(call),
        )
    )


def _view(entry: JournalEntry) -> dict[str, Any]:
    return views.event_view(cast("Event", entry.item))
