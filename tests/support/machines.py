"""A whole Argosy whose servers are machines of a cloud, real or simulated, and what it leaves there."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import openstack
import yaml

from argosy.processes.control_plane import ControlPlane
from argosy.settings import Settings
from tests.support.cloud import SimulatedCloud
from tests.support.cloud.hypervisor import Machines
from tests.support.keystone_clients import KeystoneApi, Login
from tests.support.server import Client, Server, running, wait_until


@dataclass(frozen=True)
class Cloud:
    """One to run in. `conductor` is where its machines reach us."""

    name: str
    clouds_file: Path
    management_network: str
    conductor: str
    store: str = "swift"
    tenant: str = ""  # another cloud of the file: a user whose project is not ours

    @classmethod
    def real(cls) -> Cloud:
        """The one that ../shared/openstack brings up, or another like it, named by the environment."""
        return cls(
            name=os.environ["ARGOSY_TEST_CLOUD"],
            clouds_file=Path(os.environ.get("OS_CLIENT_CONFIG_FILE", "/var/lib/aio/clouds.yaml")),
            management_network=os.environ.get("ARGOSY_TEST_NETWORK", "private"),
            conductor=os.environ.get("ARGOSY_TEST_CONDUCTOR", "10.77.0.2:8778"),
            tenant=os.environ.get("ARGOSY_TEST_TENANT", "aio-demo"),
        )

    def settings(self, installation: str) -> dict[str, str]:
        """For the environment of a server."""
        settings = {
            "ARGOSY_PLATFORM": "openstack",
            "ARGOSY_OPENSTACK__CLOUD": self.name,
            "ARGOSY_OPENSTACK__CLOUDS_FILE": str(self.clouds_file),
            "ARGOSY_OPENSTACK__INSTALLATION": installation,
            "ARGOSY_OPENSTACK__MANAGEMENT_NETWORK": self.management_network,
            "ARGOSY_CONDUCTOR__LISTEN": self.conductor,
            "ARGOSY_BACKUPS__CONTAINER": _container(installation),
            "ARGOSY_BACKUPS__ARCHIVE_LOG_EVERY_S": "1",
        }
        if self.store == "swift":
            settings |= {
                "ARGOSY_BACKUPS__STORE": "swift",
                "ARGOSY_BACKUPS__SWIFT__CLOUD": self.name,
                "ARGOSY_BACKUPS__SWIFT__CLOUDS_FILE": str(self.clouds_file),
            }
        return settings

    def connect(self) -> Any:
        config = openstack.config.OpenStackConfig(config_files=[str(self.clouds_file)])
        return openstack.connection.Connection(config=config.get_one(self.name))

    def entry(self, name: str) -> dict[str, Any]:
        """What its file says of a cloud."""
        entry: dict[str, Any] = yaml.safe_load(self.clouds_file.read_text())["clouds"][name]
        return entry

    def holdings(self, installation: str) -> dict[str, list[str]]:
        """Everything in the cloud that may be ours, by kind: names, and ids of what has no name of its own."""
        mine = _container(installation)
        # Neutron serves a hundred connections, and those that nobody uses any more are among them.
        with closing(self.connect()) as cloud:
            objects = (
                [one.name for one in cloud.object_store.objects(mine)]
                if self.store == "swift" and any(one.name == mine for one in cloud.object_store.containers())
                else []
            )
            return {
                "servers": sorted(one.name for one in cloud.compute.servers()),
                "volumes": sorted(one.name or one.id for one in cloud.block_storage.volumes()),
                "ports": sorted(one.name or one.id for one in cloud.network.ports()),
                "security groups": sorted(one.name for one in cloud.network.security_groups()),
                "server groups": sorted(one.name for one in cloud.compute.server_groups()),
                "objects": sorted(objects),
            }

    def remove_container(self, installation: str) -> None:
        """That of its backups, which the product leaves to its project."""
        with closing(self.connect()) as cloud:
            mine = _container(installation)
            if any(one.name == mine for one in cloud.object_store.containers()):
                for one in list(cloud.object_store.objects(mine)):
                    cloud.object_store.delete_object(one, container=mine)
                cloud.object_store.delete_container(mine)


def _container(installation: str) -> str:
    return f"backups-{installation}"


@contextmanager
def simulated(*images: str) -> Iterator[tuple[Cloud, SimulatedCloud]]:
    """A cloud of our own whose machines are processes of this one; images as in "postgresql 15 17"."""
    machines = Machines()
    with SimulatedCloud(hypervisor=machines, pace_s=0.02) as simulation:
        for image in images:
            simulation.add_image(*image.split())
        clouds = machines.home / "clouds.yaml"
        simulation.write_clouds_file(clouds)
        conductor = f"{simulation.network[3]}:8778"
        yield (
            Cloud("simulated", clouds, "management", conductor, "directory", "simulated-demo"),
            simulation,
        )


@contextmanager
def running_on(cloud: Cloud, *parts: str, **environment: str) -> Iterator[Server]:
    """A started server of its own installation; whatever it still has in the cloud goes with it."""
    installation = f"test-{secrets.token_hex(3)}"
    with running(*parts, **cloud.settings(installation), **environment) as server:
        try:
            yield server
        finally:
            _clear(server)
            if cloud.store == "swift":
                cloud.remove_container(installation)


@dataclass(frozen=True)
class Tenancy:
    """An Argosy whose users are those of its own cloud's Keystone.

    Its clouds.yaml has argosy, who is the cloud's tenant; argosy-admin, an administrator of another project; and cloud,
    the tenant again, where the rest of the cloud is.
    """

    argosy: Server
    cloud: Cloud
    keystone: KeystoneApi

    def openstack(self, command: str, *more: str, cloud: str = "argosy") -> Any:
        """What the client tells, read as JSON, if it tells anything."""
        done = self.argosy.command("openstack", *command.split(), *more, cloud=cloud)
        assert done.returncode == 0, f"{command}: {done.stdout} {done.stderr}"
        return json.loads(done.stdout) if "-f json" in command else None

    def check_that_machines_are_ours_alone(self) -> None:
        """Servers and volumes are in our project, and the tenant's shows none of them."""
        with closing(self.cloud.connect()) as sdk:
            ours = {one.id for each in (sdk.compute.servers(), sdk.block_storage.volumes()) for one in each}
        assert len(ours) >= 2
        shown = self.openstack("server list -f json", cloud="cloud")
        shown += self.openstack("volume list -f json", cloud="cloud")
        assert {one["ID"] for one in shown}.isdisjoint(ours)

    def check_that_others_see_nothing(self, instance_id: str, backup_id: str) -> None:
        """Another project finds neither an instance nor its backup, and cannot take them away."""
        user = self.keystone.user("member")
        named = user.name, user.password, user.project
        with Client(self.argosy.url, *named, keystone=self.keystone.url) as stranger:
            for kind in ("instances", "backups", "operations", "events"):
                assert stranger.get(f"/{kind}").json()[kind] == []
            for place in (f"/instances/{instance_id}", f"/backups/{backup_id}"):
                assert (stranger.get(place).status_code, stranger.delete(place).status_code) == (404, 404)


