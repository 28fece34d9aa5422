"""Sizes of servers: those of Nova's flavors that are meant for databases."""

from __future__ import annotations

from fnmatch import fnmatchcase

from argosy.domain.errors import PlatformError
from argosy.domain.instance import Flavor
from argosy.platforms.openstack.cloud import Cloud, Remembered, Service

_OFTEN_S = 60.0


class Flavors:
    """Those whose name fits `pattern`, such as `db.*`, smallest first."""

    def __init__(self, cloud: Cloud, pattern: str) -> None:
        self._cloud = cloud
        self.pattern = pattern
        self._known = Remembered(self._ask, _OFTEN_S)

    def all(self) -> list[Flavor]:
        return self._known.get()

    def id_of(self, flavor: Flavor) -> str:
        """What Nova knows it by. Raises PlatformError when it has been taken away there."""
        for one in self._known.get():
            if flavor.id in (one.id, one.name) or flavor.name == one.name:
                return one.id
        raise PlatformError(f"Nova has no flavor {flavor.name} any more that fits {self.pattern}.")

    def _ask(self) -> list[Flavor]:
        found = self._cloud.ask(Service.NOVA, lambda cloud: list(cloud.compute.flavors(details=True)))
        fitting = [
            Flavor(id=one.id, name=one.name, memory_mb=int(one.ram), vcpus=int(one.vcpus))
            for one in found
            if fnmatchcase(one.name, self.pattern)
        ]
        return sorted(fitting, key=lambda one: (one.memory_mb, one.vcpus, one.name))
