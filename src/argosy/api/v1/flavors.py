"""/flavors: sizes of server; and the kinds of volume that older clients ask for."""

from __future__ import annotations

from typing import Any

from argosy.api.call import Asked, Call
from argosy.api.route import faults, resource
from argosy.api.v1 import shapes
from argosy.domain.errors import NotFound
from argosy.domain.instance import Flavor

router = resource("flavors")


def flavor_view(call: Call, flavor: Flavor) -> dict[str, Any]:
    """`id` is a number where it can be one, else null; `str_id` is always there (contract 2.17)."""
    numeric = flavor.id.isascii() and flavor.id.isdigit() and str(int(flavor.id)) == flavor.id
    return {
        "id": int(flavor.id) if numeric else None,
        "str_id": flavor.id,
        "name": flavor.name,
        "ram": flavor.memory_mb,
        "vcpus": flavor.vcpus,
        "disk": 0,
        "ephemeral": 0,
        "links": call.links("flavors", flavor.id),
    }


@router.get("/flavors", response_model=shapes.Flavors, responses=faults())
def list_flavors(call: Asked) -> dict[str, Any]:
    """Every flavor, smallest first."""
    call.allow("flavor:index")
    with call.read() as tx:
        return {"flavors": [flavor_view(call, flavor) for flavor in tx.flavors.all()]}


@router.get("/flavors/{flavor_id}", response_model=shapes.ShownFlavor, responses=faults(404))
def show_flavor(call: Asked, flavor_id: str) -> dict[str, Any]:
    """A flavor by its id."""
    call.allow("flavor:show")
    with call.read() as tx:
        return {"flavor": flavor_view(call, tx.flavors.get(flavor_id))}


@router.get("/volume-types", response_model=shapes.VolumeTypes, responses=faults())
def list_volume_types(call: Asked) -> dict[str, Any]:
    """Kinds of volume to choose from; there is one kind, so none is named."""
    call.allow("volume_type:index")
    return {"volume_types": []}


@router.get("/volume-types/{volume_type}", response_model=shapes.ShownVolumeType, responses=faults(404))
def show_volume_type(call: Asked, volume_type: str) -> dict[str, Any]:
    """One of them."""
    call.allow("volume_type:show")
    raise NotFound(f"Volume type {volume_type[:255]!r} cannot be found.")
