"""/mgmt/instances: what administrators see and do, across projects; for others 401 (contract 1.3)."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from typing import Any

from pydantic import StrictStr

import argosy
from argosy.api.call import Asked, Call, check_instance_id
from argosy.api.route import faults, resource
from argosy.api.v1 import shapes, views
from argosy.api.v1.actions import release, stop
from argosy.api.v1.bodies import NAME_MAX, Body
from argosy.domain.errors import InstanceBusy, Invalid, Unsupported
from argosy.domain.instance import Instance
from argosy.domain.operations import (
    InstanceRequest,
    RebootInstance,
    RebuildInstance,
    RenewAgent,
    RotatePassword,
)
from argosy.metadata.store import Transaction
from argosy.rpc import agent_code, messages

router = resource("management")

_INSTANCE = "/mgmt/instances/{instance_id}"
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_UNCAPPED = 1000  # Trove has no bound here
_PING_S = 5


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
    view = _managed(
        call, instance, views.instance_detail(call, instance, call.datastore_of(instance), operation)
    )
    return {"instance": view | _inside(call, instance, view)}


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


@router.post(_INSTANCE + "/action", status_code=202, responses=faults(400, 401, 404, 415, 422, 501))
def act_as_administrator(call: Asked, instance_id: str, body: dict[str, Any]) -> None:
    """Exactly one of `stop`, `reboot`, `rebuild`, `migrate`, `rotate_password` and `reset-task-status`.

    The last ends whatever holds the instance.
    """
    call.allow_management("mgmt:instance:action")
    if len(body) != 1:
        raise Invalid(f"Validation error: body: it must have exactly one action, it has {len(body)}.")
    ((action, details),) = body.items()
    if details is not None and not isinstance(details, dict):
        raise Invalid("Validation error: body: what an action is told must be an object.")
    check_instance_id(instance_id)
    if action in _ACTIONS:
        _ACTIONS[action](call, instance_id, details or {})
    else:
        raise Invalid(
            f"Validation error: there is no action {action[:64]!r}: use one of {', '.join(_ACTIONS)}."
        )


@router.get(
    _INSTANCE + "/diagnostics", response_model=shapes.ShownDiagnostics, responses=faults(401, 404, 422, 503)
)
def diagnose(call: Asked, instance_id: str) -> dict[str, Any]:
    """What the kernel says of the instance's agent, sizes in KiB; and, beyond Trove, of its database server."""
    call.allow_management("mgmt:instance:show")
    told = call.guest(_with_server(call, instance_id), messages.Diagnose())
    server = None if told.server is None else {"pid": told.server.pid, **_figures(told.server)}
    return {
        "diagnostics": {
            "version": told.agent_version,
            **_figures(told.agent),
            "argosy": {"pid": told.agent.pid, "server": server},
        }
    }


@router.get(_INSTANCE + "/hwinfo", response_model=shapes.ShownHardware, responses=faults(401, 404, 422, 503))
def show_hardware(call: Asked, instance_id: str) -> dict[str, Any]:
    """What its guest was given for the database server: memory in KiB, processors."""
    call.allow_management("mgmt:instance:show")
    told = call.guest(_with_server(call, instance_id), messages.TellHardware())
    return {"hwinfo": {"mem_total": told.memory_mb * 1024, "num_cpus": told.vcpus}}


@router.get(_INSTANCE + "/rpc_ping", status_code=204, responses=faults(401, 404, 422, 503))
def ping(call: Asked, instance_id: str) -> None:
    """204 when its agent answers."""
    call.allow_management("mgmt:instance:show")
    instance = _with_server(call, instance_id)
    call.parts.guests.call(instance.address or "", messages.Ping(), timeout_s=_PING_S)


class Upgrade(Body, extra="forbid"):
    instance_version: StrictStr | None = None
    location: StrictStr | None = None
    metadata: dict[str, Any] | None = None


class UpgradeBody(Body):
    upgrade: Upgrade


@router.post(_INSTANCE + "/upgrade", status_code=202, responses=faults(400, 401, 404, 415, 422))
def upgrade_agent(call: Asked, instance_id: str, body: UpgradeBody) -> None:
    """Have the agent run the code of this release; the database server goes on meanwhile.

    `instance_version`, when given, must be this release, and `location` is not for us: agents have one source.
    """
    call.allow_management("mgmt:instance:action")
    asked = body.upgrade.instance_version
    if asked is not None and asked != argosy.__version__:
        raise Invalid(
            f"Validation error: upgrade.instance_version: agents are of this release, {argosy.__version__}: "
            "leave it out, or upgrade Argosy first."
        )
    if body.upgrade.location is not None:
        raise Invalid("Validation error: upgrade.location: agents come with Argosy: leave it out.")
    check_instance_id(instance_id)
    _begin(call, instance_id, RenewAgent)


