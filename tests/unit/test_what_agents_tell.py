"""What an agent tells of its server: as it is when it says so, and by the end of every job what that has left."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from argosy.agent import calls
from argosy.agent.reporter import Reporter
from argosy.agent.supervisor import Supervisor
from argosy.domain.errors import EngineError
from argosy.domain.status import Service
from argosy.engines.base import Health
from argosy.engines.host import Account, Host
from argosy.rpc.reports import GuestReport


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


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


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
    until(lambda: scene.turns > turns)
    assert scene.server.server.pid is None
    scene.supervisor.restart()
    scene.server.server.pid = None
    until(lambda: scene.server.server.pid is not None)
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
