"""A whole Argosy on this machine for a test: its own home, network and API address, and nothing left behind.

with running() as argosy:
    demo = argosy.client("demo")
    instance = argosy.create(demo, "db1", "postgresql")
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import httpx
import yaml

from argosy import marks
from argosy.processes import clouds
from argosy.processes import home as homes
from argosy.processes.control_plane import local_platform
from argosy.settings import ApiSettings, LocalSettings, Settings
from tests.support import images, loaded_client
from tests.support.scratch import new_home

ROOT = Path(__file__).parents[2]
FIRST, LAST = 150, 199  # third octets of 127.77.0.0/16 that tests take their networks from
READY_WITHIN_S = 120
BUILT_WITHIN_S = 180
# Machines that are emulated take many times as long for everything.
PATIENCE = float(os.environ.get("ARGOSY_TEST_PATIENCE", "1"))
# For those who speak plain HTTP: to load all the machine's authorities takes longer than to ask.
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def wait_until(what: str, condition: Callable[[], Any], timeout_s: float = 60, every_s: float = 0.02) -> Any:
    """The first true answer of `condition`. Raises AssertionError, saying what never came true."""
    deadline = time.monotonic() + timeout_s * PATIENCE
    while not (answer := condition()):
        assert time.monotonic() < deadline, f"not within {timeout_s * PATIENCE} s: {what}"
        time.sleep(every_s)
    return answer


class Client(httpx.Client):
    """A user's session: paths are below /v1.0/{project}; `identity` is the token's side of things."""

    def __init__(
        self, url: str, user: str, password: str, project: str | None = None, keystone: str | None = None
    ) -> None:
        """Logged in at a Keystone, which is the server's own unless it is given."""
        asked = {
            "identity": {
                "methods": ["password"],
                "password": {"user": {"name": user, "domain": {"id": "default"}, "password": password}},
            },
            "scope": {"project": {"name": project or user, "domain": {"id": "default"}}},
        }
        keystone = keystone or f"{url}/identity/v3"
        answer = httpx.post(f"{keystone}/auth/tokens", json={"auth": asked}, timeout=30, verify=NO_TLS)
        assert answer.status_code == 201, answer.text
        self.token = answer.headers["x-subject-token"]
        self.project_id: str = answer.json()["token"]["project"]["id"]
        super().__init__(
            base_url=f"{url}/v1.0/{self.project_id}",
            headers={"X-Auth-Token": self.token},
            timeout=60,
            verify=NO_TLS,
        )


