"""The image of machines, really built: the same files from the same list, and a machine that holds no more than it should.

The builds need root and no cloud; the machine is booted on the cloud that the other tests here use.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support import images
from tests.support.command_line import PROGRAM
from tests.support.machines import Cloud
from tests.support.server import wait_until

BOOTED = "ARGOSY-BOOTED"


@dataclass(frozen=True)
class Builder:
    """A place to build in. One key may log in to what is built."""

    place: Path

    @property
    def key(self) -> Path:
        return self.place / "key"

    def __call__(self, *arguments: str, fresh: bool = False) -> dict[str, Any]:
        if fresh:
            shutil.rmtree("/var/cache/argosy/images/systems", ignore_errors=True)
        done = subprocess.run(
            [
                *(str(PROGRAM), "image", "build", "postgresql", "17", "--json"),
                *("--ssh-key", f"{self.key}.pub", "--home", str(self.place / "home"), *arguments),
            ],
            env={**os.environ, "ARGOSY_LOCAL__IMAGES": str(images.root())},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        built: dict[str, Any] = json.loads(done.stdout)
        return built


@pytest.fixture(scope="module")
def build(cloud: Cloud) -> Iterator[Builder]:
    with tempfile.TemporaryDirectory(prefix="argosy-image-test-", dir="/var/tmp") as place:
        builder = Builder(Path(place))
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(builder.key)],
            check=True,
        )
        yield builder


@pytest.fixture(scope="module")
def first(build: Builder) -> dict[str, Any]:
    return build("--output", str(build.place / "first.qcow2"))


def test_the_same_list_gives_the_same_files_when_all_is_installed_anew(
    build: Builder, first: dict[str, Any]
) -> None:
    again = build(
        *("--output", str(build.place / "again.qcow2"), "--package-list", first["package_list"]), fresh=True
    )
    assert again["tree"] == first["tree"]
    assert Path(again["package_list"]).read_text() == Path(first["package_list"]).read_text()
    assert Path(again["initrd"]).read_bytes() == Path(first["initrd"]).read_bytes()


def test_the_sbom_names_what_is_installed(first: dict[str, Any]) -> None:
    document = json.loads(Path(first["sbom"]).read_text())
    listed = {
        tuple(line.split()[1:3])
        for line in Path(first["package_list"]).read_text().splitlines()
        if line.split()[0] in {"debian", "kernel", "wheel"}
    }
    named = {(part["name"], part.get("versionInfo")) for part in document["packages"]}
    assert listed <= named
    assert any(name == "postgresql-17" for name, _ in named)


def test_a_machine_of_the_image_listens_for_nobody_and_holds_what_it_was_built_with(
    build: Builder, cloud: Cloud
) -> None:
    with ExitStack() as ending:
        machine = Machine(cloud, build, ending)

        # It was told nothing, so it starts over and over.
        machine.run("systemctl stop argosy-agent")
        assert machine.run("readlink -f /opt/argosy/venv/bin/python") == "/usr/bin/python3.11"
        # SSH's socket is there for the key that was given.
        listening = machine.run("ss -Hlntu").splitlines()
        assert [line.split()[4].rsplit(":", 1)[1] for line in listening] == ["22"]
        passwords = {line.split(":")[1] for line in machine.run("cat /etc/shadow").splitlines()}
        assert passwords == {"*"}
        # Of Perl there is perl-base alone, which Debian's own packages are installed by.
        unwanted = "apt cloud-init dbus initramfs-tools perl"
        assert machine.run("command -v apt apt-get cloud-init || true") == ""
        known = f"dpkg-query -W -f '${{db:Status-Abbrev}}${{Package}}\\n' {unwanted} 2>/dev/null"
        assert machine.run(f"{known} | grep ^i || true") == ""
        assert machine.run("id -u argosy-db") == "970"
        assert machine.run("systemctl --failed --plain --no-legend") == ""
        # The disk of the flavor is larger than the image.
        assert int(machine.run("df --output=size -B1 / | tail -1")) > 3 * 2**30

        # What is sent from an interface's address leaves by that interface, though both are in one network.
        first, second = machine.addresses
        assert f"dev eth0 table {_table(machine, 'eth0')}" in machine.run(
            f"ip route get 192.0.2.1 from {first}"
        )
        assert f"dev eth1 table {_table(machine, 'eth1')}" in machine.run(
            f"ip route get 192.0.2.1 from {second}"
        )
        assert "dev eth0" in machine.run("ip route get 192.0.2.1")

        # The software runs from where it was moved to, as its own account and in a scope of its own.
        bundle = "/opt/argosy/software/postgresql/17/bundle/usr/lib/postgresql/17/bin"
        scope = "systemd-run --scope --quiet --collect --uid=970 --gid=970"
        assert "(PostgreSQL) 17" in machine.run(f"{scope} {bundle}/postgres --version")

        machine.cloud.compute.stop_server(machine.server.id)
        # By the power button: without an answer to that, Nova would wait for a minute and pull the plug, and file systems
        # would have something to recover. Of a machine that is off Nova has no console to look into.
        wait_until("it is down", lambda: machine.status() == "SHUTOFF", timeout_s=300)
        machine.cloud.compute.start_server(machine.server.id)
        wait_until("it is up again", lambda: BOOTED in machine.console(), timeout_s=300)
        assert machine.run("dmesg | grep 'recovery complete\\|unchecked fs' || true") == ""


class Machine:
    """One with two interfaces in one network, which knows no conductor."""

    def __init__(self, cloud: Cloud, build: Builder, ending: ExitStack) -> None:
        self.cloud = cloud.connect()
        self._build = build
        name = f"argosy-image-test-{secrets.token_hex(3)}"
        built = build(
            *(
                "--output",
                str(build.place / "booted.qcow2"),
                "--register",
                "--cloud",
                cloud.name,
                "--name",
                name,
            )
        )
        image = self.cloud.image.get_image(built["id"])
        for one in (image.id, image.kernel_id, image.ramdisk_id, image.properties["argosy_facts"]):
            ending.callback(self.cloud.image.delete_image, one)
        network = self.cloud.network.find_network(cloud.management_network, ignore_missing=False)
        flavor = self.cloud.compute.find_flavor("db.tiny", ignore_missing=False)
        self.server = self.cloud.compute.create_server(
            name=name,
            image_id=image.id,
            flavor_id=flavor.id,
            networks=[{"uuid": network.id}, {"uuid": network.id}],
            config_drive=True,
        )
        ending.callback(self._remove)
        wait_until("the machine is up", lambda: BOOTED in self.console(), timeout_s=600)
        there = self.cloud.compute.get_server(self.server.id).addresses
        self.addresses = self._in_order(one["addr"] for each in there.values() for one in each)

    def run(self, command: str) -> str:
        options = (
            "StrictHostKeyChecking=no",
            "UserKnownHostsFile=/dev/null",
            "ConnectTimeout=120",
            "LogLevel=ERROR",
        )
        done = subprocess.run(
            [
                *("ssh", "-i", str(self._build.key), *(f"-o{each}" for each in options)),
                *(f"root@{self._first}", command),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout.strip()

    def console(self) -> str:
        if self.status() != "ACTIVE":
            return ""
        told = self.cloud.compute.get_server_console_output(self.server.id)
        return str(told["output"])

    def status(self) -> str:
        return str(self.cloud.compute.get_server(self.server.id).status)

    def _in_order(self, addresses: Any) -> tuple[str, str]:
        """eth0's, then eth1's: the console names the first."""
        said = self.console().split(f"{BOOTED} ")[1].split("ip=")[1].split("/")[0]
        self._first = said
        (other,) = (each for each in addresses if each != said)
        return said, other

    def _remove(self) -> None:
        self.cloud.compute.delete_server(self.server.id)
        self.cloud.compute.wait_for_delete(self.server)


def _table(machine: Machine, interface: str) -> int:
    return 1000 + int(machine.run(f"cat /sys/class/net/{interface}/ifindex"))
