"""/instances/{id}/upgrades: what an instance can be moved to, and trying it on a copy."""

from __future__ import annotations

from typing import Any

from pydantic import StrictStr

from argosy import catalog
from argosy.api.call import Asked, check_instance_id
from argosy.api.route import faults, resource
from argosy.api.v1 import shapes, upgrading
from argosy.api.v1.bodies import Body
from argosy.domain import upgrades

router = resource("instances")


class Rehearsal(Body, extra="forbid"):
    datastore_version: StrictStr


class RehearsalBody(Body):
    rehearsal: Rehearsal


@router.get("/instances/{instance_id}/upgrades", response_model=shapes.Upgrades, responses=faults(404))
def list_upgrades(call: Asked, instance_id: str) -> dict[str, Any]:
    """The versions the instance can be moved to; one of the same release line runs on the data as it is."""
    call.allow("instance:upgrades")
    instance = call.instance(instance_id)
    now = upgrading.current(instance)
    return {
        "upgrades": [
            {
                "id": version.id,
                "name": version.name,
                "datastore": datastore.name,
                "converts": not upgrades.is_release(now, (datastore, version)),
            }
            for datastore, version in upgrades.targets(catalog.datastores(), now)
        ]
    }


@router.post(
    "/instances/{instance_id}/upgrade-rehearsals",
    status_code=202,
    response_model=shapes.Rehearsal,
    responses=faults(400, 404, 415, 422),
)
def rehearse_upgrade(call: Asked, instance_id: str, body: RehearsalBody) -> dict[str, Any]:
    """Begin to do all of an upgrade on a copy of the data, which is thrown away; the instance serves meanwhile.

    How it went is told by the operation, and by an event of the kind `upgrade.rehearsed`.
    """
    call.allow("instance:rehearse_upgrade")
    check_instance_id(instance_id)
    with call.write() as tx:
        instance = tx.instances.get(instance_id)
        operation_id = upgrading.rehearse(call, tx, instance, body.rehearsal.datastore_version)
    return {"rehearsal": {"operation_id": operation_id}}
