"""The agent's archiver: each segment into the store, told, and only then forgotten, whatever fails in between."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from argosy.agent.log_archiver import LogArchiver
from argosy.domain.errors import Conflict, Unavailable, Unsupported
from argosy.engines.backups import Segment
from argosy.engines.host import Account, Host
from argosy.rpc.messages import Archive
from argosy.rpc.segments import SegmentsKnown, SegmentTold
from argosy.storage.archive import Below, Reader
from argosy.storage.base import ObjectNotFound
from tests.support.server import wait_until

KEY = bytes(range(32))
ARCHIVE = Archive(id="a", container="c", prefix="i/log-a/", key=KEY.hex())


class Server:
    """A database server's log: ten positions a segment, each a file of its own."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.on: bool | None = None
        self.written = self.finished = 0
        self.waiting: list[Segment] = []

    def keep_log(self, *, on: bool) -> None:
        self.on = on

    def write(self, positions: int) -> None:
        self.written += positions

    def finish_segment(self) -> None:
        if self.written == self.finished:
            return
        segment = Segment(f"s{self.finished}", self.finished, self.written, 100)
        self.segment_file(segment).write_text(f"log {self.finished} to {self.written}")
        self.waiting.append(segment)
        self.finished = self.written

    def finished_segments(self) -> list[Segment]:
        return list(self.waiting)

    def segment_file(self, segment: Segment) -> Path:
        return self.host.etc / segment.name

    def archived(self, segment: Segment) -> None:
        self.waiting.remove(segment)

    def position(self) -> int:
        return self.written


class Store:
    """Objects in memory, and a conductor that takes segments; both fail while `away`."""

    def __init__(self) -> None:
        self.held: dict[str, bytes] = {}
        self.told: list[str] = []
        self.ends: int | None = None
        self.away: Exception | None = None
        self.deaf: Exception | None = None
        self.puts = 0

    def objects(self, archive: Archive) -> Store:
        assert archive == ARCHIVE
        return self

    def put(self, name: str, content: bytes) -> None:
        if self.away is not None:
            raise self.away
        self.puts += 1
        self.held[name] = content

    def get(self, name: str) -> bytes:
        try:
            return self.held[name]
        except KeyError as error:
            raise ObjectNotFound(name=name) from error

    def tell_segment(self, told: SegmentTold) -> SegmentsKnown:
        known = SegmentsKnown(last=self.told[-1] if self.told else None, ends=self.ends)
        if isinstance(self.deaf, Conflict):
            raise self.deaf
        if told.segment is not None:
            if told.segment.name not in self.told:
                self.told.append(told.segment.name)
            self.ends = told.segment.ends
            # Written down, and the answer is lost.
            if self.deaf is not None:
                raise self.deaf
        return known

    def read(self, segment: str) -> bytes:
        return b"".join(Reader(Below(self, segment), f"a/{segment}", KEY).read())


class Scene:
    def __init__(self, directory: Path) -> None:
        host = Host(
            instance_id="i", version="1", bundle=directory, template=directory, data=directory / "data",
            etc=directory, run=directory, logs=directory, address="", port=0, memory_mb=1, vcpus=1, tls=None,
            account=Account.own(),
        )  # fmt: skip
        self.server, self.store = Server(host), Store()
        self.events: list[str] = []
        self.reported: list[str | None] = []
        self.archiver = self.agent()

    def agent(self) -> LogArchiver:
        return LogArchiver(
            cast("Any", self.server),
            cast("Any", self.store),
            cast("Any", self.store),
            record=lambda kind, _message: self.events.append(kind),
            soon=self.soon,
        )

    def soon(self) -> None:
        status = self.archiver.status()
        self.reported.append(status.error if status is not None else None)

    def turn(self) -> None:
        self.archiver._look()


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    scene = Scene(tmp_path)
    yield scene
    scene.archiver.end()


def test_a_finished_segment_is_stored_told_and_forgotten(scene: Scene) -> None:
    scene.archiver.switch_on(ARCHIVE, every_s=0)
    scene.server.write(10)
    scene.turn()
    assert scene.server.on is True
    assert scene.store.told == ["s0"]
    assert scene.store.read("s0") == b"log 0 to 10"
    assert scene.server.waiting == []
    status = scene.archiver.status()
    assert status is not None
    assert (status.archive_id, status.lag_bytes, status.error) == ("a", 0, None)
    assert status.until is not None


def test_the_archive_covers_this_moment_when_nothing_was_written(scene: Scene) -> None:
    scene.archiver.switch_on(ARCHIVE, every_s=0)
    scene.server.write(10)
    scene.turn()
    before = scene.archiver.status()
    scene.turn()
    after = scene.archiver.status()
    assert before is not None
    assert after is not None
    assert before.until is not None
    assert after.until is not None
    assert after.until > before.until
    assert scene.store.told == ["s0"]


def test_the_log_waits_while_the_store_is_away_and_that_is_told_once(scene: Scene) -> None:
    scene.archiver.switch_on(ARCHIVE, every_s=0)
    scene.store.away = Unavailable("The store is away.")
    for _ in range(3):
        scene.server.write(10)
        scene.server.finish_segment()
        scene.turn()
    status = scene.archiver.status()
    assert status is not None
    assert (status.lag_bytes, status.error, status.until) == (300, "The store is away.", None)
    assert len(scene.server.waiting) == 3
    scene.store.away = None
    scene.turn()
    assert scene.store.told == ["s0", "s10", "s20"]
    assert scene.events == ["log_archive.stalled", "log_archive.resumed"]
    assert scene.reported[-1] is None
    status = scene.archiver.status()
    assert status is not None
    assert status.error is None


