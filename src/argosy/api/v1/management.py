"""/mgmt/instances: what administrators see and do, across projects; for others 401 (contract 1.3)."""

from __future__ import annotations

from typing import Any

from argosy.api.call import Asked, Call, check_instance_id
from argosy.api.route import faults, resource
from argosy.api.v1 import shapes, views
from argosy.api.v1.actions import release
from argosy.domain.errors import Invalid, Unsupported
from argosy.domain.instance import Instance
from argosy.metadata.store import Transaction

router = resource("management")

_INSTANCE = "/mgmt/instances/{instance_id}"
_ACTIONS_LATER = {"stop", "reboot", "migrate", "rebuild"}
_UNCAPPED = 1000  # Trove has no bound here


@router.get(
    "/mgmt/instances",
    response_model=shapes.ManagedInstances,
    responses=faults(400, 401),
    openapi_extra=shapes.PAGED,
)
def list_all_instances(call: Asked) -> dict[str, Any]:
    """Instances of every project, changed last first; `deleted` and `project_id` choose among them."""
    call.allow_management("mgmt:instance:index")
    limit, skip = call.limit(at_most=_UNCAPPED), call.offset()
    with call.parts.store.read(call.asks("project_id")) as tx:
        found, more = tx.instances.latest(limit, skip=skip, deleted=call.asks_whether("deleted"))
    newest_first = sorted(found, key=lambda instance: instance.created_at, reverse=True)
    answer: dict[str, Any] = {"instances": [_view(call, instance) for instance in newest_first]}
    if more:
        answer["links"] = call.next_link(str(skip + limit))
    return answer


@router.get(_INSTANCE, response_model=shapes.ShownManagedInstance, responses=faults(401, 404))
def show_any_instance(call: Asked, instance_id: str) -> dict[str, Any]:
    """An instance of any project; with `deleted=true` also one that is gone."""
    call.allow_management("mgmt:instance:show")
    check_instance_id(instance_id)
    with call.read() as tx:
        instance = _find(call, tx, instance_id)
        operation = tx.operations.get(instance.operation_id) if instance.operation_id else None
    view = views.instance_detail(call, instance, call.datastore_of(instance), operation)
    return {"instance": _managed(call, instance, view) | _inside(call, instance, view)}


@router.get(_INSTANCE + "/root", response_model=shapes.ShownRootHistory, responses=faults(401, 404))
def show_root_history(call: Asked, instance_id: str) -> dict[str, Any]:
    """When root was last enabled and by which user's id; kept when it is disabled again."""
    call.allow_management("mgmt:instance:show")
    check_instance_id(instance_id)
    with call.read() as tx:
        instance = tx.instances.get_or_deleted(instance_id)
    at = instance.root_enabled_at
    return {
        "root_history": {
            "id": instance.id,
            "enabled": "Never" if at is None else views.date(at),
            "user": instance.root_enabled_by or "Nobody",
        }
    }


@router.post(_INSTANCE + "/action", status_code=202, responses=faults(400, 401, 404, 415, 501))
def act_as_administrator(call: Asked, instance_id: str, body: dict[str, Any]) -> None:
    """`{"reset-task-status": {}}` ends whatever holds the instance."""
    call.allow_management("mgmt:instance:action")
    if len(body) != 1:
        raise Invalid(f"Validation error: body: it must have exactly one action, it has {len(body)}.")
    (action,) = body
    if action == "reset-task-status":
        release(call, instance_id, forget_report=False)
    elif action in _ACTIONS_LATER:
        call.instance(instance_id)
        raise Unsupported(f"The action {action} is not supported yet.")
    else:
        raise Invalid(f"Validation error: there is no action {action[:64]!r}: use reset-task-status.")


@router.get(_INSTANCE + "/diagnostics", include_in_schema=False)
@router.get(_INSTANCE + "/hwinfo", include_in_schema=False)
@router.get(_INSTANCE + "/rpc_ping", include_in_schema=False)
@router.post(_INSTANCE + "/upgrade", include_in_schema=False)
def look_inside(call: Asked, instance_id: str) -> None:
    """What Trove asks its guests of themselves, and ours are not asked yet: 501."""
    call.allow_management("mgmt:instance:show")
    call.instance(instance_id)
    raise Unsupported("Asking a guest about itself is not supported yet.")


def _find(call: Call, tx: Transaction, instance_id: str) -> Instance:
    if call.asks_whether("deleted"):
        return tx.instances.get_or_deleted(instance_id)
    return tx.instances.get(instance_id)


def _view(call: Call, instance: Instance) -> dict[str, Any]:
    view = views.instance_detail(call, instance, call.datastore_of(instance))
    return _managed(call, instance, view)


def _managed(call: Call, instance: Instance, view: dict[str, Any]) -> dict[str, Any]:
    gone = instance.deleted_at
    server = None
    if instance.address is not None:
        server = {
            "id": instance.id,
            "name": instance.name,
            "status": view["status"],
            "tenant_id": instance.project_id,
            "host": instance.platform.get("name"),
        }
    return view | {
        "server": server,
        "service_status": instance.shown(call.now).operating_status,
        "tenant_id": instance.project_id,
        "deleted": gone is not None,
        "deleted_at": None if gone is None else views.date(gone),
        "task_description": instance.operation_kind or "No tasks for the instance.",
    }


def _inside(call: Call, instance: Instance, view: dict[str, Any]) -> dict[str, Any]:
    """What only the view of one instance has."""
    inside: dict[str, Any] = {
        "volume": {
            "attachments": [],
            "availability_zone": None,
            "created_at": views.date(instance.created_at),
            "id": instance.id,
            "status": "available" if instance.deleted_at is None else "deleted",
            "total": instance.volume_gb,
            **view["volume"],
        },
        "guest_status": {"state_description": instance.shown(call.now).operating_status},
    }
    if instance.root_enabled and instance.root_enabled_at is not None:
        inside["root_enabled"] = views.date(instance.root_enabled_at)
        inside["root_enabled_by"] = instance.root_enabled_by
    return inside
