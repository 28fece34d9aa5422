"""`{"resize": …}`: another flavor, or a larger volume (contract 2.2)."""

from __future__ import annotations

import uuid
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationError

from argosy.api.call import Call
from argosy.api.v1.bodies import Body, Reference, SizeGb
from argosy.domain.errors import Invalid, NotFound, OverLimit
from argosy.domain.instance import check_flavor_holds
from argosy.domain.operations import ResizeFlavor, ResizeVolume


class NewSize(Body):
    size: SizeGb


def _bare(value: Any) -> Any:
    """Openstacksdk sends the number alone."""
    return value if isinstance(value, dict) else {"size": value}


class Resize(Body, extra="forbid"):
    volume: Annotated[NewSize | None, BeforeValidator(_bare)] = None
    flavor_ref: Reference | None = Field(default=None, alias="flavorRef")


def resize(call: Call, instance_id: str, details: Any) -> None:
    """Begin to give the instance another size. Raises Invalid unless exactly one of both is asked for."""
    try:
        asked = Resize.model_validate(details or {})
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False, include_context=False)[0]
        where = ".".join(str(part) for part in ("resize", *first["loc"]))
        raise Invalid(f"Validation error: {where}: {first['msg']}.") from None
    if asked.volume is not None and asked.flavor_ref is None:
        _resize_volume(call, instance_id, asked.volume.size)
    elif asked.flavor_ref is not None and asked.volume is None:
        _resize_flavor(call, instance_id, asked.flavor_ref)
    else:
        raise Invalid("Validation error: resize: it must have either volume or flavorRef, one at a time.")


def _resize_volume(call: Call, instance_id: str, size_gb: int) -> None:
    call.allow("instance:resize_volume")
    check_volume_size(call, size_gb)
    with call.write() as tx:
        instance = tx.instances.get(instance_id)
        instance.check_can_restart(call.now)
        instance.check_can_grow_to(size_gb)
        tx.quotas.grow(instance, volume_gb=size_gb)
        request = ResizeVolume(operation_id=str(uuid.uuid4()), instance_id=instance.id, size_gb=size_gb)
        tx.operations.begin(instance, request, requested_by=call.caller.user_name)


def _resize_flavor(call: Call, instance_id: str, reference: str) -> None:
    call.allow("instance:resize_flavor")
    with call.write() as tx:
        instance = tx.instances.get(instance_id)
        instance.check_can_restart(call.now)
        try:
            flavor = tx.flavors.get(reference)
        except NotFound as error:
            raise Invalid(error.sentence, code="flavor-not-found") from error
        if flavor.id == instance.flavor_id:
            raise Invalid(
                f"Validation error: resize.flavorRef: the instance has flavor {flavor.id} ({flavor.name}) already.",
                code="same-flavor",
            )
        datastore = call.datastore_of(instance)
        needed_mb = datastore.version(instance.version).min_memory_mb
        check_flavor_holds(flavor, f"{instance.datastore} {instance.version}", needed_mb)
        tx.quotas.grow(instance, memory_mb=flavor.memory_mb)
        request = ResizeFlavor(operation_id=str(uuid.uuid4()), instance_id=instance.id, flavor_id=flavor.id)
        tx.operations.begin(instance, request, requested_by=call.caller.user_name)


def check_volume_size(call: Call, size_gb: int) -> None:
    """Raises OverLimit for a volume larger than any may be."""
    most_gb = call.parts.max_volume_gb
    if size_gb > most_gb:
        raise OverLimit(f"The volume is larger than the {most_gb} GB that one may have at most.")