@pytest.mark.parametrize("reborn", [False, True], ids=["same agent", "another life"])
def test_a_segment_whose_answer_was_lost_is_not_written_over(scene: Scene, reborn: bool) -> None:
    scene.archiver.switch_on(ARCHIVE, every_s=0)
    scene.store.deaf = ConnectionError("lost")
    scene.server.write(10)
    scene.turn()
    assert scene.store.told == ["s0"]
    assert [one.name for one in scene.server.waiting] == ["s0"]
    scene.store.deaf = None
    if reborn:
        scene.archiver = scene.agent()
    puts = scene.store.puts
    scene.turn()
    assert scene.server.waiting == []
    assert scene.store.puts == puts


def test_a_later_life_goes_on_by_itself(scene: Scene) -> None:
    scene.archiver.switch_on(ARCHIVE, every_s=0)
    scene.server.write(10)
    scene.turn()
    scene.server.on = None
    scene.archiver = scene.agent()
    scene.server.write(10)
    thread = threading.Thread(target=scene.archiver.run)
    thread.start()
    wait_until("the archiver has gone on", lambda: scene.store.told == ["s0", "s10"])
    scene.archiver.end()
    thread.join(30)
    assert scene.server.on is True


def test_switched_off_the_last_of_the_log_is_archived_first(scene: Scene) -> None:
    scene.archiver.switch_on(ARCHIVE, every_s=3600)
    scene.turn()
    scene.server.write(10)
    told: list[Any] = []
    assert scene.archiver.switch_off(lambda: told.append(scene.archiver.status())) is None
    assert scene.store.told == ["s0"]
    assert told[0].until is not None
    assert scene.server.on is False
    assert scene.archiver.status() is None
    scene.server.write(10)
    scene.turn()
    assert scene.store.told == ["s0"]
    assert scene.agent().status() is None


def test_switched_off_while_the_store_is_away_it_says_what_is_missing(scene: Scene) -> None:
    scene.archiver.switch_on(ARCHIVE, every_s=0)
    scene.server.write(10)
    scene.store.away = Unavailable("The store is away.")
    assert scene.archiver.switch_off(lambda: None) == "The store is away."
    assert scene.server.on is False


def test_no_log_is_kept_when_it_is_switched_off_as_a_new_life_begins(scene: Scene) -> None:
    scene.archiver.switch_on(ARCHIVE, every_s=0)
    scene.server.write(10)
    scene.turn()
    archiver, keep_log = scene.agent(), scene.server.keep_log
    call = threading.Thread(target=archiver.switch_off, args=(lambda: None,))

    def keep_late(*, on: bool) -> None:
        if on:
            call.start()
            call.join(0.3)  # as long as it would take, if it did not wait
        keep_log(on=on)

    scene.server.keep_log = keep_late  # type: ignore[method-assign]
    archiver.end()
    archiver.run()
    call.join()
    assert scene.server.on is False
    assert archiver.status() is None


def test_another_history_does_not_go_into_the_archive_of_the_old_one(scene: Scene) -> None:
    scene.archiver.switch_on(ARCHIVE, every_s=0)
    scene.server.write(10)
    with scene.archiver.another_history(lambda: None):
        assert scene.store.told == ["s0"]
        scene.server.write(10)
        scene.server.finish_segment()
        scene.turn()
        status = scene.archiver.status()
        assert status is not None
        assert status.error == "It waits for a restore or an upgrade to end."
        # Another life in the middle of it waits too, until it is asked to go on with the same.
        scene.agent()._look()
        assert scene.store.told == ["s0"]
    assert scene.server.on is False
    assert scene.archiver.status() is None


def test_an_exchange_that_is_given_up_leaves_the_archive_as_it_was(scene: Scene) -> None:
    scene.archiver.switch_on(ARCHIVE, every_s=0)
    scene.server.write(10)
    with pytest.raises(Unavailable), scene.archiver.another_history(lambda: None):
        raise Unavailable("It does not start.")
    scene.server.write(10)
    scene.turn()
    assert scene.store.told == ["s0", "s10"]


def test_an_exchange_that_another_life_does_not_come_to_leaves_the_archive_as_it_was(scene: Scene) -> None:
    scene.archiver.switch_on(ARCHIVE, every_s=0)
    scene.server.write(10)
    with scene.archiver.another_history(lambda: None):
        scene.server.write(10)
        reborn = scene.agent()
        reborn._look()
        assert scene.store.told == ["s0"]
        reborn.go_on()
        reborn._look()
        assert scene.store.told == ["s0", "s10"]
        status = reborn.status()
        assert status is not None
        assert status.error is None


def test_to_an_archive_that_has_ended_nothing_is_lost(scene: Scene) -> None:
    scene.archiver.switch_on(ARCHIVE, every_s=0)
    scene.store.deaf = Conflict("This archive of the log has ended.")
    scene.server.write(10)
    scene.server.finish_segment()
    scene.turn()
    assert len(scene.server.waiting) == 1
    status = scene.archiver.status()
    assert status is not None
    assert status.error == "This archive of the log has ended."


def test_its_key_is_the_agents_alone(scene: Scene, tmp_path: Path) -> None:
    scene.archiver.switch_on(ARCHIVE, every_s=60)
    file = tmp_path / "log_archive.json"
    assert file.stat().st_mode & 0o777 == 0o600
    assert KEY.hex() not in repr(scene.archiver.__dict__)


def test_a_server_without_a_log_is_refused(tmp_path: Path) -> None:
    engine = SimpleNamespace(host=Scene(tmp_path).server.host)
    archiver = LogArchiver(
        cast("Any", engine), cast("Any", None), cast("Any", None), record=lambda *_: None, soon=lambda: None
    )
    with pytest.raises(Unsupported):
        archiver.switch_on(ARCHIVE, 60)
    assert archiver.status() is None
