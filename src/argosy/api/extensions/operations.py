"""/operations: what was asked for that takes time, how far it is, how it ended."""

from __future__ import annotations

import uuid
from typing import Any, cast

from starlette.responses import Response

from argosy.api.call import Asked
from argosy.api.extensions.choosing import choice_of, last_seen
from argosy.api.route import faults, resource
from argosy.api.streams import EventStream, Following
from argosy.api.v1 import shapes, views
from argosy.domain.errors import Invalid, NotFound
from argosy.domain.operations import JournalEntry, Operation

router = resource("operations")

AT_MOST = 100


@router.get(
    "/operations",
    response_model=shapes.Operations,
    responses=faults(400),
    openapi_extra=shapes.PAGED_OPERATIONS,
)
def list_operations(call: Asked) -> dict[str, Any]:
    """The project's operations, newest first, up to 100 a page.

    `instance_id`, `kind`, `state` and `since` choose among them.
    """
    call.allow("operation:index")
    limit, marker, choice = call.limit(at_most=AT_MOST), call.marker, choice_of(call, states=True)
    with call.read() as tx:
        try:
            before = tx.operations.get(marker) if marker else None
        except NotFound as error:
            raise Invalid("Validation error: marker must be the id of an operation.") from error
        found, more = tx.operations.page(limit, before=before, choice=choice)
    answer: dict[str, Any] = {"operations": [views.operation_view(operation) for operation in found]}
    if more:
        answer["links"] = call.next_link(found[-1].id)
    return answer


@router.get(
    "/operations/stream",
    status_code=200,
    response_class=Response,
    responses={200: shapes.STREAM, **faults(400, 413, 503)},
    openapi_extra=shapes.FOLLOWED_OPERATIONS,
)
def follow_operations(call: Asked) -> EventStream:
    """Operations as they change, as server-sent events; the data of each is the operation as it was then.

    With `Last-Event-ID` what changed since then first, for a day. An event named `end` says why the stream ends,
    one named `gap` that what came before is not kept any more.
    """
    call.allow("operation:index")
    return EventStream(
        Following(
            streams=call.parts.streams,
            journal="operations",
            project_id=call.project_id,
            choice=choice_of(call, states=True),
            view=_view,
            check=lambda: call.allow_again("operation:index"),
            last_seen=last_seen(call),
        )
    )


@router.get("/operations/{operation_id}", response_model=shapes.ShownOperation, responses=faults(404))
def show_operation(call: Asked, operation_id: str) -> dict[str, Any]:
    """An operation; ask again to follow it."""
    call.allow("operation:show")
    try:
        uuid.UUID(operation_id)
    except ValueError as error:
        raise NotFound(f"Operation {operation_id[:255]} cannot be found.") from error
    with call.read() as tx:
        return {"operation": views.operation_view(tx.operations.get(operation_id))}


def _view(entry: JournalEntry) -> dict[str, Any]:
    return views.operation_view(cast("Operation", entry.item))
