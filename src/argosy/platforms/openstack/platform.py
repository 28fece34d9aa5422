"""The openstack platform, put together."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Literal

from argosy.domain.drift import Finding
from argosy.domain.instance import Flavor
from argosy.platforms.base import Expectation, Images, Servers, Volumes
from argosy.platforms.openstack.cloud import Cloud
from argosy.platforms.openstack.doubts import doubts
from argosy.platforms.openstack.drift import Reconciler
from argosy.platforms.openstack.flavors import Flavors
from argosy.platforms.openstack.groups import ServerGroups
from argosy.platforms.openstack.images import OpenStackImages
from argosy.platforms.openstack.names import Names
from argosy.platforms.openstack.networks import Networks
from argosy.platforms.openstack.servers import OpenStackServers
from argosy.platforms.openstack.volumes import OpenStackVolumes

_log = logging.getLogger(__name__)


class OpenStackPlatform:
    """One project of one cloud. All state is there, so any number of these may look after one installation."""

    name = "openstack"
    machines = True
    images: Images
    servers: Servers
    volumes: Volumes

    def __init__(
        self,
        *,
        cloud: str,
        management_network: str,
        clouds_file: Path | None = None,
        installation: str = "argosy",
        network: str | None = None,
        control_cidrs: Sequence[IPv4Network | IPv6Network] = (),
        floating_network: str | None = None,
        shared_networks: Sequence[str] | None = None,
        volume_type: str | None = None,
        availability_zone: str | None = None,
        keypair: str | None = None,
        flavors: str = "db.*",
        spread: Literal["anti-affinity", "soft-anti-affinity"] = "soft-anti-affinity",
        request_timeout_s: float = 60,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        """See settings.OpenStackSettings. Nothing is asked of the cloud yet.

        `shared_networks` is None where users' projects are not those of the cloud's Keystone: then they may name any network.
        """
        names = Names(installation)
        self._cloud = Cloud(cloud, clouds_file, request_timeout_s=request_timeout_s, pause=pause)
        self._networks = Networks(
            self._cloud,
            names,
            management=management_network,
            network=network,
            control=control_cidrs,
            floating=floating_network,
            shared=shared_networks,
        )
        self._volumes = OpenStackVolumes(self._cloud, names, volume_type=volume_type)
        self._flavors = Flavors(self._cloud, flavors)
        images = OpenStackImages(self._cloud)
        self._servers = OpenStackServers(
            self._cloud,
            names,
            self._networks,
            self._volumes,
            images,
            self._flavors,
            ServerGroups(self._cloud, names, spread),
            availability_zone=availability_zone,
            keypair=keypair,
        )
        self._reconciler = Reconciler(self._cloud, names, self._networks, self._servers, self._volumes)
        named = {
            "management_network": management_network,
            "network": network,
            "floating_network": floating_network,
            "volume_type": volume_type,
            "availability_zone": availability_zone,
            "keypair": keypair,
        }
        self._named = {setting: [] if name is None else [name] for setting, name in named.items()}
        self._named["shared_networks"] = list(shared_networks or ())
        self.images = images
        self.servers = self._servers
        self.volumes = self._volumes
        self.reach = f"the networks of cloud {cloud} that an instance is put on" + (
            f", and {floating_network} for those that are public" if floating_network else ""
        )

    def flavors(self) -> list[Flavor]:
        return self._flavors.all()

    def survey(
        self,
        expected: Sequence[Expectation],
        may_repair: Callable[[Finding], bool],
    ) -> list[Finding]:
        return self._reconciler.survey(expected, may_repair)

    def warm_up(self) -> None:
        """Tell the operator, in the log, what the settings name and the cloud does not have."""

        def tell() -> None:
            for doubt in self.doubts():
                _log.warning(doubt)

        threading.Thread(target=tell, name="doubts", daemon=True).start()

    def doubts(self) -> list[str]:
        """A sentence for each setting that names what the cloud does not have."""
        return list(doubts(self._cloud, self._networks, self._flavors, self._named))

    def wind_down(self) -> None:
        self._cloud.close()

    def stop(self, instance_id: str) -> None:
        self._servers.stop(instance_id)
