"""What simulated servers run on: a server is a directory for its root and real processes of this machine.

What a real machine's image and kernel would bring is laid out below the root: what the image holds, the agent's code, a
link for each volume where udev would put one. The config drive is a directory. In the place of systemd a thread starts
the agent again whenever it ends. Volumes are file systems of their own where we are root, plain directories otherwise.

Two things a real cloud does are not done here. Security groups let everything through, since all is on loopback. And
memory is not limited to the flavor's.
"""

from __future__ import annotations

import compileall
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import cast

from argosy import marks
from argosy.platforms.local import volumes as files
from argosy.platforms.local.addresses import AddressPool
from argosy.platforms.local.home import Home, Place
from argosy.rpc import agent_code
from tests.support.cloud.nova import Machine
from tests.support.scratch import new_home
from tests.support.server import ROOT

MACHINE = "ARGOSY_TEST_MACHINE"  # marks what a server's agent is started with
LAUNCHER = ROOT / "src/argosy/agent/machine_files/argosy-agent"


class Disks(files.LocalVolumes):
    """Volumes by Cinder id, made by what makes the local platform's; whom they belong to is the guest's affair."""

    def __init__(self, root: Path) -> None:
        root.mkdir(mode=0o755)
        self.home = Home(root)
        super().__init__(self.home, cast("AddressPool", self))

    def reserve(self, place: Place) -> str:
        """In the place of an address pool: there is no account to be told by an address."""
        place.root.chmod(0o755)
        return "127.77.0.1"

    def attach_held(self, place: Place) -> bool:
        if place.image.exists():
            files._mount(place.image, place.volume, discards=place.size.exists())
            if place.size.exists():
                files._keep_all_but(files._size(place), place.volume)
        return place.image.exists() or place.volume.exists()

    def directory(self, volume_id: str) -> Path:
        return self.home.place(volume_id).volume


class Guest:
    """One server from outside: its root, and the agent that is kept running in it."""

    def __init__(self, place: Path, launch: Callable[[Path], list[str]]) -> None:
        self.place = place
        self.root = place / "root"
        self.drive = place / "config-drive"
        self._launch = launch
        self._off = threading.Event()
        self._child: subprocess.Popen[bytes] | None = None
        self._keeper: threading.Thread | None = None

    @property
    def log(self) -> str:
        """What it wrote to its console."""
        try:
            return (self.place / "console").read_text(errors="replace")
        except FileNotFoundError:
            return ""

    def switch_on(self, server_id: str) -> None:
        self._off = threading.Event()
        self._keeper = threading.Thread(target=self._keep, args=(server_id, self._off), daemon=True)
        self._keeper.start()

    def _keep(self, server_id: str, off: threading.Event) -> None:
        environment = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "ARGOSY_ROOT": str(self.root),
            "ARGOSY_PYTHON": sys.executable,
            MACHINE: server_id,
        }
        while not off.is_set():
            with (self.place / "console").open("ab") as console:
                self._child = subprocess.Popen(
                    self._launch(self.drive),
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=console,
                    stderr=console,
                    cwd="/",
                    start_new_session=True,
                )
            if off.is_set():  # it was switched off while it started
                self._child.kill()
            self._child.wait()
            off.wait(0.1)

    def switch_off(self, server_id: str) -> None:
        """As when the plug is pulled: the agent, the database server, and all that they started."""
        self._off.set()
        # Again and again, since what is killed may just have started something.
        deadline = time.monotonic() + 30
        while found := self.processes(server_id):
            for pid in found:
                _kill(pid)
            assert time.monotonic() < deadline, f"processes of server {server_id} do not end: {found}"
            time.sleep(0.01)
        if self._keeper is not None:
            self._keeper.join(30)
        shutil.rmtree(self.root / "run", ignore_errors=True)  # a tmpfs

    def processes(self, server_id: str) -> set[int]:
        found = marks.marked({MACHINE: server_id})
        if (instance_id := self.instance_id) is not None:
            found += marks.marked({marks.INSTANCE: instance_id})
        own = os.getpid()
        return {
            pid for pid in marks.with_descendants(found) if pid != own and marks.started_at(pid) is not None
        }

    @property
    def instance_id(self) -> str | None:
        """As the user data tells: database servers are started with an environment of their own, marked by this."""
        try:
            told = json.loads((self.drive / "openstack/latest/user_data").read_bytes())
            return str(told["instance_id"])
        except (OSError, ValueError, KeyError, TypeError):
            return None


