"""/instances/{id}/protection: an instance that must not be deleted by mistake."""

from __future__ import annotations

from typing import Any

from pydantic import StrictBool

from argosy.api.call import Asked, check_instance_id
from argosy.api.route import faults, resource
from argosy.api.v1 import shapes
from argosy.api.v1.bodies import Body

router = resource("instances")


class ProtectionBody(Body):
    protected: StrictBool


@router.put(
    "/instances/{instance_id}/protection",
    response_model=shapes.Protection,
    responses=faults(400, 404, 415, 422),
)
def protect_instance(call: Asked, instance_id: str, body: ProtectionBody) -> dict[str, Any]:
    """`{"protected": true}`: from now on nobody can delete it, until that is taken back. 422 while it is deleted."""
    call.allow("instance:protect")
    check_instance_id(instance_id)
    with call.write() as tx:
        instance = tx.instances.get(instance_id)
        if instance.protected != body.protected:
            tx.instances.protect(instance.id, protected=body.protected)
            word = "protected" if body.protected else "unprotected"
            tx.events.add(instance.project_id, instance.id, f"instance.{word}", word, call.caller.user_name)
    return {"protected": body.protected}
