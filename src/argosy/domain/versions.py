"""What operators make of the catalog: versions of their own, which are offered, which is the default.

The catalog's files say what can be had; what is written down here lies on top of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from argosy.domain.datastore import Datastore, DebianSource, Version
from argosy.domain.errors import Invalid

# They become names of directories.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}")
# As Debian has them; with a version behind it, that one and no other. Never an option of a program.
_PACKAGE = re.compile(r"([a-z0-9][a-z0-9+.-]+)(?:=[A-Za-z0-9][A-Za-z0-9.+:~-]*)?")
# /datastores/versions/{id} is a path of the API.
_RESERVED = {"versions"}


@dataclass(frozen=True)
class Offer:
    """A version as an operator wants it.

    Without `like` it is one of the catalog, of which only `active`, `default` and `deleted` are told. With it,
    it was made: the software of that version of `manager`, pulled anew from `suite`, as `packages`.
    `image` is the one of a cloud that its servers boot from, by id; None for the newest that is tagged with it.
    `default` None leaves the choice to the catalog. What was deleted stays known, for what once used it; one
    without a name stands for the datastore itself.
    """

    id: str
    datastore: str
    name: str
    manager: str
    like: str | None = None
    number: str | None = None
    suite: str = ""
    packages: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    image: str | None = None
    active: bool = True
    default: bool | None = None
    deleted: bool = False


def offered(catalog: Mapping[str, Datastore], offers: Iterable[Offer]) -> dict[str, Datastore]:
    """The catalog with what operators made of it, by name. A datastore may have no version left."""
    result = dict(catalog)
    for offer in offers:
        if offer.manager not in catalog:
            continue  # of a release that knew more
        there = result.get(offer.datastore) or _like(catalog[offer.manager], offer.datastore)
        if not offer.name:
            result[offer.datastore] = replace(there, removed=offer.deleted)
            continue
        versions = [one for one in there.versions if one.name != offer.name]
        place = len(versions)
        known = next((one for one in there.versions if one.name == offer.name), None)
        if offer.like is not None:
            known = _made(catalog[offer.manager], offer)
        elif known is not None:
            place = there.versions.index(known)
            known = replace(known, active=offer.active, image=offer.image)
        if known is not None and not offer.deleted:
            versions.insert(place, known)
        default = there.default_version
        if offer.default and not offer.deleted:
            default = offer.name
        elif default == offer.name and (offer.deleted or offer.default is False):
            default = ""
        result[offer.datastore] = replace(there, versions=tuple(versions), default_version=default)
    return result


def _like(base: Datastore, name: str) -> Datastore:
    title = f"{base.title} ({name})"
    return replace(base, name=name, title=title, versions=(), default_version="")


def _made(base: Datastore, offer: Offer) -> Version | None:
    like = next((one for one in base.versions if one.name == offer.like), None)
    if like is None:
        return None
    source = next((one for one in like.debian if one.suite == offer.suite), None)
    return replace(
        like,
        datastore=offer.datastore,
        name=offer.name,
        sources=() if source is None else (replace(source, packages=offer.packages),),
        active=offer.active,
        like=like.name,
        own_id=offer.id,
        number=offer.number,
        tags=offer.tags,
        image=offer.image,
    )


def check_version_name(name: str, field: str) -> None:
    """Raises Invalid."""
    if not NAME.fullmatch(name) or name in _RESERVED:
        raise Invalid(
            f"Validation error: {field}: it must have 1 to 64 letters, digits and . _ + -, beginning with a letter or "
            f"digit, and not be {' or '.join(sorted(_RESERVED))}."
        )


def recipe(base: Datastore, tags: Sequence[str], packages: Sequence[str]) -> tuple[Version, DebianSource]:
    """The version of the catalog that one asked for by tags and packages is like, and its source.

    A tag names the Debian suite to pull from. Packages, if any, are those of the catalog, of which each may be
    held to a version: `postgresql-17=17.12-0+deb13u1`. Raises Invalid, saying what can be had.
    """
    known = [(version, source) for version in base.versions for source in version.debian]
    fitting = [(version, source) for version, source in known if source.suite in tags]
    if packages:
        wanted = {_package(one, number) for number, one in enumerate(packages)}
        fitting = [(version, source) for version, source in fitting if set(source.packages) == wanted]
    if len(fitting) == 1:
        version, source = fitting[0]
        return version, replace(source, packages=tuple(packages) or source.packages)
    choices = "; ".join(
        f"{source.suite} for one like {version.name}, packages {', '.join(source.packages)}"
        for version, source in known
    )
    raise Invalid(
        f"Validation error: version.image_tags: software of {base.name} is pulled from one of Debian's suites, "
        f"which a tag must name, and packages, if given, must be those of the suite: {choices}."
    )


def _package(package: str, number: int) -> str:
    """Its name, without the version it is held to. Raises Invalid."""
    match = _PACKAGE.fullmatch(package)
    if match is None:
        raise Invalid(
            f"Validation error: version.packages[{number}]: it must be the name of a Debian package, or "
            "name=version."
        )
    return match[1]
