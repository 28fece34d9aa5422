"""/operations: what was asked for that takes time, how far it is, how it ended."""

from __future__ import annotations

import uuid
from typing import Any

from argosy.api.call import Asked
from argosy.api.route import faults, resource
from argosy.api.v1 import shapes, views
from argosy.domain.errors import Invalid, NotFound

router = resource("operations")

AT_MOST = 100


@router.get(
    "/operations",
    response_model=shapes.Operations,
    responses=faults(400),
    openapi_extra=shapes.PAGED_OF_INSTANCE,
)
def list_operations(call: Asked) -> dict[str, Any]:
    """The project's operations, newest first, up to 100 a page; those of `instance_id` alone when it is given."""
    call.allow("operation:index")
    limit, marker, instance_id = call.limit(at_most=AT_MOST), call.marker, call.asks("instance_id")
    with call.read() if instance_id else call.read_project() as tx:
        try:
            before = tx.operations.get(marker) if marker else None
        except NotFound as error:
            raise Invalid("Validation error: marker must be the id of an operation.") from error
        found, more = tx.operations.page(limit, instance_id=instance_id, before=before)
    answer: dict[str, Any] = {"operations": [views.operation_view(operation) for operation in found]}
    if more:
        answer["links"] = call.next_link(found[-1].id)
    return answer


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
