"""An openstack platform to test, on a cloud that is real or simulated: what it makes there, and what is left of it."""

from __future__ import annotations

import os
import secrets
import tempfile
import time
import uuid
from pathlib import Path
from typing import Any

import openstack

from argosy.domain.datastore import Version
from argosy.domain.errors import CloudQuotaExceeded, PlatformError
from argosy.domain.instance import Flavor
from argosy.platforms.base import Placement, Server, ServerRequest
from argosy.platforms.openstack.platform import OpenStackPlatform
from tests.support.cloud import SimulatedCloud
from tests.support.server import wait_until

PORT = 15432
USER_DATA = '{"argosy": 1}'
SIZES = ("db.tiny", "db.small")
# Of what nothing is on a machine: servers boot from a plain image, and no agent is asked for.
IMAGE = "debian-12"
# Actions of Nova after which a server has booted anew (nova/compute/instance_actions.py).
_BOOTS = {"create", "start", "reboot", "rebuild", "resize", "revertResize"}


class OpenStackSite:
    """One installation in one cloud, and the questions that the contract asks of any platform."""

    refusal = CloudQuotaExceeded
    refused = r"quota gigabytes has [\d]+ left and \d+ is asked for"
    more_than_there_is_gb = 900_000

    def __init__(
        self, cloud: str, clouds_file: Path, management_network: str, *, pause_s: float, **settings: Any
    ) -> None:
        self.installation = f"test-{secrets.token_hex(3)}"
        self._settings = {
            "cloud": cloud,
            "clouds_file": clouds_file,
            "management_network": management_network,
            "installation": self.installation,
            "request_timeout_s": 60,
            **settings,
        }
        self._pause_s = pause_s
        self.sdk: Any = openstack.connection.Connection(
            config=openstack.config.OpenStackConfig(config_files=[str(clouds_file)]).get_one(cloud)
        )
        image = next(iter(self.sdk.image.images(name=IMAGE, status="active")))
        self.version = Version(datastore="stand-in", name="1", sources=(), image=image.id)
        self.ids: list[str] = []
        self.platform = self.new_platform()

    @classmethod
    def real(cls) -> OpenStackSite:
        """On the cloud that ARGOSY_TEST_CLOUD names."""
        return cls(
            os.environ["ARGOSY_TEST_CLOUD"],
            Path(os.environ.get("OS_CLIENT_CONFIG_FILE", "/var/lib/aio/clouds.yaml")),
            os.environ.get("ARGOSY_TEST_NETWORK", "private"),
            pause_s=0.5,
        )

    def new_platform(self) -> OpenStackPlatform:
        """As a control plane that has just started sees it."""
        # It is as patient as ever, and does not sleep as long between two looks.
        return OpenStackPlatform(
            **self._settings, pause=lambda asked_s: time.sleep(min(asked_s, self._pause_s))
        )

    def restart(self) -> None:
        self.platform.wind_down()
        self.platform = self.new_platform()

    def new_id(self) -> str:
        self.ids.append(str(uuid.uuid4()))
        return self.ids[-1]

    def flavor(self, name: str = SIZES[0]) -> Flavor:
        return next(one for one in self.platform.flavors() if one.name == name)

    def placement(self, instance_id: str, **more: Any) -> Placement:
        return Placement(instance_id, PORT, **more)

    def reserve(self, instance_id: str) -> str:
        return self.platform.servers.reserve(self.placement(instance_id)).agent

    def request(self, instance_id: str, size_gb: int = 1, **more: Any) -> ServerRequest:
        return ServerRequest(
            instance_id=instance_id,
            version=self.version,
            engine="stand-in",
            port=PORT,
            flavor=self.flavor(),
            conductor_url="https://127.0.0.1:1",
            placement=self.placement(instance_id, **more),
            volume_gb=size_gb,
            user_data=USER_DATA,
        )

    def build(self, instance_id: str, size_gb: int = 1, **more: Any) -> Server:
        """Everything a workflow asks for, in its order; as it says when the server is there, whatever it is doing."""
        self.reserve(instance_id)
        self.platform.volumes.create(instance_id, size_gb)
        self.platform.servers.create(self.request(instance_id, size_gb, **more))
        return Server(instance_id, self.reserve(instance_id), running=True)

    def build_and_wait(self, instance_id: str | None = None, **more: Any) -> Server:
        server = self.build(instance_id or self.new_id(), **more)
        self.wait_until_serving(server)
        return server

    def wait_until_serving(self, server: Server) -> None:
        self.wait_until_settled(server.instance_id)

    def wait_until_settled(self, instance_id: str) -> None:
        wait_until(
            "Nova is done with the server", lambda: self.platform.servers.settled(instance_id), 300, 0.05
        )

    def destroy(self, instance_id: str) -> None:
        self.platform.servers.delete(instance_id)
        self.platform.volumes.delete(instance_id)

    def life(self, server: Server) -> object:
        """Another one when it has booted anew: Nova tells moments by the second, and what made it boot one by one."""
        found = self.server(server.instance_id)
        boots = [one.request_id for one in self.sdk.compute.server_actions(found.id) if one.action in _BOOTS]
        return found.id, found.launched_at, boots

    def server(self, instance_id: str) -> Any:
        """As Nova shows it."""
        (found,) = self.sdk.compute.servers(details=True, tags=f"argosy-instance={instance_id}")
        return found

    def volume(self, instance_id: str) -> Any:
        (found,) = [
            one
            for one in self.sdk.block_storage.volumes()
            if one.metadata.get("argosy-instance") == instance_id
        ]
        return found

    def write_to_volume(self, server: Server) -> object:
        """What tells it from any other."""
        volume = self.volume(server.instance_id)
        assert volume.attachments[0]["server_id"] == self.server(server.instance_id).id
        return volume.id

    def check_written(self, server: Server, written: object) -> None:
        assert self.write_to_volume(server) == written

    def size_of_volume(self, server: Server) -> int:
        return int(self.volume(server.instance_id).size)

    def servers_of(self, instance_id: str) -> int:
        return len(list(self.sdk.compute.servers(tags=f"argosy-instance={instance_id}")))

    def traces(self, instance_id: str) -> list[str]:
        """All that the cloud has of an instance, by any mark, in words."""

        def ours(one: Any) -> bool:
            marks = (
                one.name,
                getattr(one, "description", ""),
                getattr(one, "metadata", ""),
                getattr(one, "tags", ""),
            )
            return instance_id in repr(marks)

        cloud = self.sdk
        kinds = {
            "server": cloud.compute.servers(details=True),
            "volume": cloud.block_storage.volumes(),
            "port": cloud.network.ports(),
            "security group": cloud.network.security_groups(),
            "floating IP": cloud.network.ips() if cloud.network.find_extension("router") else [],
        }
        return [f"{kind} {one.id}" for kind, some in kinds.items() for one in some if ours(one)]

    def groups(self) -> list[Any]:
        mine = f"argosy-{self.installation}-"
        return [one for one in self.sdk.compute.server_groups() if one.name.startswith(mine)]

    def close(self) -> None:
        try:
            for instance_id in {*self.ids, *self.platform.servers.leftovers([])}:
                self._destroy_patiently(instance_id)
            assert self.platform.servers.leftovers([]) == []
            assert self.groups() == []
        finally:
            self.platform.wind_down()
            self.sdk.close()

    def _destroy_patiently(self, instance_id: str) -> None:
        def destroyed() -> bool:
            try:
                self.destroy(instance_id)
            except PlatformError:
                return False
            return True

        wait_until("it can be removed", destroyed, 300, every_s=0.5)


class SimulatedSite(OpenStackSite):
    """On a simulated cloud of its own, which can be made to fail."""

    def __init__(self, user: str = "simulated", **settings: Any) -> None:
        """`user` is a cloud of its clouds.yaml: simulated, who may do everything, or simulated-demo, a mere member."""
        self.simulated = SimulatedCloud(pace_s=0.005)
        self.simulated.__enter__()
        self._home = tempfile.TemporaryDirectory(prefix="argosy-test-")
        try:
            self.simulated.change(
                lambda: self.simulated.glance.add(
                    IMAGE, self.simulated.keystone.project_id("admin"), public=True
                )
            )
            clouds = Path(self._home.name) / "clouds.yaml"
            self.simulated.write_clouds_file(clouds)
            super().__init__(user, clouds, "management", pause_s=0.01, **settings)
        except BaseException:
            self._end()
            raise

    def close(self) -> None:
        self.simulated.faults.forget()
        project_id = self.sdk.current_project_id
        try:
            super().close()
            assert self.simulated.left(project_id) == {}
        finally:
            self._end()

    def _end(self) -> None:
        self.simulated.__exit__()
        self._home.cleanup()
