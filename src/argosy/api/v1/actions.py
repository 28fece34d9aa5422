"""/instances/{id}/action: one key says what to do."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter, Response

from argosy.api.call import Asked, Call
from argosy.domain.errors import Failed, Invalid, Unsupported
from argosy.domain.operations import RestartInstance

router = APIRouter(tags=["instances"])

LATER = {"resize", "promote_to_replica_source", "eject_replica_source"}


@router.post("/instances/{instance_id}/action", status_code=202)
def act(call: Asked, instance_id: str, body: dict[str, Any]) -> Response:
    """`{"restart": {}}` or, for an administrator, `{"reset_status": {}}`."""
    if len(body) != 1:
        raise Invalid(f"The body must have exactly one action, it has {len(body)}.")
    ((action, details),) = body.items()
    if action == "restart":
        _restart(call, instance_id)
    elif action == "reset_status":
        force = isinstance(details, dict) and "force_delete" in details
        _reset_status(call, instance_id, rule="instance:force_delete" if force else "instance:reset_status")
    elif action in LATER:
        call.instance(instance_id)
        raise Unsupported(f"The action {action} is not supported yet.")
    else:
        raise Invalid(f"There is no action {action!r}: use restart or reset_status.")
    return Response(status_code=202)


def _restart(call: Call, instance_id: str) -> None:
    call.allow("instance:restart")
    with call.write() as tx:
        instance = tx.instances.get(instance_id)
        instance.check_can_restart(datetime.now(UTC))
        request = RestartInstance(operation_id=str(uuid.uuid4()), instance_id=instance.id)
        tx.operations.begin(instance, request, requested_by=call.caller.user_name)


def _reset_status(call: Call, instance_id: str, *, rule: str) -> None:
    """Let go of whatever holds the instance. Its workflow takes no further step; its status is the guest's again."""
    call.allow(rule)
    held_by = call.instance(instance_id).operation_id
    if held_by is not None:
        # Before our own transaction: the queue writes to the same database through a connection of its own.
        call.parts.store.queue.cancel(held_by)
    with call.write() as tx:
        instance = tx.instances.get(instance_id)
        if held_by is not None and instance.operation_id == held_by:
            tx.operations.fail(held_by, Failed(f"Reset by {call.caller.user_name}.", code="reset"))
        tx.instances.forget_report(instance_id)
        tx.events.add(
            instance.project_id, instance.id, "instance.reset", "status reset", call.caller.user_name
        )