class Server:
    """One home's processes, and the questions tests ask of them. Made by `running`."""

    def __init__(self, home: Path, network: IPv4Network, environment: dict[str, str]) -> None:
        self.home = home
        self.network = network
        self.listen = f"{network[2]}:8779"
        self.url = f"http://{self.listen}"
        self.clouds = home / "clouds.yaml"
        self.module = "argosy.processes"
        self.environment = {
            **os.environ,
            "PYTHONPATH": f"{ROOT}:{ROOT}/src",
            "ARGOSY_API__LISTEN": self.listen,
            "ARGOSY_LOCAL__NETWORK": str(network),
            "ARGOSY_LOCAL__IMAGES": str(images.root()),
            # Tests share a server, and a project on it; those about quotas set their own.
            "ARGOSY_QUOTAS__INSTANCES": "-1",
            "ARGOSY_QUOTAS__VOLUMES": "-1",
            **environment,
        }
        self._children: list[subprocess.Popen[bytes]] = []
        self._clients: list[Client] = []

    @property
    def settings(self) -> Settings:
        return Settings(
            home=self.home,
            api=ApiSettings(listen=self.listen),
            local=LocalSettings(network=self.network, images=images.root()),
        )

    # Processes

    def start(self, *parts: str, waits: bool = True) -> None:
        """Start everything in one process, or the named parts in one process each; return when they are ready."""
        commands = [["serve", part] for part in parts] or [["up"]]
        with (self.home / "test.log").open("ab") as log:
            for command in commands:
                child = subprocess.Popen(
                    [sys.executable, "-m", self.module, *command, "--home", str(self.home)],
                    env=self.environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    cwd="/",
                )
                self._children.append(child)
                if not waits:
                    continue
                self._wait_until_ready(child, command[-1] if command[0] == "serve" else "api")

    def _wait_until_ready(self, child: subprocess.Popen[bytes], part: str) -> None:
        def ready() -> bool:
            assert child.poll() is None, f"the {part} did not start: {self.log()[-2000:]}"
            facts = homes.facts(self.home, part) or {}
            return facts.get("pid") == child.pid and bool(facts.get("ready"))

        wait_until(f"the {part} is ready", ready, READY_WITHIN_S)

    def pid(self, part: str = "api") -> int | None:
        """Of the process that runs a part, None when none does."""
        facts = homes.facts(self.home, part)
        return None if facts is None else int(facts["pid"])

    def kill(self, part: str = "api", number: int = signal.SIGKILL) -> None:
        """Send a signal to the process that runs a part; return when it has ended (at once for SIGSTOP, SIGCONT)."""
        pid = self.pid(part)
        assert pid is not None, f"no {part} runs"
        os.kill(pid, number)
        if number not in {signal.SIGSTOP, signal.SIGCONT}:
            wait_until(f"the {part} has ended", lambda: self._reap(pid))

    def _reap(self, pid: int) -> bool:
        for child in self._children:
            if child.pid == pid:
                return child.poll() is not None
        return marks.started_at(pid) is None

    def down(self, *, databases_too: bool = False) -> None:
        command = ["down", "--home", str(self.home), *(["--all"] if databases_too else [])]
        subprocess.run(
            [sys.executable, "-m", "argosy.processes", *command],
            env=self.environment,
            check=True,
            capture_output=True,
            timeout=240,
        )
        self._join()

    def log(self) -> str:
        return (self.home / "test.log").read_text(errors="replace")

    # Users

    def password(self, user: str) -> str:
        clouds = yaml.safe_load(self.clouds.read_text())["clouds"].values()
        return str(next(one["auth"]["password"] for one in clouds if one["auth"]["username"] == user))

    def client(self, user: str = "demo") -> Client:
        """As the home's clouds.yaml names this user, who is a Keystone's where the server has its users from one."""
        cloud = next(name for name, whose in clouds.CLOUDS.items() if whose == user)
        who = yaml.safe_load(self.clouds.read_text())["clouds"][cloud]["auth"]
        keystone = self.environment.get("ARGOSY_KEYSTONE__AUTH_URL")
        named = who["username"], who["password"], who["project_name"]
        self._clients.append(Client(self.url, *named, keystone=keystone))
        return self._clients[-1]

    def command(
        self, program: str, *arguments: str, cloud: str = "argosy", timeout_s: float = 120
    ) -> subprocess.CompletedProcess[str]:
        """Run a program of the virtual environment as a user of this server; its result, whatever it was."""
        own = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": f"{ROOT}/src",
            "HOME": str(self.home),
            "OS_CLIENT_CONFIG_FILE": str(self.clouds),
            "OS_CLOUD": cloud,
            "LC_ALL": "C.UTF-8",
        }
        if program == "openstack":
            return loaded_client.call(arguments, own, timeout_s)
        return subprocess.run(
            [Path(sys.executable).with_name(program), *arguments],
            env=own,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    # Instances

    def create(self, client: Client, name: str, datastore: str, /, **more: Any) -> dict[str, Any]:
        """A new instance, ACTIVE and healthy."""
        body = {
            "name": name,
            "flavorRef": "2",
            "volume": {"size": 1},
            "datastore": {"type": datastore},
            **more,
        }
        answer = client.post("/instances", json={"instance": body})
        assert answer.status_code == 200, answer.text
        return self.wait_until_healthy(client, answer.json()["instance"]["id"])

    def wait_until_healthy(self, client: Client, instance_id: str) -> dict[str, Any]:
        def built() -> dict[str, Any] | None:
            shown: dict[str, Any] = client.get(f"/instances/{instance_id}").json()["instance"]
            assert shown["status"] != "ERROR", json.dumps(shown.get("fault"))
            return shown if (shown["status"], shown["operating_status"]) == ("ACTIVE", "HEALTHY") else None

        shown: dict[str, Any] = wait_until(
            f"instance {instance_id} is healthy", built, BUILT_WITHIN_S, every_s=0.05
        )
        return shown

    def wait_until_gone(self, client: Client, instance_id: str) -> None:
        wait_until(
            f"instance {instance_id} is gone",
            lambda: client.get(f"/instances/{instance_id}").status_code == 404,
            every_s=0.05,
        )

    # What runs of an instance on this machine

    def server_pid(self, instance_id: str) -> int | None:
        """The database server's process: the marked one that no marked one started."""
        found = marks.marked({marks.INSTANCE: instance_id, marks.ROLE: "server"})
        return next((pid for pid in found if marks.parent(pid) not in found), None)

    def agent_pid(self, instance_id: str) -> int | None:
        try:
            known = json.loads((self.home / "instances" / instance_id / "agent.json").read_text())
        except (OSError, ValueError):
            return None
        alive = marks.started_at(known["pid"]) == known["started_at"]
        return int(known["pid"]) if alive else None

    def leftovers(self, *, among: Iterable[str] = ()) -> list[str]:
        """Instances of which this machine still holds something, but for those `among` the living."""
        return local_platform(self.settings).servers.leftovers(list(among))

    # The end

    def _join(self) -> None:
        for child in self._children:
            with suppress(subprocess.TimeoutExpired):
                child.wait(30)
        self._children = [child for child in self._children if child.poll() is None]

    def destroy(self) -> None:
        """End everything of the home, however it was left, and remove every file of it."""
        for client in self._clients:
            client.close()
        with suppress(subprocess.SubprocessError):
            self.down(databases_too=True)
        for child in self._children:
            child.kill()
            child.wait()
        with ExitStack() as failures:
            platform = local_platform(self.settings)
            for instance_id in platform.servers.leftovers([]):
                failures.callback(platform.volumes.delete, instance_id)
                failures.callback(platform.servers.delete, instance_id)
        _unmount_below(self.home)
        shutil.rmtree(self.home)


def _unmount_below(home: Path) -> None:
    mounted = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for place in sorted((one for one in mounted if one.startswith(f"{home}/")), reverse=True):
        subprocess.run(["umount", "--lazy", place], check=True)


@contextmanager
def own_network() -> Iterator[IPv4Network]:
    """A /24 that no other test run on this machine has, for as long as it is held."""
    # An abstract socket's name goes with the process that bound it, whatever kills that.
    for turn in range(LAST - FIRST + 1):
        third = FIRST + (os.getpid() + turn) % (LAST - FIRST + 1)
        claim = socket.socket(socket.AF_UNIX)
        try:
            claim.bind(f"\0argosy-test-network-{third}")
        except OSError:
            claim.close()
            continue
        with claim:
            if not _listens(f"127.77.{third}.2", 8779):
                yield IPv4Network(f"127.77.{third}.0/24")
                return
    raise AssertionError("every network for tests is taken")


def _listens(host: str, port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((host, port)) == 0


@contextmanager
def _ending_in_order() -> Iterator[None]:
    """Have SIGTERM end the run as an interrupt does: nothing is left behind by one that took too long either."""

    def end(number: int, _frame: object) -> None:
        raise SystemExit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def running(*parts: str, module: str = "argosy.processes", **environment: str) -> Iterator[Server]:
    """A started server, or only some of its parts; settings by their names in the environment.

    `module` is the program that it runs as.
    """
    with _ending_in_order(), own_network() as network:
        home = new_home()
        server = Server(home, network, environment)
        server.module = module
        try:
            server.start(*parts)
            yield server
        finally:
            server.destroy()
