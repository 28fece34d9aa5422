"""To another version: what PATCH, and our own routes about it, have in common."""

from __future__ import annotations

import uuid
from typing import Any

from argosy import catalog
from argosy.api.call import Call
from argosy.domain import upgrades
from argosy.domain.errors import Invalid
from argosy.domain.instance import Instance, check_flavor_holds
from argosy.domain.operations import RehearseUpgrade, UpgradeInstance
from argosy.metadata.store import Transaction

NAME_MAX = 255


def upgrade(call: Call, tx: Transaction, instance: Instance, wanted: Any) -> None:
    """Begin to move an instance to the version of a name or id. Raises Invalid or InstanceBusy."""
    _begin(call, tx, instance, wanted, UpgradeInstance)


def rehearse(call: Call, tx: Transaction, instance: Instance, wanted: Any) -> str:
    """Begin to try it on a copy. Returns the operation's id."""
    return _begin(call, tx, instance, wanted, RehearseUpgrade)


def current(instance: Instance) -> upgrades.Target:
    return catalog.version(instance.datastore, instance.version)


def _begin(
    call: Call,
    tx: Transaction,
    instance: Instance,
    wanted: Any,
    kind: type[UpgradeInstance | RehearseUpgrade],
) -> str:
    if not isinstance(wanted, str) or not 1 <= len(wanted) <= NAME_MAX:
        raise Invalid(
            "Validation error: instance.datastore_version: it must be the name or id of a version, a string of 1 to "
            f"{NAME_MAX} characters."
        )
    datastore, version = upgrades.target(catalog.datastores(), current(instance), wanted)
    tx.datastore_versions.check_offered(datastore.name, version.name)
    flavor = tx.flavors.get(instance.flavor_id)
    check_flavor_holds(flavor, f"{datastore.name} {version.name}", version.min_memory_mb)
    instance.check_can_restart(call.now)
    # What stands in its way can only be seen in a server that runs.
    instance.check_serves(call.now)
    request = kind(
        operation_id=str(uuid.uuid4()),
        instance_id=instance.id,
        datastore=datastore.name,
        version=version.name,
    )
    tx.operations.begin(instance, request, requested_by=call.caller.user_name)
    return request.operation_id