class Machines:
    """A hypervisor whose servers are processes of this machine. All of it goes with `close`."""

    def __init__(self, launch: Callable[[Path], list[str]] | None = None) -> None:
        """`launch` gives the command that a server runs from its config drive's place; by default the agent's own."""
        self.home = new_home("h")
        self.disks = Disks(self.home / "volumes")
        self.guests: dict[str, Guest] = {}
        # What the Glance image of that id holds.
        self.read_image: Callable[[str], bytes] = lambda _: b"{}"
        self._launch = launch or (lambda drive: ["sh", str(LAUNCHER), "--config-drive", str(drive)])
        self._code = threading.Lock()

    def close(self) -> None:
        for server_id in list(self.guests):
            self.destroy(server_id)
        for volume_id in self.disks.home.instance_ids():
            self.disks.delete(volume_id)
        shutil.rmtree(self.home)

    # What Nova asks

    def boot(self, machine: Machine) -> None:
        place = self.home / machine.server_id
        guest = self.guests.get(machine.server_id)
        if guest is None:
            guest = self.guests[machine.server_id] = Guest(place, self._launch)
            place.mkdir(mode=0o755)
        if not guest.root.exists():
            self._install(guest.root, machine)
        shutil.rmtree(guest.drive, ignore_errors=True)
        for path, data in machine.config_drive.items():
            file = guest.drive / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(data)
        shutil.rmtree(guest.root / "dev", ignore_errors=True)
        for volume_id in machine.volumes:
            self.plug(machine.server_id, volume_id)
        guest.switch_on(machine.server_id)

    def _install(self, root: Path, machine: Machine) -> None:
        """What an image that `argosy image build` made would hold."""
        held = root / "etc/argosy/image.json"
        held.parent.mkdir(parents=True)
        held.write_bytes(self.read_image(machine.image.get("argosy_facts", "")))
        digest = agent_code.digest()
        code = root / "opt/argosy/agent"
        code.mkdir(parents=True)
        # Linked file by file, with what Python compiled of them once.
        shutil.copytree(self._agent(digest), code / digest, copy_function=os.link)
        (code / "current").symlink_to(digest)
        (root / "var/lib/argosy").mkdir(parents=True)

    def _agent(self, digest: str) -> Path:
        place = self.home / "agent" / digest
        with self._code:
            if not place.exists():
                with tarfile.open(fileobj=BytesIO(agent_code.pack())) as packed:
                    packed.extractall(place, filter="data")
                compileall.compile_dir(place, quiet=2)
        return place

    def halt(self, server_id: str) -> None:
        if server_id in self.guests:
            self.guests[server_id].switch_off(server_id)

    def forget_root(self, server_id: str) -> None:
        if server_id in self.guests:
            shutil.rmtree(self.guests[server_id].root)

    def destroy(self, server_id: str) -> None:
        self.halt(server_id)
        guest = self.guests.pop(server_id, None)
        if guest is not None:
            shutil.rmtree(guest.place)

    def plug(self, server_id: str, volume_id: str) -> None:
        link = self._link(server_id, volume_id)
        link.parent.mkdir(parents=True, exist_ok=True)
        if not link.is_symlink():
            link.symlink_to(self.disks.directory(volume_id))

    def unplug(self, server_id: str, volume_id: str) -> None:
        self._link(server_id, volume_id).unlink(missing_ok=True)

    def console(self, server_id: str) -> str:
        return self.guests[server_id].log if server_id in self.guests else ""

    def _link(self, server_id: str, volume_id: str) -> Path:
        """Where udev puts a virtio disk by its serial number, which that cuts at 20 characters."""
        return self.home / server_id / "root/dev/disk/by-id" / f"virtio-{volume_id[:20]}"

    # What Cinder asks

    def create_volume(self, volume_id: str, size_gb: int) -> None:
        self.disks.create(volume_id, size_gb)
        self.disks.attach(volume_id)

    def extend_volume(self, volume_id: str, size_gb: int) -> None:
        self.disks.grow(volume_id, size_gb)

    def delete_volume(self, volume_id: str) -> None:
        self.disks.delete(volume_id)


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
