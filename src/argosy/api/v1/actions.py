"""/instances/{id}/action: one key says what to do."""

from __future__ import annotations

import uuid
from typing import Any

from argosy.api.call import Asked, Call, check_instance_id
from argosy.api.route import faults, resource
from argosy.api.v1.resizing import resize
from argosy.api.v1.restoring import restore
from argosy.domain.errors import Failed, Invalid, Unsupported
from argosy.domain.operations import RestartInstance, StartInstance, StopInstance

router = resource("instances")

_LATER = {
    "promote_to_replica_source": ("instance:promote_to_replica_source", "Promoting a replica"),
    "eject_replica_source": ("instance:eject_replica_source", "Ejecting a replica source"),
}


@router.post(
    "/instances/{instance_id}/action", status_code=202, responses=faults(400, 404, 409, 413, 415, 422, 501)
)
def act_on_instance(call: Asked, instance_id: str, body: dict[str, Any]) -> None:
    """`restart`, `stop`, `start`, `resize`, `restore` or, for an administrator, `reset_status`.

    `{"resize": {"flavorRef": "2"}}` changes its memory and processors, `{"resize": {"volume": {"size": 20}}}`
    makes its volume larger while the database serves. `{"restore": {"backup": "…"}}` puts it back to what a backup
    has, `{"restore": {"time": "2026-11-28T12:30:00Z"}}` to a moment of its archived log, or with `position` to a place
    in it, with its users as they are now (`"users": "backup"`: as they were then).
    """
    if len(body) != 1:
        raise Invalid(f"Validation error: body: it must have exactly one action, it has {len(body)}.")
    ((action, details),) = body.items()
    if details is not None and not isinstance(details, dict):
        raise Invalid("Validation error: body: what an action is told must be an object.")
    check_instance_id(instance_id)
    if action == "restart":
        _restart(call, instance_id)
    elif action == "stop":
        stop(call, instance_id, rule="instance:stop")
    elif action == "start":
        _start(call, instance_id)
    elif action == "resize":
        resize(call, instance_id, details)
    elif action == "restore":
        restore(call, instance_id, details)
    elif action == "reset_status":
        force = "force_delete" in (details or {})
        _reset_status(call, instance_id, rule="instance:force_delete" if force else "instance:reset_status")
    elif action in _LATER:
        rule, what = _LATER[action]
        call.allow(rule)
        call.instance(instance_id)
        raise Unsupported(f"{what} is not supported yet.")
    else:
        raise Invalid(
            f"Validation error: there is no action {action[:64]!r}: use restart, stop, start, resize, restore or reset_status."
        )


def _restart(call: Call, instance_id: str) -> None:
    call.allow("instance:restart")
    with call.write() as tx:
        instance = tx.instances.get(instance_id)
        instance.check_can_restart(call.now)
        request = RestartInstance(operation_id=str(uuid.uuid4()), instance_id=instance.id)
        tx.operations.begin(instance, request, requested_by=call.caller.user_name)


def stop(call: Call, instance_id: str, *, rule: str) -> None:
    """Begin to stop the database server, which stays stopped until it is started or restarted."""
    call.allow(rule)
    with call.write() as tx:
        instance = tx.instances.get(instance_id)
        instance.check_can_stop(call.now)
        request = StopInstance(operation_id=str(uuid.uuid4()), instance_id=instance.id)
        tx.operations.begin(instance, request, requested_by=call.caller.user_name)


def _start(call: Call, instance_id: str) -> None:
    call.allow("instance:start")
    with call.write() as tx:
        instance = tx.instances.get(instance_id)
        instance.check_can_start(call.now)
        request = StartInstance(operation_id=str(uuid.uuid4()), instance_id=instance.id)
        tx.operations.begin(instance, request, requested_by=call.caller.user_name)


def _reset_status(call: Call, instance_id: str, *, rule: str) -> None:
    """Let go of whatever holds the instance. Its workflow takes no further step; its status is the guest's again."""
    call.allow(rule)
    release(call, instance_id, forget_report=True)


def release(call: Call, instance_id: str, *, forget_report: bool) -> None:
    """End the operation that holds the instance, if any, as failed by an administrator's reset."""
    held_by = call.instance(instance_id).operation_id
    if held_by is not None:
        # Before our own transaction: the queue writes to the same database through a connection of its own.
        call.parts.store.queue.cancel(held_by)
    with call.write() as tx:
        instance = tx.instances.get(instance_id)
        if held_by is not None and instance.operation_id == held_by:
            tx.operations.fail(held_by, Failed(f"Reset by {call.caller.user_name}.", code="reset"))
        if forget_report:
            tx.instances.forget_report(instance_id)
        tx.events.add(
            instance.project_id, instance.id, "instance.reset", "status reset", call.caller.user_name
        )
