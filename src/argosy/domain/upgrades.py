"""Which version an instance can be moved to: a release of its own, or one that reads what its version wrote."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from argosy.domain.datastore import Datastore, Version
from argosy.domain.errors import Invalid

Target = tuple[Datastore, Version]


def is_release(current: Target, target: Target) -> bool:
    """Whether both are the same version of the same server, pulled at different times."""
    return (current[0].manager, current[1].series) == (target[0].manager, target[1].series)


def targets(datastores: Mapping[str, Datastore], current: Target) -> list[Target]:
    """What an instance can be moved to, its own datastore's first."""
    found = [(datastore, version) for datastore, version in _all(datastores) if version.active]
    fitting = [one for one in found if can_follow(current, one)]
    return sorted(fitting, key=lambda one: one[0].name != current[0].name)


def target(datastores: Mapping[str, Datastore], current: Target, wanted: str) -> Target:
    """The version of a name or id. Raises Invalid, naming what the instance can be moved to."""
    named = [one for one in _all(datastores) if one[0].name == current[0].name and one[1].name == wanted]
    known = named + [one for one in _all(datastores) if one[1].id == wanted]
    shown = f"{current[0].name} {current[1].name}"
    if not known:
        raise Invalid(
            f"Validation error: instance.datastore_version: there is no version {wanted[:255]!r}: "
            f"{_offer(datastores, current)}"
        )
    chosen = known[0]
    if chosen[1].id == current[1].id:
        raise Invalid(
            f"The instance runs {shown} already. A newer release of it is a version of its own: "
            f"{_offer(datastores, current)}",
            code="same-version",
        )
    if not can_follow(current, chosen):
        raise Invalid(
            f"An instance of {shown} cannot be moved to {chosen[0].name} {chosen[1].name}, which does not read its data: "
            f"{_offer(datastores, current)}",
            code="no-such-upgrade",
        )
    if not chosen[1].active:
        raise Invalid(f"Version {chosen[1].name} of {chosen[0].name} is not offered any more.")
    return chosen


def can_follow(current: Target, one: Target) -> bool:
    """Whether an instance of the current version can be moved to that one."""
    datastore, version = one
    if version.id == current[1].id:
        return False
    if datastore.name == current[0].name and is_release(current, one):
        return True
    own = current[1].series if datastore.manager == current[0].manager else None
    return (
        own in version.upgrades_from or f"{current[0].manager}/{current[1].series}" in version.upgrades_from
    )


def _all(datastores: Mapping[str, Datastore]) -> Iterator[Target]:
    for datastore in datastores.values():
        for version in datastore.versions:
            yield datastore, version


def _offer(datastores: Mapping[str, Datastore], current: Target) -> str:
    there = targets(datastores, current)
    if not there:
        return "there is no version it can be moved to."
    named = (
        version.name
        if datastore.name == current[0].name
        else f"{version.id} ({datastore.name} {version.name})"
        for datastore, version in there
    )
    return f"choose one of {', '.join(named)}."
