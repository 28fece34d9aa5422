"""Argosy as a service: two hosts (homes and loopback addresses of their own), on PostgreSQL, behind a balancer.

with installation() as argosy:
    demo = argosy.client()
    argosy.hosts[0].kill("taskmanager")

What a cloud would be to them, a directory both look after is: the local platform's instances are in it.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from ipaddress import IPv4Network
from pathlib import Path

import httpx

from argosy.processes import home as homes
from argosy.settings import ApiSettings, LocalSettings, Settings
from tests.support import images
from tests.support.balancer import balancing, sends_to
from tests.support.metadata import PASSWORD, MetadataDatabase, postgresql
from tests.support.scratch import new_home
from tests.support.server import Server, _ending_in_order, _unmount_below, own_network, wait_until

PARTS = ("conductor", "taskmanager", "api")
SILENT_AFTER_S = 4
# What is written down as lost, is taken over within a beat of another, and off the queue within a poll of it.
TAKEN_OVER_WITHIN_S = 15


class Host(Server):
    """One of the hosts: its own home, its own addresses."""

    def __init__(
        self,
        root: Path,
        network: IPv4Network,
        number: int,
        database: MetadataDatabase,
        environment: dict[str, str],
    ) -> None:
        own = f"{network[4 + number]}"
        home = root / f"host-{number}"
        home.mkdir(mode=0o755)
        self.directory = root / "cloud"
        self._sent_to = partial(sends_to, root, f"api-{number + 1}")
        self.api = f"{own}:8779"
        self.conductor = f"{own}:8778"
        self._database = database
        super().__init__(
            home,
            network,
            {
                "ARGOSY_API__LISTEN": self.api,
                "ARGOSY_API__PUBLIC_ENDPOINT": f"http://{network[2]}:8779",
                "ARGOSY_API__TRUSTED_PROXIES": f'["{network[2]}/32", "127.0.0.1/32"]',
                "ARGOSY_API__DRAIN_S": "2",
                "ARGOSY_CONDUCTOR__LISTEN": self.conductor,
                "ARGOSY_CONDUCTOR__ENDPOINT": f"{network[1]}:8778",
                "ARGOSY_CONDUCTOR__HEALTH_LISTEN": f"{own}:8780",
                "ARGOSY_TASKMANAGER__HEALTH_LISTEN": f"{own}:8781",
                "ARGOSY_TASKMANAGER__SILENT_AFTER_S": str(SILENT_AFTER_S),
                "ARGOSY_LOCAL__DIRECTORY": str(self.directory),
                "ARGOSY_BACKUPS__DIRECTORY": str(root / "backups"),
                "ARGOSY_OBJECTS__DIRECTORY": str(root / "objects"),
                "ARGOSY_SECRETS": str(root / "secrets"),
                "ARGOSY_TEST_CRASH": str(root),
                **_password(home, database.url_without_password, number),
                **environment,
            },
        )
        self._begun: dict[str, subprocess.Popen[bytes]] = {}
        self.url = f"http://{network[2]}:8779"
        self.health = {"conductor": f"http://{own}:8780/healthz", "taskmanager": f"http://{own}:8781/healthz"}

    @property
    def settings(self) -> Settings:
        return Settings(
            home=self.home,
            metadata_url=self._database.url,
            api=ApiSettings(listen=self.api),
            local=LocalSettings(network=self.network, images=images.root(), directory=self.directory),
        )

    def begin(self, *parts: str) -> None:
        """Start parts without waiting for them."""
        for part in parts:
            self.start(part, waits=False)
            self._begun[part] = self._children[-1]

    def wait_until_ready(self, *parts: str) -> None:
        for part in parts:
            wait_until(f"the {part} is ready", partial(self._is_ready, part), 120)

    def wait_until_balanced(self) -> None:
        """Until the balancer has found its API and sends it requests: the other one may go then."""
        wait_until("the balancer has the api", self._sent_to)

    def end(self) -> None:
        """Whatever it is at: the other host clears up."""
        for child in self._children:
            child.kill()
            child.wait()

    def _is_ready(self, part: str) -> bool:
        assert self._begun[part].poll() is None, self.log()[-3000:]
        facts = homes.facts(self.home, part) or {}
        # For a moment after it has begun there still stands what the one before it said.
        return facts.get("pid") == self._begun[part].pid and bool(facts.get("ready"))


def _password(home: Path, url: str, number: int) -> dict[str, str]:
    """In a file of ours on one host, in libpq's on the other: never where `ps` shows it."""
    file = home / "password"
    if number == 0:
        file.write_text(PASSWORD + "\n")
        secret = {"ARGOSY_METADATA_URL": url, "ARGOSY_METADATA_PASSWORD_FILE": str(file)}
    else:
        file.write_text(f"*:*:*:*:{PASSWORD}\n")
        secret = {"ARGOSY_METADATA_URL": f"{url}?passfile={file}"}
    file.chmod(0o600)
    return secret


class Installation:
    """Both hosts and what is in front of them. Made by `installation`."""

    def __init__(
        self, root: Path, network: IPv4Network, database: MetadataDatabase, environment: dict[str, str]
    ) -> None:
        self.root = root
        self.network = network
        self.database = database
        self.hosts = [Host(root, network, number, database, environment) for number in (0, 1)]

    @property
    def url(self) -> str:
        return self.hosts[0].url

    @property
    def balanced(self) -> dict[str, str]:
        """The sample configuration's addresses, and those that are in their place here."""
        front_api, front_conductor = f"{self.network[2]}:8779", f"{self.network[1]}:8778"
        found = {"10.20.0.10:443": front_api, "10.20.0.10:8778": front_conductor}
        for number, host in enumerate(self.hosts, 1):
            found[f"10.20.0.1{number}:8779"] = host.api
            found[f"10.20.0.1{number}:8778"] = host.conductor
        return found

    def start(self, *parts: str) -> None:
        """All processes at once, on whatever there is: nothing, the first time."""
        for host in self.hosts:
            host.begin(*(parts or PARTS))
        for host in self.hosts:
            host.wait_until_ready(*(parts or PARTS))
        written = [host for host in self.hosts if (host.home / "clouds.yaml").exists()]
        for host in self.hosts:
            host.clouds = written[0].home / "clouds.yaml"
        wait_until("the balancer has an API", self._is_up, 30)

    def _is_up(self) -> bool:
        with suppress(httpx.TransportError):
            return httpx.get(f"{self.url}/healthcheck", timeout=5).status_code == 200
        return False

    def destroy(self) -> None:
        for host in self.hosts[1:]:
            host.end()
        with ExitStack() as stack:
            stack.callback(shutil.rmtree, self.root)
            stack.callback(_unmount_below, self.root)
            stack.callback(self.hosts[0].destroy)


@contextmanager
def installation(**environment: str) -> Iterator[Installation]:
    """Two hosts and what they need, nothing of it started but the database and the balancer."""
    with _ending_in_order(), own_network() as network, postgresql() as database:
        root = new_home()
        argosy = Installation(root, network, database, environment)
        try:
            with balancing(root, argosy.balanced):
                yield argosy
        finally:
            argosy.destroy()
