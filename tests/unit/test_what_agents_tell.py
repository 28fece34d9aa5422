"""What an agent tells of its server: as it is when it says so, and by the end of every job what that has left."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from argosy.agent import __main__ as agent
from argosy.agent import calls
from argosy.agent.reporter import Reporter
from argosy.agent.supervisor import Supervisor
from argosy.domain.errors import EngineError
from argosy.domain.guest import GuestConfig
from argosy.domain.status import Service
from argosy.engines.base import Health
from argosy.engines.host import Account, Host
from argosy.rpc import messages
from argosy.rpc.reports import GuestReport
from tests.support.server import wait_until


class Process:
    """The server's process; it has died when nobody asked it to end."""

    def __init__(self) -> None:
        self.pid: int | None = None
        self.died = False

    def wait(self, timeout_s: float) -> bool:
        deadline = time.monotonic() + timeout_s
        while self.pid is not None and time.monotonic() < deadline:
            time.sleep(0.005)
        return self.pid is None

    def log_tail(self, lines: int) -> str:
        return f"last {lines} lines"


class Server:
    """A database server that starts at once, or not at all while it is `broken`."""

    def __init__(self, host: Host) -> None:
        self.host, self.server = host, Process()
        self.broken = False
        self.late = 0  # so many questions are answered too late
        self.before_stop: Callable[[], None] = lambda: None

    def start(self) -> None:
        if self.broken:
            raise EngineError("It does not start.")
        self.server.pid = 1

    def stop(self) -> None:
        self.before_stop()
        self.server.pid = None

    def health(self) -> Health:
        if self.late:
            self.late -= 1
            return Health.DOWN
        return Health.UP

    def server_version(self) -> str:
        return "1.2"


class Conductor:
    """Remembers what it was told; refuses so many reports."""

    def __init__(self) -> None:
        self.told: list[GuestReport] = []
        self.away = 0

    def send(self, report: GuestReport) -> None:
        if self.away:
            self.away -= 1
            raise ConnectionError("away")
        self.told.append(report)

    @property
    def services(self) -> list[str]:
        return [report.service for report in self.told]


class Archiver:
    def __init__(self) -> None:
        self.waits = True

    def go_on(self) -> None:
        self.waits = False


class Scene:
    def __init__(self, directory: Path) -> None:
        host = Host(
            instance_id="i", version="1", bundle=directory, template=directory, data=directory / "data",
            etc=directory, run=directory, logs=directory, address="", port=0, memory_mb=1, vcpus=1, tls=None,
            account=Account.own(),
        )  # fmt: skip
        self.server, self.conductor, self.archiver = Server(host), Conductor(), Archiver()
        self.events: list[str] = []
        self.turns = 0
        self.reporter = Reporter(cast("Any", self.conductor), self.describe)
        self.supervisor = Supervisor(
            cast("Any", self.server),
            directory / "wanted",
            changed=lambda: None,
            record=lambda kind, _message: self.events.append(kind),
            besides=self.count,
        )
        self.calls = calls.Calls(
            cast("Any", self.server),
            self.supervisor,
            self.reporter,
            cast("Any", None),
            cast("Any", None),
            cast("Any", self.archiver),
        )
        self.threads: list[threading.Thread] = []

    def describe(self) -> GuestReport:
        return GuestReport(instance_id="i", number=0, service=self.supervisor.service.value)

    def count(self) -> None:
        self.turns += 1

    def run(self, *loops: Callable[[], None]) -> None:
        self.threads = [threading.Thread(target=loop) for loop in loops]
        for thread in self.threads:
            thread.start()

    def end(self) -> None:
        self.supervisor.end()
        self.reporter.end()
        for thread in self.threads:
            thread.join(30)


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    monkeypatch.setattr("argosy.agent.supervisor.CHECK_EVERY_S", 0.05)
    scene = Scene(tmp_path)
    yield scene
    scene.end()


def test_a_job_that_fails_has_told_how_it_left_the_server(scene: Scene) -> None:
    """Or whoever hears of the failure is shown the server as it was when it still ran."""
    scene.supervisor.start()
    scene.server.broken = True
    failed = scene.calls.restart(messages.Restart(job_id="1", wait_s=30))
    assert (failed.phase, failed.error) == (messages.Phase.FAILED, "It does not start.")
    assert scene.conductor.services == [Service.STARTING]
    # It was taken down, and did not die.
    scene.supervisor.look()
    assert scene.events == []


def test_a_look_is_told_before_it_is_answered(scene: Scene) -> None:
    scene.supervisor.start()
    scene.calls.look(messages.Look())
    assert scene.conductor.services == [Service.HEALTHY]


