"""The simulated cloud, served over HTTP from a thread, and the test's hands on it."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack, contextmanager
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any, Self, TypeVar

import openstack
import uvicorn
import yaml
from starlette.applications import Starlette

from argosy import catalog
from argosy.domain.guest import RELEASE
from argosy.rpc import agent_code
from tests.support.cloud.cinder import Cinder
from tests.support.cloud.faults import Faults, Faulty
from tests.support.cloud.forwarding import Forwarding
from tests.support.cloud.glance import Glance
from tests.support.cloud.keystone import Keystone
from tests.support.cloud.neutron import Neutron
from tests.support.cloud.nova import Hypervisor, Nova, Server
from tests.support.cloud.wire import Body
from tests.support.server import own_network

PORT = 5000
T = TypeVar("T")


class SimulatedCloud:
    """Projects service (ours, user dbaas), demo and admin; networks management, tenant and public; three flavors.

    Addresses are of a loopback /24 of the test's own: the API's, and a quarter of it for each network.
    What is changed from outside the API goes through `change`, on the server's thread.
    """

    def __init__(
        self,
        *,
        network: IPv4Network | None = None,
        hypervisor: Hypervisor | None = None,
        layer_3: bool = True,
        pace_s: float = 0.05,
    ) -> None:
        self._ending = ExitStack()
        self.network = network or self._ending.enter_context(own_network())
        self.faults = Faults()
        self.address = f"http://{self.network[2]}:{PORT}"
        self.keystone = Keystone(lambda _: None)
        known = self.keystone.who
        self.neutron = Neutron(known, layer_3=layer_3)
        self.cinder = Cinder(known, later=self._later, pause=self._pause)
        self.glance = Glance(known)
        self.nova = Nova(
            known,
            neutron=self.neutron,
            cinder=self.cinder,
            glance=self.glance,
            hypervisor=hypervisor,
            later=self._later,
            pause=self._pause,
        )
        self._pace_s = pace_s
        self.forwarding = Forwarding(self.neutron)
        if hypervisor is not None:
            self.cinder.on_create = hypervisor.create_volume
            self.cinder.on_extend = hypervisor.extend_volume
            self.cinder.on_delete = hypervisor.delete_volume
            hypervisor.read_image = lambda image_id: self.glance.data.get(image_id, b"{}")
            self._ending.callback(hypervisor.close)
            self.neutron.on_change = lambda: self._later(self.forwarding.settle())
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._going = asyncio.Event()
        self._going.set()
        self._server: uvicorn.Server | None = None
        self._thread = threading.Thread(target=self._serve, name="simulated cloud", daemon=True)
        self._ready = threading.Event()
        self._populate()

    def _populate(self) -> None:
        for service in (
            ("identity", "keystone", "/identity/v3/"),
            ("compute", "nova", "/compute/v2.1"),
            ("volumev3", "cinderv3", "/volume/v3/%(project_id)s"),
            ("block-storage", "cinder", "/volume/v3/%(project_id)s"),
            ("network", "neutron", "/network"),
            ("image", "glance", "/image"),
        ):
            self.keystone.add_service(*service)
        for role in ("admin", "member", "reader", "service"):
            self.keystone.add("roles", role)
        admin, self.service_project, demo = (
            self.keystone.add("projects", one) for one in ("admin", "service", "demo")
        )
        self.demo_project = demo
        self.keystone.add_user("admin", "secret", "admin", "admin")
        self.keystone.add_user("dbaas", "secret", "service", "admin", "service")
        self.keystone.add_user("demo", "secret", "demo", "member")
        # The router joins the tenant's network to the outer one, so that floating IPs have a way.
        quarters = list(self.network.subnets(prefixlen_diff=2))
        self.management = self.neutron.add_network("management", quarters[1], admin, shared=True)
        self.tenant = self.neutron.add_network("tenant", quarters[2], demo)
        if self.neutron.layer_3:
            self.public = self.neutron.add_network("public", quarters[3], admin, external=True)
            self.router = self.neutron.add_router("router", self.public, demo, self.tenant)
        for id_, name, memory_mb, vcpus, disk_gb in (
            ("1", "db.tiny", 512, 1, 4),
            ("2", "db.small", 1024, 1, 5),
            ("3", "db.medium", 2048, 2, 8),
        ):
            self.nova.add_flavor(id_, name, memory_mb, vcpus, disk_gb)

    # Its life

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._ready.wait(30):
            raise AssertionError("the simulated cloud did not start")
        return self

    def __exit__(self, *_: object) -> None:
        assert self._server is not None
        with self._ending:
            self._server.should_exit = True
            self._server.force_exit = True
            self._thread.join(30)

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        services = self.keystone, self.nova, self.cinder, self.neutron, self.glance
        for one in services:
            one.address = self.address
        app = Faulty(Starlette(routes=[route for one in services for route in one.routes]), self.faults)
        config = uvicorn.Config(app, log_level="error", lifespan="off", timeout_graceful_shutdown=1)
        self._server = uvicorn.Server(config)
        # By its full name: asyncio turns Nagle's algorithm off for what it knows to be TCP, and answers come in two parts.
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((str(self.network[2]), PORT))
            self._loop.call_soon(self._ready.set)
            self._loop.run_until_complete(self._run([listener]))
        self._loop.close()

    async def _run(self, sockets: list[socket.socket]) -> None:
        assert self._server is not None
        await self._server.serve(sockets)
        self.forwarding.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _later(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _pause(self) -> None:
        """What everything in the background takes a few of."""
        await asyncio.sleep(self._pace_s)
        await self._going.wait()

    # The test's hands

    @contextmanager
    def standing_still(self) -> Iterator[None]:
        """Requests are answered, but nothing gets done in the background until the end of this."""
        self.change(self._going.clear)
        try:
            yield
        finally:
            self.change(self._going.set)

    def change(self, act: Callable[[], T]) -> T:
        """Do something to the state, between two requests."""

        async def done() -> T:
            return act()

        return asyncio.run_coroutine_threadsafe(done(), self._loop).result(30)

    def connect(
        self, user: str = "dbaas", project: str = "service", **more: Any
    ) -> openstack.connection.Connection:
        """As openstacksdk does it by password; the caller closes it."""
        return openstack.connection.Connection(**self._entry(user, project), **more)

    def _entry(self, user: str, project: str) -> dict[str, Any]:
        return {
            "auth": {
                "auth_url": f"{self.address}/identity/v3",
                "username": user,
                "password": "secret",
                "project_name": project,
                "user_domain_name": "Default",
                "project_domain_name": "Default",
            },
            "region_name": "RegionOne",
            "interface": "public",
            "identity_api_version": "3",
        }

    def write_clouds_file(self, path: Path) -> None:
        """A clouds.yaml with clouds simulated (ours), simulated-demo and simulated-admin."""
        users = {
            "simulated": ("dbaas", "service"),
            "simulated-demo": ("demo", "demo"),
            "simulated-admin": ("admin", "admin"),
        }
        clouds = {name: self._entry(*who) for name, who in users.items()}
        path.write_text(yaml.safe_dump({"clouds": clouds}))

    def add_image(self, datastore: str, *versions: str) -> str:
        """As `argosy image build --register` does it, of the software that tests share on this machine; its id."""
        from tests.support.images import image, images

        kind = catalog.datastores()[datastore]
        software, parameters = [], {}
        for version in map(kind.version, versions or [kind.default_version]):
            bundle, template = image(datastore, version.name)
            one = {"datastore": datastore, "version": version.name, "series": version.series}
            software.append({**one, "bundle": str(bundle), "template": str(template)})
            if (told := images().parameters(version)) is not None:
                parameters[f"{datastore}/{version.name}"] = told.to_text()
        facts = {"format": 1, "release": RELEASE, "agent": agent_code.digest(), "software": software}
        text = json.dumps({**facts, "parameters": parameters}).encode()
        tags = ["argosy", *(f"argosy:{datastore}:{one['version']}" for one in software)]

        def register() -> str:
            beside = self.glance.add(f"{datastore}-facts", self.service_project, text)
            return self.glance.add(
                datastore, self.service_project, b"disk", tags=tags, argosy_facts=beside, min_disk=2
            )

        return self.change(register)

    def server(self, name: str) -> Server | None:
        """As Nova has it, by its name."""
        return self.change(
            lambda: next((one for one in self.nova.servers.values() if one.name == name), None)
        )

    def fail_next_server(self, message: str) -> None:
        """The next server to be built, resized or rebuilt comes to grief, with Nova's fault text."""
        self.change(lambda: self.nova.faults.append(message))

    def break_server(self, server_id: str, message: str) -> None:
        """It goes to ERROR by itself."""
        self.change(lambda: self.nova.fail(self.nova.servers[server_id], message))

    def power_off(self, server_id: str) -> None:
        """Nobody asked for it: its guest shut down, or its host died."""
        self.change(lambda: self.nova.power_off(self.nova.servers[server_id]))

    def lose_server(self, server_id: str) -> None:
        """Delete it behind our back, as an operator would."""
        server = self.nova.servers[server_id]
        asyncio.run_coroutine_threadsafe(self.nova.take_away(server), self._loop).result(60)

    def detach_volume(self, volume_id: str) -> None:
        """Take a volume from its server behind our back."""

        def detach() -> None:
            for server in self.nova.servers.values():
                server.attachments = [one for one in server.attachments if one.volume_id != volume_id]
            self.cinder.release(volume_id)

        self.change(detach)

    def lose_port(self, port_id: str) -> None:
        self.change(lambda: self.neutron.remove("port", port_id))

    def limit(self, service: str, **quotas: int) -> None:
        """Quotas of our project at "nova", "cinder" or "neutron"."""
        one: Any = {"nova": self.nova, "cinder": self.cinder, "neutron": self.neutron}[service]
        self.change(lambda: one.quotas.setdefault(self.service_project, {}).update(quotas))

    def expire_tokens(self) -> None:
        """All at once, as after a change of Keystone's keys."""
        self.change(self.keystone.tokens.clear)

    def clear(self) -> None:
        """Undo what a test did: its project's things go, and quotas and faults with them."""

        async def undo() -> None:
            for server in list(self.nova.servers.values()):
                await self.nova.take_away(server)
            while self._tasks:
                await asyncio.gather(*self._tasks, return_exceptions=True)
            for volume_id in list(self.cinder.volumes):
                self.cinder.discard(volume_id)
            while self._tasks:
                await asyncio.gather(*self._tasks, return_exceptions=True)
            for kind in ("floatingip", "port", "security_group"):
                for one in list(self.neutron.stored[kind].values()):
                    if one["project_id"] == self.service_project and one.get("name") != "default":
                        self.neutron.remove(kind, one["id"])
            self.nova.groups.clear()
            for service in (self.nova, self.cinder, self.neutron):
                service.quotas.clear()

        self.faults.forget()
        asyncio.run_coroutine_threadsafe(undo(), self._loop).result(120)

    def left(self, project_id: str | None = None) -> dict[str, list[Body]]:
        """What a project has in the cloud, but for what every project has."""
        owner = project_id or self.service_project

        def look() -> dict[str, list[Body]]:
            stored = self.neutron.stored
            found: dict[str, list[Body]] = {
                kind: [one for one in stored[kind].values() if one["project_id"] == owner]
                for kind in ("port", "security_group", "floatingip")
            }
            found["port"] = [one for one in found["port"] if not one["device_owner"].startswith("network:")]
            found["security_group"] = [one for one in found["security_group"] if one["name"] != "default"]
            found["server"] = [
                {"id": one.id, "name": one.name}
                for one in self.nova.servers.values()
                if one.caller.project_id == owner
            ]
            found["server_group"] = [one for one in self.nova.groups.values() if one["project_id"] == owner]
            found["volume"] = [one for one in self.cinder.volumes.values() if one["project_id"] == owner]
            return {kind: some for kind, some in found.items() if some}

        return self.change(look)
