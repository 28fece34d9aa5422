"""Whatever dies, what was acknowledged is still there."""

from __future__ import annotations

import threading

import pytest

from argosy.engines.base import Health, RootAccess
from tests.engines.test_life import a_database, a_session
from tests.support.engines import Guest, Refused


class Writers:
    """Clients that write until the server hangs up, and remember what it acknowledged."""

    def __init__(self, guest: Guest, count: int = 3) -> None:
        self.acknowledged: set[str] = set()
        self._enough = threading.Semaphore(0)
        with a_session(guest) as session:
            session.write("first", "of all")
        engine = guest.engine
        assert isinstance(engine, RootAccess)
        self._threads = [
            threading.Thread(target=self._write, args=(guest, engine.root_name, a_database(guest), number))
            for number in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def wait_for(self, rows: int) -> None:
        for _ in range(rows):
            assert self._enough.acquire(timeout=60), "the writers are stuck"

    def wait_until_cut_off(self) -> None:
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive()

    def _write(self, guest: Guest, user: str, database: str | None, number: int) -> None:
        try:
            with guest.connect(user, "a root's password", database) as session:
                for row in range(1_000_000):
                    session.write(f"{number}-{row}", "written")
                    self.acknowledged.add(f"{number}-{row}")
                    self._enough.release()
        except Refused:
            pass


@pytest.mark.parametrize("rows", [1, 150, 700])
def test_what_was_acknowledged_survives_the_death_of_the_server(guest: Guest, rows: int) -> None:
    guest.sync_every_write()
    writers = Writers(guest)
    writers.wait_for(rows)
    guest.kill_server()
    writers.wait_until_cut_off()
    assert guest.engine.health() is Health.DOWN
    guest.engine.start()
    assert guest.engine.health() is Health.UP
    with a_session(guest) as session:
        assert writers.acknowledged <= session.read().keys()


def test_a_server_killed_with_all_its_processes_comes_back(guest: Guest) -> None:
    guest.sync_every_write()
    writers = Writers(guest)
    writers.wait_for(50)
    guest.engine.server.kill()
    writers.wait_until_cut_off()
    guest.engine.start()
    with a_session(guest) as session:
        assert writers.acknowledged <= session.read().keys()


def test_a_restarted_agent_finds_its_server(guest: Guest) -> None:
    pid = guest.engine.server.pid
    engine = guest.new_agent()
    assert engine.server.pid == pid
    assert engine.health() is Health.UP
    engine.start()
    assert engine.server.pid == pid
    engine.stop()
    assert engine.server.pid is None


def test_an_agent_killed_before_it_wrote_its_servers_pid_down_finds_it(guest: Guest) -> None:
    pid = guest.engine.server.pid
    (guest.host.run / "server.json").unlink()
    engine = guest.new_agent()
    assert engine.server.pid == pid
    engine.start()
    assert engine.server.pid == pid


def test_a_restarted_agent_starts_a_server_that_died_meanwhile(guest: Guest) -> None:
    guest.sync_every_write()
    with a_session(guest) as session:
        session.write("kept", "yes")
    guest.kill_server()
    engine = guest.new_agent()
    assert engine.server.pid is None
    assert engine.health() is Health.DOWN
    engine.start()
    with a_session(guest) as session:
        assert session.read() == {"kept": "yes"}


def test_a_copy_cut_short_is_made_again(place: Guest) -> None:
    place.engine.initialise()
    half = place.host.data.with_name(f".{place.host.data.name}.new")
    place.host.data.rename(half)
    place.engine.initialise()
    place.engine.start()
    assert place.engine.health() is Health.UP
