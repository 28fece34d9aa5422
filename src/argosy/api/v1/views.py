"""Shapes that several resources share, and how an instance is shown (contract 2.1)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from argosy.api.call import Call
from argosy.domain.configuration import MEANING, error_of, outcome
from argosy.domain.datastore import Datastore
from argosy.domain.instance import Instance
from argosy.domain.operations import Event, Operation

GIB = 1024**3


def date(at: datetime) -> str:
    """UTC, naive, whole seconds: clients parse exactly this form (contract 3.7)."""
    return at.astimezone(UTC).replace(tzinfo=None, microsecond=0).isoformat()


def instance_summary(call: Call, instance: Instance, datastore: Datastore) -> dict[str, Any]:
    """The short view, as in lists."""
    shown = instance.shown(call.now)
    view: dict[str, Any] = {
        "id": instance.id,
        "name": instance.name,
        "status": shown.status,
        "operating_status": shown.operating_status,
        "links": call.links("instances", instance.id),
        "flavor": {"id": instance.flavor_id, "links": call.links("flavors", instance.flavor_id)},
        "datastore": {"type": instance.datastore, "version": instance.version},
        "region": call.parts.region,
        "access": instance.access,
        "volume": {"size": instance.volume_gb},
    }
    if instance.autogrow_limit_gb is not None:
        view["volume"]["autogrow_limit"] = instance.autogrow_limit_gb
    addresses = instance.shown_addresses
    if addresses:
        view["ip"] = [one["address"] for one in addresses]
        view["addresses"] = [{**one, "port": datastore.port} for one in addresses]
    if call.caller.is_admin:
        view["tenant_id"] = instance.project_id
    return view


def instance_detail(
    call: Call, instance: Instance, datastore: Datastore, operation: Operation | None = None
) -> dict[str, Any]:
    """The detail view. `argosy` holds what Trove never told: what is going on now, and which limits hold."""
    view = instance_summary(call, instance, datastore)
    report = instance.report
    view["datastore"]["version_number"] = (report.server_version if report else None) or instance.version
    view["created"] = date(instance.created_at)
    view["updated"] = date(instance.updated_at)
    if report is not None:
        view["service_status_updated"] = date(report.at)
        if report.volume_used_bytes is not None:
            view["volume"]["used"] = round(report.volume_used_bytes / GIB, 3)
            view["volume"]["used_percent"] = round(100 * (instance.volume_used_part or 0), 2)
    if instance.fault is not None:
        view["fault"] = {
            "message": instance.fault.message,
            "created": date(instance.fault.created_at),
            "details": instance.fault.details if call.caller.is_admin else None,
        }
    if instance.configuration_id is not None:
        view["configuration"] = {
            "id": instance.configuration_id,
            "name": instance.configuration_name or "",
            "links": call.links("configurations", instance.configuration_id),
        }
    if call.caller.is_admin:
        view["server_id"] = view["volume_id"] = instance.id
        view["encrypted_rpc_messaging"] = True
    view["argosy"] = {
        "port": datastore.port,
        "meaning": instance.shown(call.now).meaning,
        "protected": instance.protected,
        "tags": instance.tags,
        "operation": None if operation is None else operation_view(operation),
        **instance.platform,
    }
    if instance.configuration_id is not None:
        view["argosy"]["configuration"] = outcome_view(instance)
    if instance.deleted_at is not None:
        view["argosy"]["deleted"] = date(instance.deleted_at)
    return view


def outcome_view(instance: Instance) -> dict[str, Any]:
    """How far an instance is with the configuration group it follows."""
    how = outcome(instance)
    return {
        "state": how.value,
        "meaning": MEANING[how],
        "revision": instance.configuration_revision,
        "newest": instance.configuration_newest,
        "error": error_of(instance),
    }


def operation_view(operation: Operation) -> dict[str, Any]:
    return {
        "id": operation.id,
        "instance_id": operation.instance_id,
        "instance_name": operation.instance_name,
        "kind": operation.kind,
        "state": operation.state.value,
        "step": operation.step,
        "steps": operation.steps,
        "doing": operation.doing,
        "requested_by": operation.requested_by,
        "created": date(operation.created_at),
        "started": None if operation.started_at is None else date(operation.started_at),
        "ended": None if operation.ended_at is None else date(operation.ended_at),
        "error_code": operation.error_code,
        "error": operation.error,
    }


def event_view(event: Event) -> dict[str, Any]:
    return {
        "id": event.id,
        "instance_id": event.instance_id,
        "instance_name": event.instance_name,
        "at": date(event.at),
        "kind": event.kind,
        "message": event.message,
        "actor": event.actor,
    }
