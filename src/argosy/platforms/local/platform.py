"""The local platform, put together."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from ipaddress import IPv4Network
from pathlib import Path
from typing import Literal

from argosy.domain.drift import Finding
from argosy.domain.instance import Flavor
from argosy.platforms.base import Expectation, Images, Servers, Volumes
from argosy.platforms.local.accounts import check_mapped
from argosy.platforms.local.addresses import AddressPool
from argosy.platforms.local.agents import Agents
from argosy.platforms.local.cgroups import Groups
from argosy.platforms.local.home import Home
from argosy.platforms.local.images import LocalImages
from argosy.platforms.local.servers import LocalServers
from argosy.platforms.local.volumes import Kind, LocalVolumes


class LocalPlatform:
    """This machine. As root it holds instances to their limits; as an ordinary user it says that it cannot.

    All state is on disk and in the process table, so any number of these may look after one home.
    """

    name = "local"
    reach = "this machine only: the local platform gives no public addresses, whatever is_public says"
    machines = False
    images: Images
    servers: Servers
    volumes: Volumes

    def __init__(
        self,
        home: Path,
        *,
        network: IPv4Network,
        flavors: Sequence[Flavor],
        images: LocalImages,
        python: Path | None = None,
        agent_module: str = "argosy.agent",
        volumes: Kind = "auto",
        limits: Literal["auto", "none"] = "auto",
        ports: Iterable[int] = (),
        fork_agents: bool = True,
    ) -> None:
        """Raises PlatformError, saying what to do, for a home or machine that cannot serve.

        `ports` are those of the engines: an address where another program has one is passed over. Where
        PYTHONPATH is set, agents get it too. With `fork_agents` a nursery keeps their code loaded.
        """
        check_mapped()
        place = Home(home)
        addresses = AddressPool(place, network, ports)
        groups = Groups.find(place) if limits == "auto" else "limits are switched off by configuration"
        self._agents = Agents(place, str(python or sys.executable), agent_module, forked=fork_agents)
        self._flavors = list(flavors)
        self._volumes = LocalVolumes(place, addresses, volumes)
        self._servers = LocalServers(place, addresses, self._volumes, images, groups, self._agents)
        self.images = images
        self.servers = self._servers
        self.volumes = self._volumes

    def flavors(self) -> list[Flavor]:
        return list(self._flavors)

    def survey(
        self,
        expected: Sequence[Expectation],  # noqa: ARG002 - `heal` boots what died here
        may_repair: Callable[[Finding], bool],  # noqa: ARG002 - `heal` boots what died here
    ) -> list[Finding]:
        return []

    def warm_up(self) -> None:
        self._agents.warm_up()

    def wind_down(self) -> None:
        self._agents.end_nursery()

    def stop(self, instance_id: str) -> None:
        """End everything of an instance that runs and unmount its volume; `heal` brings it back.

        Its database server should have been stopped through its agent before.
        """
        self._servers.stop(instance_id)
        self._volumes.detach(instance_id)