@contextmanager
def believing_its_cloud(cloud: Cloud, *parts: str, **environment: str) -> Iterator[Tenancy]:
    """Like `running_on`, with the cloud's Keystone for the users, and our user of the cloud to ask it."""
    ours = cloud.entry(cloud.name)["auth"]
    admin = Login(ours["username"], ours["password"], ours["project_name"])
    with (
        TemporaryDirectory() as place,
        closing(KeystoneApi(ours["auth_url"], admin)) as keystone,
    ):
        password = Path(place) / "password"
        password.write_text(admin.password)
        settings = {
            "ARGOSY_IDENTITY": "keystone",
            "ARGOSY_KEYSTONE__AUTH_URL": keystone.url,
            "ARGOSY_KEYSTONE__USERNAME": admin.name,
            "ARGOSY_KEYSTONE__PASSWORD_FILE": str(password),
            "ARGOSY_KEYSTONE__PROJECT_NAME": admin.project,
        }
        with running_on(cloud, *parts, **settings, **environment) as server:
            found = {"region_name": keystone.offer(server.url)}
            tenant = cloud.entry(cloud.tenant)
            known = {
                "argosy": {**tenant, **found},
                "argosy-admin": {**keystone.cloud(keystone.user("admin")), **found},
                "cloud": tenant,
            }
            server.clouds.write_text(yaml.safe_dump({"clouds": known}))
            yield Tenancy(server, cloud, keystone)


def _clear(server: Server) -> None:
    """As an operator would clear an installation away whose control plane is gone."""
    for part in ("taskmanager", "api"):
        if server.pid(part) is not None:
            server.kill(part)
    before = dict(os.environ)
    os.environ.update(
        {name: value for name, value in server.environment.items() if name.startswith("ARGOSY_")}
    )
    try:
        plane = ControlPlane(Settings(home=server.home), migrates=False)
    finally:
        os.environ.clear()
        os.environ.update(before)
    platform = plane.platform()
    try:
        for instance_id in platform.servers.leftovers([]):
            platform.servers.delete(instance_id)
            platform.volumes.delete(instance_id)
        wait_until("nothing is left in the cloud", lambda: not platform.servers.leftovers([]), 120)
    finally:
        plane.close()
