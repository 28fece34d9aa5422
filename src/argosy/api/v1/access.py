"""Who may connect to an instance: `access` of an instance, and /instances/{id}/tls, which is ours."""

from __future__ import annotations

import uuid
from typing import Any

from argosy.api.call import Asked, Call, check_instance_id
from argosy.api.route import faults, resource
from argosy.api.v1 import shapes
from argosy.api.v1.bodies import AccessBody, Body, TlsBody
from argosy.domain.access import Rules
from argosy.domain.errors import Unsupported
from argosy.domain.instance import Instance
from argosy.domain.operations import UpdateAccess
from argosy.metadata.store import Transaction

router = resource("instances")


class UpdateTlsBody(Body):
    tls: TlsBody


@router.get("/instances/{instance_id}/tls", response_model=shapes.ShownTls, responses=faults(404))
def show_tls(call: Asked, instance_id: str) -> dict[str, Any]:
    """Whether clients must use TLS, and what that means for this datastore."""
    call.allow("instance:tls:show")
    instance = call.instance(instance_id)
    return {
        "tls": {"mode": "required" if instance.require_tls else "allowed", "enforced": _enforced(instance)}
    }


@router.put("/instances/{instance_id}/tls", status_code=202, responses=faults(400, 404, 415, 422, 501))
def update_tls(call: Asked, instance_id: str, body: UpdateTlsBody) -> None:
    """`{"tls": {"mode": "required"}}`: begin to refuse clients without TLS; sessions without it end."""
    call.allow("instance:tls:update")
    check_instance_id(instance_id)
    require = body.tls.mode == "required"
    with call.write() as tx:
        instance = tx.instances.get(instance_id)
        instance.check_can_restart(call.now)
        enforced = _enforced(instance) or ""
        # What a guest says of a server that can do but one of the two goes on after the word.
        if (require and enforced.startswith("none:")) or (not require and enforced.startswith("required:")):
            raise Unsupported(f"TLS of instance {instance.id} cannot be {body.tls.mode}: it is {enforced}.")
        _begin(call, tx, instance, require_tls=require)


def update_access(call: Call, tx: Transaction, instance: Instance, asked: AccessBody) -> None:
    """Begin to hold clients to this, which replaces all that was said before (contract 2.1)."""
    instance.check_can_restart(call.now)
    _begin(call, tx, instance, is_public=asked.is_public, allowed_cidrs=tuple(asked.allowed_cidrs))


def access_of(asked: AccessBody | None) -> dict[str, Any]:
    """As a new instance keeps it."""
    asked = asked or AccessBody()
    return Rules(is_public=asked.is_public, networks=tuple(asked.allowed_cidrs)).shown()


def _begin(call: Call, tx: Transaction, instance: Instance, **changes: Any) -> None:
    request = UpdateAccess(operation_id=str(uuid.uuid4()), instance_id=instance.id, **changes)
    tx.operations.begin(instance, request, requested_by=call.caller.user_name)


def _enforced(instance: Instance) -> str | None:
    """In the guest's words; None as long as it has not told."""
    told: dict[str, str] = instance.platform.get("access", {})
    return told.get("tls")
