"""What the settings name and the cloud does not have: told when a task manager starts, and not by the first create."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from argosy.domain.errors import ArgosyError
from argosy.platforms.openstack.cloud import Cloud, Service
from argosy.platforms.openstack.flavors import Flavors
from argosy.platforms.openstack.networks import Networks


def doubts(
    cloud: Cloud, networks: Networks, flavors: Flavors, named: Mapping[str, Sequence[str]]
) -> Iterator[str]:
    """A sentence for each setting that names what is not there; `named` has what each of them names, by its own name."""

    def is_network(name: str) -> bool:
        return bool(networks.find_network(name))

    def is_volume_type(name: str) -> bool:
        found = cloud.ask(Service.CINDER, lambda one: list(one.block_storage.types()))
        return name in {known for one in found for known in (one.id, one.name)}

    def is_zone(name: str) -> bool:
        found = cloud.ask(Service.NOVA, lambda one: list(one.compute.availability_zones()))
        return name in {one.name for one in found}

    def is_keypair(name: str) -> bool:
        return cloud.ask(Service.NOVA, lambda one: one.compute.find_keypair(name)) is not None

    looks: dict[str, Callable[[str], bool]] = {
        "volume_type": is_volume_type,
        "availability_zone": is_zone,
        "keypair": is_keypair,
    }
    for setting, names in named.items():
        for name in names:
            try:
                if not looks.get(setting, is_network)(name):
                    yield f"openstack.{setting}: cloud {cloud.name} has no {name}."
            except ArgosyError as error:
                yield f"openstack.{setting}: {error.sentence}"
    try:
        if not flavors.all():
            yield f"openstack.flavors: cloud {cloud.name} has no flavor whose name fits {flavors.pattern}."
    except ArgosyError as error:
        yield f"openstack.flavors: {error.sentence}"
