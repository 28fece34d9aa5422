"""/datastores: what can be had, and its versions."""

from __future__ import annotations

import uuid
from typing import Any

from argosy import catalog
from argosy.api.call import Asked, Call
from argosy.api.route import faults, resource
from argosy.api.v1 import shapes
from argosy.api.v1.flavors import flavor_view
from argosy.domain.datastore import Datastore, Version
from argosy.domain.errors import Invalid, NotFound
from argosy.domain.instance import Flavor
from argosy.domain.versions import Offer, offered

router = resource("datastores")

_VERSION = "/datastores/{datastore}/versions/{version}"
_BY_ID = "/datastores/versions/{version_id}"


def find_datastore(name_or_id: str) -> Datastore:
    """Raises NotFound."""
    there = _there()
    for datastore in there:
        if name_or_id in (datastore.name, datastore.id):
            return datastore
    names = ", ".join(datastore.name for datastore in there)
    raise NotFound(f"Datastore {name_or_id[:255]!r} cannot be found: choose one of {names}.")


def _there() -> list[Datastore]:
    return [datastore for datastore in catalog.datastores().values() if not datastore.removed]


@router.get("/datastores", response_model=shapes.Datastores, responses=faults())
def list_datastores(call: Asked) -> dict[str, Any]:
    """The datastores there are, with the versions that can be had; for an administrator, all."""
    call.allow("datastore:index")
    shown = [one for one in _there() if _versions(call, one) or call.caller.is_admin]
    return {"datastores": [_view(call, one, _versions(call, one)) for one in shown]}


@router.get(_BY_ID, response_model=shapes.ShownVersion, responses=faults(404), name="show_version_by_id")
def show_version_by_id(call: Asked, version_id: str) -> dict[str, Any]:
    """A version by its id alone."""
    call.allow("datastore:version_show_by_uuid")
    datastore, version = find_version_by_id(version_id)
    return {"version": _version_view(call, datastore, version)}


@router.get("/datastores/{datastore}", response_model=shapes.ShownDatastore, responses=faults(404))
def show_datastore(call: Asked, datastore: str) -> dict[str, Any]:
    """A datastore by name or id, with the versions that can be had."""
    call.allow("datastore:show")
    found = find_datastore(datastore)
    return {"datastore": _view(call, found, [one for one in found.versions if one.active])}


@router.delete("/datastores/{datastore}", status_code=202, responses=faults(400, 404))
def delete_datastore(call: Asked, datastore: str) -> None:
    """Take away a datastore that has no versions any more: 400 while it has."""
    call.allow("datastore:delete")
    with call.write() as tx:
        tx.datastore_versions.hold()
        found = offered(catalog.files(), tx.datastore_versions.all()).get(find_datastore(datastore).name)
        if found is None:
            return
        if found.versions:
            names = ", ".join(one.name for one in found.versions)
            raise Invalid(f"Datastore {found.name} has versions: delete them first ({names}).")
        tx.datastore_versions.put(Offer(found.id, found.name, "", found.manager, deleted=True))
    catalog.changed()


@router.get("/datastores/{datastore}/versions", response_model=shapes.Versions, responses=faults(404))
def list_versions(call: Asked, datastore: str) -> dict[str, Any]:
    """The versions of a datastore that can be had; for an administrator, all."""
    call.allow("datastore:version_index")
    found = find_datastore(datastore)
    return {"versions": [_version_view(call, found, one) for one in _versions(call, found)]}


@router.get(_VERSION, response_model=shapes.ShownVersion, responses=faults(400, 404))
def show_version(call: Asked, datastore: str, version: str) -> dict[str, Any]:
    """A version by name or id."""
    call.allow("datastore:version_show")
    found, known = find_version(datastore, version)
    return {"version": _version_view(call, found, known)}


@router.get(_VERSION + "/flavors", response_model=shapes.Flavors, responses=faults(400, 404))
def list_version_flavors(call: Asked, datastore: str, version: str) -> dict[str, Any]:
    """The flavors with enough memory for the version."""
    call.allow("datastore:list_associated_flavors")
    _, known = find_version(datastore, version)
    with call.read() as tx:
        flavors = [one for one in tx.flavors.all() if _holds(one, known)]
    return {"flavors": [flavor_view(call, one) for one in flavors]}


@router.get(_VERSION + "/volume-types", response_model=shapes.VolumeTypes, responses=faults(400, 404))
def list_version_volume_types(call: Asked, datastore: str, version: str) -> dict[str, Any]:
    """Kinds of volume to choose from; there is one kind, so none is named."""
    call.allow("datastore:list_associated_volume_types")
    find_version(datastore, version)
    return {"volume_types": []}


def _holds(flavor: Flavor, version: Version) -> bool:
    return flavor.memory_mb >= version.min_memory_mb


def _versions(call: Call, datastore: Datastore) -> list[Version]:
    return [one for one in datastore.versions if one.active or call.caller.is_admin]


def find_version(datastore: str, name_or_id: str) -> tuple[Datastore, Version]:
    """Raises Invalid for an unknown name, NotFound for an unknown id (contract 2.15)."""
    found = find_datastore(datastore)
    for version in found.versions:
        if name_or_id in (version.name, version.id):
            return found, version
    sentence = f"Datastore {found.name} has no version {name_or_id[:255]!r}."
    if _is_uuid(name_or_id):
        raise NotFound(sentence)
    raise Invalid(sentence)


def find_version_by_id(version_id: str) -> tuple[Datastore, Version]:
    """Raises NotFound."""
    for datastore in _there():
        for version in datastore.versions:
            if version.id == version_id:
                return datastore, version
    raise NotFound(f"Datastore version {version_id[:255]!r} cannot be found.")


def made_from(version: Version) -> tuple[list[str], list[str]]:
    """The Debian packages of a version, and its tags, of which one is their suite."""
    if not version.debian:
        return [], list(version.tags)
    source = version.debian[0]
    return list(source.packages), list(version.tags) or [source.suite]


def _is_uuid(text: str) -> bool:
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True


def _view(call: Call, datastore: Datastore, versions: list[Version]) -> dict[str, Any]:
    view: dict[str, Any] = {
        "id": datastore.id,
        "name": datastore.name,
        "links": call.links("datastores", datastore.id),
        "versions": [_short_version_view(call, one) for one in versions],
        "argosy": {
            "title": datastore.title,
            "port": datastore.port,
            "capabilities": sorted(datastore.capabilities),
            "guarantees": list(datastore.guarantees),
        },
    }
    for version in versions:
        if version.name == datastore.default_version and version.active:
            view["default_version"] = version.id
    return view


def _version_view(call: Call, datastore: Datastore, version: Version) -> dict[str, Any]:
    return {**_short_version_view(call, version), "datastore": datastore.id}


def _short_version_view(call: Call, version: Version) -> dict[str, Any]:
    view: dict[str, Any] = {
        "id": version.id,
        "name": version.name,
        "version": version.number or version.name,
        "links": call.links("datastores/versions", version.id),
    }
    if call.caller.is_admin:
        packages, tags = made_from(version)
        view |= {
            "active": version.active,
            "packages": ", ".join(packages),
            "image": None,
            "image_tags": tags,
            "registry_ext": None,
            "repl_strategy": None,
        }
    return view
