"""A local platform to test: a home and a network of its own, agents that stand in, and what they leave behind."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import sys
import time
import uuid
from collections.abc import Callable
from functools import cache
from ipaddress import IPv4Network
from pathlib import Path
from typing import Literal

from argosy import marks
from argosy.domain.datastore import Version
from argosy.domain.errors import OutOfSpace
from argosy.domain.guest import RPC_PORT, GuestConfig
from argosy.domain.instance import Flavor
from argosy.platforms.base import Credentials, Placement, Server, ServerRequest
from argosy.platforms.local.images import LocalImages
from argosy.platforms.local.platform import LocalPlatform
from tests.support.scratch import new_home
from tests.support.server import own_network

PORT = 15432
SMALL = Flavor(id="1", name="small", memory_mb=96, vcpus=1)
VERSION = Version(datastore="stand-in", name="1", sources=())
ROOT = Path(__file__).parents[2]
AGENT = "tests.support.stand_in_agent"


@cache
def network() -> IPv4Network:
    """Of this process alone, to its end: several runs may share a machine, whose workers are called alike."""
    return _HELD.enter_context(own_network())


_HELD = contextlib.ExitStack()


def wait_until(what: str, condition: Callable[[], bool], timeout_s: float = 30) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, f"it never came true that {what}"
        time.sleep(0.01)


def as_ordinary_user(argv: list[str]) -> list[str]:
    """The same command, run by nobody."""
    command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    closed = [
        parent for parent in Path(sys.executable).resolve().parents if not parent.stat().st_mode & 0o001
    ]
    if closed:
        # Python itself lies where only root may go: nobody is let through to read it, and that is all.
        command += ["--inh-caps=-all,+dac_read_search", "--ambient-caps=-all,+dac_read_search"]
    return [*command, *argv]


class LocalSite:
    """One machine under test, and the questions that the contract asks of any platform."""

    refusal = OutOfSpace
    refused = r"A volume of 900000 GB does not fit: .* has [\d.]+ GB free"
    more_than_there_is_gb = 900_000

    def __init__(
        self,
        *,
        volumes: Literal["real", "directory", "auto"] = "auto",
        limits: Literal["auto", "none"] = "auto",
        addresses: IPv4Network | None = None,
        fork_agents: bool = True,
    ) -> None:
        self.home = new_home("p")
        self.volumes = volumes
        self.limits = limits
        self.fork_agents = fork_agents
        self.network = addresses or network()
        os.environ["PYTHONPATH"] = f"{ROOT}:{ROOT}/src"
        self.ids: list[str] = []
        self.platform = self.new_platform()

    def new_platform(self) -> LocalPlatform:
        """As a control plane that has just started sees it."""
        return LocalPlatform(
            self.home,
            network=self.network,
            agent_module=AGENT,
            flavors=[SMALL],
            images=LocalImages(
                self.home / "images", build_template=lambda _version, _bundle, _template: None
            ),
            volumes=self.volumes,
            limits=self.limits,
            fork_agents=self.fork_agents,
        )

    def restart(self) -> None:
        self.platform = self.new_platform()

    def new_id(self) -> str:
        self.ids.append(str(uuid.uuid4()))
        return self.ids[-1]

    def reserve(self, instance_id: str) -> str:
        return self.platform.servers.reserve(Placement(instance_id, PORT)).agent

    def request(self, instance_id: str) -> ServerRequest:
        return ServerRequest(
            instance_id=instance_id,
            version=VERSION,
            engine="stand-in",
            port=PORT,
            flavor=SMALL,
            credentials=Credentials(
                "ca", "certificate", "key", "server ca", "server certificate", "server key"
            ),
            conductor_url="https://127.0.0.1:1",
        )

    def build(self, instance_id: str, size_gb: int = 1) -> Server:
        """Everything a workflow asks for, in its order."""
        self.reserve(instance_id)
        self.platform.volumes.create(instance_id, size_gb)
        self.platform.volumes.attach(instance_id)
        return self.platform.servers.create(self.request(instance_id))

    def build_and_wait(self, instance_id: str | None = None) -> Server:
        server = self.build(instance_id or self.new_id())
        self.wait_until_serving(server)
        return server

    def destroy(self, instance_id: str) -> None:
        self.platform.servers.delete(instance_id)
        self.platform.volumes.delete(instance_id)

    def wait_until_serving(self, server: Server) -> None:
        wait_until("the agent and its server answer", lambda: self.serves(server))

    def life(self, server: Server) -> object:
        """Another one when it has been started anew."""
        return self.pids(server)

    def write_to_volume(self, server: Server) -> object:
        assert self.ask(server, "fill 8") == "filled"
        return 8 << 20

    def check_written(self, server: Server, written: object) -> None:
        """What was written is there, and the server, under whichever account now, may write to it."""
        filled = self.files_of(server.instance_id) / "volume/data/filling"
        assert filled.stat().st_size == written
        assert self.ask(server, "fill 1") == "filled"

    def size_of_volume(self, server: Server) -> int:
        """In GB, what can be written to it."""
        assert self.ask(server, "fill 2200") == "filled"
        return 3

    def servers_of(self, instance_id: str) -> int:
        agents_and_servers = [trace for trace in self.traces(instance_id) if trace.startswith("process")]
        return len(agents_and_servers) // 2

    def serves(self, server: Server) -> bool:
        try:
            self.ask(server, "account")
            self.pids(server)
        except OSError:
            return False
        return True

    def ask(self, server: Server, request: str, port: int = PORT) -> str:
        """Send a line to the database server (or the agent); what it answers, empty when it died over it."""
        with socket.create_connection((server.address, port), timeout=30) as connection:
            connection.sendall(f"{request}\n".encode())
            with connection.makefile() as answers:
                return answers.readline().strip()

    def pids(self, server: Server) -> tuple[int, int]:
        """The database server's and the agent's process ids."""
        words = self.ask(server, "server", RPC_PORT).split()
        if len(words) != 2:
            raise ConnectionError
        return int(words[0]), int(words[1])

    def config(self, instance_id: str) -> GuestConfig:
        return GuestConfig.read(self.files_of(instance_id) / "guest.json")

    def traces(self, instance_id: str) -> list[str]:
        """All that is left of an instance anywhere on the machine, in words."""
        found = [f"process {pid}" for pid in marks.marked({marks.INSTANCE: instance_id})]
        found += [
            f"mount {line.split()[4]}"
            for line in Path("/proc/self/mountinfo").read_text().splitlines()
            if instance_id in line
        ]
        for device in Path("/sys/block").glob("loop*/loop/backing_file"):
            with contextlib.suppress(OSError):
                found += [f"loop {device}"] if instance_id in device.read_text() else []
        # Others make and remove theirs meanwhile, which os.walk bears and Path.glob does not.
        found += [
            f"cgroup {place}/{instance_id}"
            for place, names, _ in os.walk("/sys/fs/cgroup")
            if instance_id in names
        ]
        found += [f"file {path}" for path in (self.home / "instances").glob(f"*{instance_id}*")]
        found += [
            f"link {link}"
            for link in (self.home / "run").iterdir()
            if link.is_symlink() and instance_id in str(link.readlink())
        ]
        return found

    def files_of(self, instance_id: str) -> Path:
        return self.home / "instances" / instance_id

    def close(self) -> None:
        for instance_id in {*self.ids, *self.platform.servers.leftovers([])}:
            self.destroy(instance_id)
        self.platform.wind_down()
        shutil.rmtree(self.home)