def _begin(call: Call, instance_id: str, kind: type[InstanceRequest]) -> None:
    with call.write() as tx:
        instance = tx.instances.get(instance_id)
        instance.check_can_restart(call.now)
        request = kind(operation_id=str(uuid.uuid4()), instance_id=instance.id)
        tx.operations.begin(instance, request, requested_by=call.caller.user_name)


def _stop(call: Call, instance_id: str, _details: dict[str, Any]) -> None:
    stop(call, instance_id, rule="mgmt:instance:action")


def _reboot(call: Call, instance_id: str, _details: dict[str, Any]) -> None:
    _begin(call, instance_id, RebootInstance)


def _rebuild(call: Call, instance_id: str, details: dict[str, Any]) -> None:
    """With the software of its own version, whose image has the version's id on this platform."""
    image_id = details.get("image_id")
    if not isinstance(image_id, str) or not _UUID.fullmatch(image_id):
        raise Invalid("Validation error: rebuild.image_id: it must be the id of an image, a UUID.")
    instance = call.instance(instance_id)
    own = call.datastore_of(instance).version(instance.version)
    if image_id.lower() != own.id:
        raise Invalid(
            f"Validation error: rebuild.image_id: the instance is rebuilt from the image of its own version, {own.id}; "
            "to have another version, upgrade it."
        )
    _begin(call, instance_id, RebuildInstance)


def _migrate(call: Call, instance_id: str, details: dict[str, Any]) -> None:
    host = details.get("host")
    if host is not None and (not isinstance(host, str) or not 1 <= len(host) <= NAME_MAX):
        raise Invalid(f"Validation error: migrate.host: it must be a string of 1 to {NAME_MAX} characters.")
    call.instance(instance_id).check_can_restart(call.now)
    raise Unsupported("This platform is one machine: there is no other to migrate an instance to.")


def _rotate_password(call: Call, instance_id: str, _details: dict[str, Any]) -> None:
    """Of the agent's own account in the database server. Trove has no such action."""
    datastore = call.datastore_of(call.instance(instance_id))
    if not datastore.management_password:
        raise Unsupported(
            f"The management account of {datastore.title} has no password to change: its agent alone is let in, "
            "by the Unix socket, and by who it is."
        )
    _begin(call, instance_id, RotatePassword)


def _reset_task(call: Call, instance_id: str, _details: dict[str, Any]) -> None:
    release(call, instance_id, forget_report=False)


_ACTIONS: dict[str, Callable[[Call, str, dict[str, Any]], None]] = {
    "stop": _stop,
    "reboot": _reboot,
    "rebuild": _rebuild,
    "migrate": _migrate,
    "rotate_password": _rotate_password,
    "reset-task-status": _reset_task,
}


def _with_server(call: Call, instance_id: str) -> Instance:
    """An instance whose guest can be asked. Raises InstanceBusy for one that has none yet."""
    instance = call.instance(instance_id)
    if instance.address is None:
        raise InstanceBusy(instance_id=instance.id, status=instance.shown(call.now).status)
    return instance


def _figures(told: messages.ProcessFigures) -> dict[str, int]:
    """As Trove names them."""
    return {
        "threads": told.threads,
        "fdSize": told.fd_size,
        "vmSize": told.vm_size_kb,
        "vmPeak": told.vm_peak_kb,
        "vmRss": told.vm_rss_kb,
        "vmHwm": told.vm_hwm_kb,
    }


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
        "agent": _agent(instance),
    }


def _agent(instance: Instance) -> dict[str, Any] | None:
    """Which release its agent is of and which code it runs, as it told; Trove tells nothing of that."""
    if instance.report is None:
        return None
    code = instance.report.agent
    return {"release": instance.report.release, "code": code or None, "current": code == agent_code.digest()}


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
    if view["server"] is not None:
        inside["server"] = view["server"] | {
            "addresses": {"private": [{"addr": instance.address, "version": 4}]}
        }
    if instance.root_enabled and instance.root_enabled_at is not None:
        inside["root_enabled"] = views.date(instance.root_enabled_at)
        inside["root_enabled_by"] = instance.root_enabled_by
    return inside
