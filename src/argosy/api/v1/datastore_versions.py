"""/mgmt/datastore-versions: which versions there are, which are offered, and new ones; for administrators."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Annotated, Any

from pydantic import Field, StrictBool, StrictStr, StringConstraints

from argosy import catalog
from argosy.api.call import Asked, Call
from argosy.api.route import faults, resource
from argosy.api.v1 import shapes
from argosy.api.v1.bodies import Body
from argosy.api.v1.datastores import made_from
from argosy.domain.datastore import Datastore, Version
from argosy.domain.errors import Invalid, NotFound
from argosy.domain.versions import Offer, check_version_name, offered, recipe
from argosy.metadata.store import Transaction

router = resource("management")

_ONE = "/mgmt/datastore-versions/{version_id}"

Word = Annotated[StrictStr, StringConstraints(max_length=255)]
ImageId = Annotated[StrictStr, StringConstraints(max_length=64)]
Tag = Annotated[StrictStr, StringConstraints(min_length=1, max_length=20)]
Tags = Annotated[list[Tag], Field(max_length=5)]
Packages = Annotated[list[Word], Field(max_length=20)]


class NewVersion(Body, extra="forbid"):
    """`image_tags` name the Debian suite to pull the software from; `packages` may hold its packages to a version."""

    name: Word
    datastore_name: Word
    datastore_manager: Word
    active: StrictBool
    image: ImageId | None = None
    image_tags: Tags | None = None
    packages: Packages | None = None
    default: StrictBool = False
    version: Annotated[StrictStr, StringConstraints(min_length=1, max_length=64)] | None = None
    registry_ext: Word | None = None
    repl_strategy: Word | None = None


class CreateBody(Body):
    version: NewVersion


class Changes(Body, extra="forbid"):
    """What is left out stays. Software is never changed under a version: make another one."""

    active: StrictBool | None = None
    default: StrictBool | None = None
    name: Word | None = None
    datastore_manager: Word | None = None
    image: ImageId | None = None
    image_tags: Tags | None = None
    packages: Packages | None = None
    registry_ext: Word | None = None
    repl_strategy: Word | None = None


@dataclass(frozen=True)
class _Known:
    """The versions as they are within a transaction."""

    datastores: dict[str, Datastore]
    offers: list[Offer]

    def get(self, version_id: str) -> tuple[Datastore, Version]:
        """Raises NotFound."""
        for datastore in self.datastores.values():
            for version in datastore.versions:
                if version.id == version_id:
                    return datastore, version
        raise NotFound(f"Datastore version {version_id[:255]!r} cannot be found.")

    def offer(self, datastore: Datastore, version: Version) -> Offer:
        """What is written down of it, or would be."""
        written = {offer.id: offer for offer in self.offers}.get(version.id)
        return written or Offer(
            version.id, datastore.name, version.name, datastore.manager, active=version.active
        )


@router.get("/mgmt/datastore-versions", response_model=shapes.ManagedVersions, responses=faults(401))
def list_all_versions(call: Asked) -> dict[str, Any]:
    """Every version of every datastore, also those that are not offered."""
    call.allow_management("mgmt:datastore_version:index")
    with call.read() as tx:
        known = _known(tx)
    return {
        "versions": [
            _view(datastore, one) for datastore in known.datastores.values() for one in datastore.versions
        ]
    }


@router.get(_ONE, response_model=shapes.ShownManagedVersion, responses=faults(401, 404))
def show_any_version(call: Asked, version_id: str) -> dict[str, Any]:
    """A version by its id."""
    call.allow_management("mgmt:datastore_version:show")
    with call.read() as tx:
        return {"version": _view(*_known(tx).get(version_id))}


@router.post("/mgmt/datastore-versions", status_code=202, responses=faults(400, 401, 415))
def create_version(call: Asked, body: CreateBody) -> None:
    """Make a version whose software is pulled anew from a Debian suite, beside those there are.

    It is like the version of the catalog that comes from that suite; its datastore is made if need be. Its
    software is pulled for its first instance, or ahead of it by `POST /images`.
    """
    call.allow_management("mgmt:datastore_version:create")
    asked = body.version
    check_version_name(asked.name, "version.name")
    check_version_name(asked.datastore_name, "version.datastore_name")
    _refuse_foreign(call, asked.image, asked.registry_ext, asked.repl_strategy, "version.")
    base = catalog.files().get(asked.datastore_manager)
    if base is None:
        raise Invalid(
            f"Validation error: version.datastore_manager: nothing here drives {asked.datastore_manager!r}: use one "
            f"of {', '.join(catalog.files())}."
        )
    tags = _unique(asked.image_tags or [], "version.image_tags")
    like, source = recipe(base, tags, asked.packages or [])
    if not call.parts.pulls_from_debian:
        raise Invalid(
            "This Argosy pulls nothing from Debian (setting local.image_sources), so nothing can be made."
        )
    if asked.default and not asked.active:
        raise Invalid("Validation error: version.default: only an active version can be the default.")
    with _changing(call) as (tx, known):
        datastore = known.datastores.get(asked.datastore_name)
        if datastore is not None and datastore.manager != base.name:
            raise Invalid(
                f"Validation error: version.datastore_manager: {datastore.name} is driven by {datastore.manager}."
            )
        _check_free(known, asked.datastore_name, asked.name)
        offer = Offer(
            id=str(uuid.uuid4()),
            datastore=asked.datastore_name,
            name=asked.name,
            manager=base.name,
            like=like.name,
            number=asked.version,
            suite=source.suite,
            packages=source.packages,
            tags=tuple(tags),
            image=asked.image,
            active=asked.active,
            default=asked.default or None,
        )
        if datastore is not None and datastore.removed:
            tx.datastore_versions.put(Offer(datastore.id, datastore.name, "", base.name))
        tx.datastore_versions.put(offer)
        _note(tx, call, "created", offer)


@router.patch(_ONE, status_code=202, responses=faults(400, 401, 404, 415))
def change_version(call: Asked, version_id: str, body: Changes) -> None:
    """Offer a version or not (`active`), make it the `default` or not, or rename one that is made and not used.

    On a cloud `image` is the one that its servers boot from, by id; "" for the newest that is tagged with it.
    """
    call.allow_management("mgmt:datastore_version:edit")
    _refuse_foreign(call, body.image, body.registry_ext, body.repl_strategy, "")
    with _changing(call) as (tx, known):
        datastore, version = known.get(version_id)
        offer = known.offer(datastore, version)
        if body.active is not None:
            offer = replace(offer, active=body.active)
        if body.default is not None:
            offer = replace(offer, default=body.default)
        if body.image is not None:
            offer = replace(offer, image=body.image or None)
        if offer.default and not offer.active and (body.default or body.active is None):
            raise Invalid("Validation error: default: only an active version can be the default.")
        _check_software(datastore, version, body)
        if body.image_tags is not None and version.like is not None:
            offer = replace(offer, tags=tuple(body.image_tags))
        if body.name is not None and body.name != offer.name:
            check_version_name(body.name, "name")
            if version.like is None:
                raise Invalid(
                    "Validation error: name: versions of the catalog keep their names: make one of your own."
                )
            _check_unused(tx, offer, "renamed")
            _check_free(known, offer.datastore, body.name)
            tx.images.forget(offer.datastore, offer.name)
            offer = replace(offer, name=body.name)
        tx.datastore_versions.put(offer)
        _note(tx, call, "changed", offer)


@router.delete(_ONE, status_code=202, responses=faults(400, 401, 404))
def delete_version(call: Asked, version_id: str) -> None:
    """Take a version away: 400 while anything uses it. Its software stays where it is."""
    call.allow_management("mgmt:datastore_version:delete")
    with _changing(call) as (tx, known):
        offer = known.offer(*known.get(version_id))
        _check_unused(tx, offer, "deleted")
        tx.datastore_versions.delete(offer)
        tx.images.forget(offer.datastore, offer.name)
        _note(tx, call, "deleted", offer)


@contextmanager
def _changing(call: Call) -> Iterator[tuple[Transaction, _Known]]:
    """A transaction with the versions, which nobody else changes meanwhile."""
    with call.write() as tx:
        tx.datastore_versions.hold()
        yield tx, _known(tx)
    catalog.changed()


def _known(tx: Transaction) -> _Known:
    offers = tx.datastore_versions.all()
    return _Known(offered(catalog.files(), offers), offers)


def _view(datastore: Datastore, version: Version) -> dict[str, Any]:
    packages, tags = made_from(version)
    return {
        "id": version.id,
        "name": version.name,
        "version": version.number or version.name,
        "datastore_id": datastore.id,
        "datastore_name": datastore.name,
        "datastore_manager": datastore.manager,
        "image": version.image,
        "image_tags": tags,
        "packages": packages,
        "active": version.active,
        "default": version.name == datastore.default_version,
        "registry_ext": None,
        "repl_strategy": None,
    }


def _refuse_foreign(
    call: Call, image: str | None, registry: str | None, strategy: str | None, above: str
) -> None:
    """What Trove's guests are told, and ours have no use for. Raises Invalid."""
    if image and not call.parts.boots_from_images:
        raise Invalid(
            f"Validation error: {above}image: this platform has no image service: leave it out, and name a Debian "
            "suite in image_tags."
        )
    for name, value in (("registry_ext", registry), ("repl_strategy", strategy)):
        if value:
            raise Invalid(f"Validation error: {above}{name}: engines are part of Argosy: leave it out.")