def test_what_a_job_could_not_tell_is_told_when_the_conductor_is_back(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("argosy.agent.reporter.HEARTBEAT_S", 3600)
    scene.run(scene.reporter.run)
    wait_until("its first life is told", lambda: scene.conductor.services == [Service.NEW])
    scene.supervisor.start()
    scene.conductor.away = 2
    done = scene.calls.restart(messages.Restart(job_id="1", wait_s=30))
    assert done.phase is messages.Phase.SUCCEEDED
    wait_until("its server is told", lambda: scene.conductor.services == [Service.NEW, Service.HEALTHY])


def test_one_late_answer_is_no_outage(scene: Scene) -> None:
    scene.supervisor.start()
    for late, seen in ((1, Service.HEALTHY), (2, Service.STARTING)):
        scene.server.late = late
        scene.supervisor.look()
        assert scene.supervisor.service is seen
    assert scene.events == []


def test_a_server_that_was_paused_is_kept_again_once_it_is_started(scene: Scene) -> None:
    """As on a machine that was to be booted in another size, and then was not."""
    scene.supervisor.start()
    scene.run(scene.supervisor.run)
    scene.supervisor.stop(pause=True)
    turns = scene.turns
    wait_until("the keeper has looked", lambda: scene.turns > turns)
    assert scene.server.server.pid is None
    scene.supervisor.restart()
    scene.server.server.pid = None
    wait_until("the server runs", lambda: scene.server.server.pid is not None)
    assert scene.events == ["server.died"]


def test_the_keeper_waits_for_whoever_has_the_server_in_hand(scene: Scene) -> None:
    """Instead of asking without a pause, for as long as all its data is copied."""
    scene.supervisor.start()
    scene.run(scene.supervisor.run)

    turns = []

    def copy() -> None:
        for _ in range(2):
            turns.append(scene.turns)
            time.sleep(0.5)

    scene.supervisor.hand_over(copy)
    assert turns[1] - turns[0] < 50


def test_what_a_job_did_meanwhile_is_not_told_as_a_keeper_that_begins_had_seen_it(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene.supervisor.start()
    scene.supervisor.service = Service.NEW
    told: list[Service] = []

    def work() -> None:
        scene.supervisor.stop()
        told.append(scene.supervisor.service)

    stop = threading.Thread(target=work)

    def answer_late() -> Health:
        if not stop.ident:
            stop.start()
            stop.join(0.3)  # as long as it would take, if it did not wait
        return Health.UP

    monkeypatch.setattr(scene.server, "health", answer_late)
    scene.supervisor.end()
    scene.supervisor.run()
    stop.join()
    assert scene.supervisor.service is told[0] is Service.SHUTDOWN


@pytest.mark.parametrize("job", ["upgrade", "restore"])
def test_a_job_that_fails_leaves_no_archive_waiting(
    scene: Scene, job: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An earlier life may have died over the exchange of the data, to which this one does not come."""

    def fail(*_: object) -> None:
        raise EngineError("It cannot be done now.")

    monkeypatch.setattr(calls.Calls, "_capable", lambda *_: scene.server)
    monkeypatch.setattr("argosy.engines.upgrades.check", fail)
    monkeypatch.setattr("argosy.agent.backups.restore", fail)
    software = messages.Software(version="2", bundle="/", template="/")
    if job == "upgrade":
        ended = scene.calls.prepare_upgrade(messages.PrepareUpgrade(job_id="1", wait_s=30, software=software))
    else:
        ended = scene.calls.restore(messages.Restore(job_id="1", wait_s=30, chain=(), in_place=True))
    assert ended.error == "It cannot be done now."
    assert scene.archiver.waits is False


def test_the_first_report_is_of_a_server_that_was_looked_at(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An agent that is booted again beside a healthy server must not say that there is none yet."""
    scene.supervisor.start()
    health = scene.server.health

    def answer() -> Health:
        time.sleep(0.2)
        return health()

    monkeypatch.setattr(scene.server, "health", answer)
    monkeypatch.setattr(agent, "engine_for", lambda *_: scene.server)
    monkeypatch.setattr(agent, "ConductorClient", lambda *_: scene.conductor)
    monkeypatch.setattr(agent, "TlsServer", lambda *_: SimpleNamespace(start=int, stop=int))
    for name in ("client_context", "server_context", "Transfers"):
        monkeypatch.setattr(agent, name, lambda *_, **__: None)
    for name in ("upgrades.settle", "upgrades.adopted", "restores.settle"):
        monkeypatch.setattr(f"argosy.engines.{name}", lambda _: None)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    at = str(tmp_path)
    config = GuestConfig(
        instance_id="i", engine="e", version="1", address="", port=0, memory_mb=1, vcpus=1, uid=0, gid=0, bundle=at,
        template=at, volume=at, etc=at, run=at, logs=at, conductor_url="", rpc_ca="", rpc_certificate="", rpc_key="",
        tls_ca="", tls_certificate="", tls_key="",
    )  # fmt: skip

    def serves(end: Callable[[], None]) -> None:
        def end_when_told() -> None:
            wait_until("something is told", lambda: bool(scene.conductor.told))
            end()

        threading.Thread(target=end_when_told).start()

    machine = SimpleNamespace(agent="code", serves=serves, guest=SimpleNamespace(certificate_is_new=False))
    agent.serve(config, cast("Any", machine))
    assert scene.conductor.services[0] == Service.HEALTHY
