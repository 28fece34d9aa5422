"""A machine that is only simulated, with a real conductor to tell it what it is: a guest's program meets no other difference.

Its root is a directory, its config drive another one in that, and its systemd a thread that starts the agent again
whenever it ends.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from ipaddress import IPv4Network
from pathlib import Path

from argosy import catalog, marks
from argosy.agent.layout import Layout
from argosy.conductor.app import application
from argosy.domain.guest import Told
from argosy.metadata import migrations
from argosy.metadata.store import Store
from argosy.rpc import messages, peers
from argosy.rpc.certificates import Authority
from argosy.rpc.client import Guests
from argosy.rpc.enrolment import FORMAT, Bootstrap
from argosy.rpc.messages import Job, JobState, Phase
from argosy.rpc.server import TlsServer
from argosy.rpc.tls import client_context, server_context
from argosy.storage.backup_directory import DirectoryBackups
from argosy.storage.directory import DirectoryStore
from tests.support import other_code
from tests.support.images import image
from tests.support.scratch import new_home
from tests.support.server import ROOT, own_network, wait_until

LAUNCHER = ROOT / "src/argosy/agent/machine_files/argosy-agent"


class Cloud:
    """A control plane as machines meet it: a conductor, and somebody who calls their agents."""

    def __init__(self, home: Path, network: IPv4Network) -> None:
        self.home = home
        self.network = network
        self.store = Store(f"sqlite:///{home / 'argosy.db'}")
        migrations.migrate(self.store.engine, self.store.url)
        self.control, self.database = (
            Authority.open(home / "secrets", name) for name in ("control", "database")
        )
        self.address = str(network[2])
        self.url = f"https://{self.address}:8791"
        own = self.control.issue(
            common_name=peers.CONTROL_PLANE, addresses=[self.address], client=True, server=True
        )
        self._own = home / "secrets" / "own.pem"
        self._own.write_text(own.key + own.certificate)
        self.guests = Guests(client_context(self.control.path, self._own, self._own))
        self._server: TlsServer | None = None
        self._machines: list[SimulatedMachine] = []

    def start(self) -> None:
        backups = DirectoryBackups(DirectoryStore(self.home / "backups"), self.url, b"key")
        app = application(self.store, backups, self.control, self.database)
        context = server_context(self.control.path, self._own, self._own)
        self._server = TlsServer(app, self.address, 8791, context)
        self._server.start()

    def stop(self) -> None:
        if self._server is not None:
            self._server.stop()
            self._server = None

    def machine(self, datastore: str = "valkey", **told: object) -> SimulatedMachine:
        number = 10 + len(self._machines)
        machine = SimulatedMachine(
            self, self.home / f"m{number}", str(self.network[number]), datastore, **told
        )
        self._machines.append(machine)
        return machine

    def close(self) -> None:
        for machine in self._machines:
            machine.destroy()
        self.stop()
        self.guests.close()
        self.store.close()


class SimulatedMachine:
    def __init__(self, cloud: Cloud, root: Path, address: str, datastore: str, **told: object) -> None:
        self.cloud = cloud
        self.layout = Layout(root)
        kind = catalog.datastores()[datastore]
        version = kind.version(kind.default_version)
        self.told = replace(
            Told(
                instance_id=str(uuid.uuid4()),
                engine=kind.engine,
                datastore=datastore,
                version=version.name,
                series=version.series,
                address=address,
                addresses=(address,),
                port=kind.port,
                rpc_address=address,
                memory_mb=512,
                vcpus=1,
                volume=str(uuid.uuid4()),
            ),
            **told,  # type: ignore[arg-type] # each test names real ones
        )
        bundle, template = image(datastore, version.name)
        root.mkdir(mode=0o755)
        self.volume = root / "volume"
        self.volume.mkdir()
        self._write_image(bundle, template)
        other_code.point(self.layout.code, "current", other_code.install(self.layout.code))
        self.plug()
        self.tell()
        self.drive = root / "config-drive"
        self.offer_identity(1)
        self._ended = threading.Event()
        self._child: subprocess.Popen[bytes] | None = None
        self._keeper: threading.Thread | None = None
        self.starts = 0

    # What the cloud does

    def tell(self, **changes: object) -> None:
        """From now on the conductor tells it this."""
        self.told = replace(self.told, **changes)  # type: ignore[arg-type] # each test names real ones
        with self.cloud.store.write() as tx:
            tx.guests.tell(self.told)

    @property
    def user_data(self) -> Path:
        return self.drive / "openstack/latest/user_data"

    def bootstrap_lines(self) -> tuple[str, str]:
        """The first lines of the certificate and the key that are on its config drive."""
        bootstrap = Bootstrap.model_validate_json(self.user_data.read_text())
        return bootstrap.certificate.splitlines()[1], bootstrap.key.splitlines()[1]

    def offer_identity(self, number: int) -> None:
        """Put a bootstrap identity on the config drive."""
        issued = self.cloud.control.issue(
            common_name=peers.bootstrap(self.told.instance_id, number), client=True, days=1
        )
        bootstrap = Bootstrap(
            argosy=FORMAT,
            instance_id=self.told.instance_id,
            conductor_url=self.cloud.url,
            ca=self.cloud.control.certificate,
            certificate=issued.certificate,
            key=issued.key,
        )
        self.user_data.parent.mkdir(parents=True, exist_ok=True)
        self.user_data.write_text(bootstrap.text())

    def plug(self) -> None:
        stand_in = self.layout.stand_in(self.told.volume)
        stand_in.parent.mkdir(parents=True, exist_ok=True)
        stand_in.symlink_to(self.volume)

    def unplug(self) -> None:
        self.layout.stand_in(self.told.volume).unlink()

    def install_older(self) -> str:
        """Other code that works, to be run from the agent's next life on."""
        digest = other_code.install(self.layout.code, other_code.OF_ANOTHER_RELEASE)
        other_code.point(self.layout.code, "current", digest)
        return digest

    def install_broken(self) -> None:
        """Code that never comes to serve, in the place of what runs."""
        digest = other_code.install(self.layout.code, other_code.THAT_DOES_NOT_RUN)
        other_code.point(self.layout.code, "previous", self.code_that_runs())
        other_code.point(self.layout.code, "current", digest)

    def code_that_runs(self) -> str:
        pid = self.agent_pid
        assert pid is not None, "no agent runs"
        return Path(marks.environment(pid)["PYTHONPATH"]).name

    def boot(self) -> None:
        self._ended.clear()
        self._keeper = threading.Thread(target=self._keep, daemon=True)
        self._keeper.start()

    def power_off(self) -> None:
        """At once, and whatever runs."""
        self.end_agent()
        marked = marks.with_descendants(marks.marked({marks.INSTANCE: self.told.instance_id}))
        for pid in marked:
            _kill(pid)
        wait_until("all has ended", lambda: not marks.marked({marks.INSTANCE: self.told.instance_id}))
        shutil.rmtree(self.layout.run, ignore_errors=True)  # a tmpfs

    def end_agent(self) -> None:
        """For good, as when its unit is stopped."""
        self._ended.set()
        child = self._child
        if child is not None and child.poll() is None:
            child.terminate()
        if self._keeper is not None:
            self._keeper.join(30)

    def kill_agent(self) -> None:
        """Systemd starts it again."""
        assert self._child is not None
        self._child.kill()

    def destroy(self) -> None:
        self.power_off()
        shutil.rmtree(self.layout.root)

    # What the control plane asks

    def run(self, job: Job, timeout_s: float = 120) -> JobState:
        """A job to its end, as a workflow's step would see it through."""

        def ended() -> JobState | None:
            state = self.cloud.guests.run(self.told.rpc_address, job)
            return state if state.phase in {Phase.SUCCEEDED, Phase.FAILED} else None

        state: JobState = wait_until(f"{job.method} has ended", ended, timeout_s, every_s=0.05)
        return state

    def prepare(self) -> None:
        state = self.run(messages.Prepare(job_id=str(uuid.uuid4())))
        assert state.phase is Phase.SUCCEEDED, state.error

    def renew(self, agent: str | None = None) -> JobState:
        return self.run(messages.Renew(job_id=str(uuid.uuid4()), agent=agent))

    @property
    def agent_pid(self) -> int | None:
        known = marks.holder(self.layout.run / "agent.json")
        return None if known is None else known.pid

    @property
    def server_pid(self) -> int | None:
        found = marks.marked({marks.INSTANCE: self.told.instance_id, marks.ROLE: "server"})
        return next((pid for pid in found if marks.parent(pid) not in found), None)

    @property
    def log(self) -> str:
        log = self.layout.root / "agent.log"
        return log.read_text(errors="replace") if log.exists() else ""

    def events(self) -> list[str]:
        return [json.loads(line).get("event", "") for line in self.log.splitlines() if line.startswith("{")]

    def _keep(self) -> None:
        environment = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "ARGOSY_ROOT": str(self.layout.root),
            "ARGOSY_PYTHON": sys.executable,
        }
        while not self._ended.is_set():
            with (self.layout.root / "agent.log").open("ab") as log:
                self._child = subprocess.Popen(
                    ["sh", str(LAUNCHER), "--config-drive", str(self.drive)],
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd="/",
                )
            if self._ended.is_set():  # it was ended while it started
                self._child.terminate()
            self.starts += 1
            self._child.wait()
            self._ended.wait(0.1)

    def _write_image(self, bundle: Path, template: Path) -> None:
        self.layout.image.parent.mkdir(parents=True)
        software = {
            "datastore": self.told.datastore,
            "version": self.told.version,
            "series": self.told.series,
            "bundle": str(bundle),
            "template": str(template),
        }
        self.layout.image.write_text(json.dumps({"format": 1, "software": [software]}))


@contextmanager
def cloud() -> Iterator[Cloud]:
    with own_network() as network:
        home = new_home("m")
        (home / "secrets").mkdir(mode=0o700)
        made = Cloud(home, network)
        try:
            made.start()
            yield made
        finally:
            made.close()
            shutil.rmtree(home)


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