def _unique(tags: list[str], field: str) -> list[str]:
    if len(set(tags)) != len(tags):
        raise Invalid(f"Validation error: {field}: it must not name one twice.")
    return tags


def _check_software(datastore: Datastore, version: Version, asked: Changes) -> None:
    """Raises Invalid when it would be another than it is."""
    if asked.datastore_manager is not None and asked.datastore_manager != datastore.manager:
        raise Invalid(
            f"Validation error: datastore_manager: {datastore.name} is driven by {datastore.manager}."
        )
    packages, tags = made_from(version)
    suites = {source.suite for one in catalog.files()[datastore.manager].versions for source in one.debian}
    same = set(_unique(asked.image_tags or tags, "image_tags")) & suites == set(tags) & suites
    if version.like is None and asked.image_tags is not None:
        same = same and set(asked.image_tags) == set(tags)
    if not same or (asked.packages and asked.packages != packages):
        raise Invalid(
            f"Validation error: the software of version {version.name} stays what it is, image_tags "
            f"{', '.join(tags)} and packages {', '.join(packages)}: make another version."
        )


def _check_unused(tx: Transaction, offer: Offer, what: str) -> None:
    used_by = tx.datastore_versions.users(offer.datastore, offer.name)
    if used_by:
        raise Invalid(
            f"Version {offer.name} of {offer.datastore} cannot be {what}: {' and '.join(used_by)} use it."
        )


def _check_free(known: _Known, datastore: str, name: str) -> None:
    """Raises Invalid for a name that is taken, or whose software would lie where another's does."""
    place = f"{datastore}-{name}"
    for there in known.datastores.values():
        for version in there.versions:
            if f"{there.name}-{version.name}" == place:
                raise Invalid(
                    f"There is a version {version.name} of {there.name} already: choose another name."
                )


def _note(tx: Transaction, call: Call, what: str, offer: Offer) -> None:
    tx.events.add(
        call.project_id,
        None,
        f"datastore_version.{what}",
        f"Version {offer.name} of {offer.datastore} was {what}.",
        call.caller.user_name,
    )
