"""A server is made, started, stopped and measured."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path

import pytest

from argosy.domain.databases import Database
from argosy.domain.errors import EngineError
from argosy.engines.base import Databases, Health, RootAccess
from tests.support.engines import Guest, Session


def a_session(guest: Guest) -> Session:
    """Root's, in a database of ours where there are databases: enough to write and read."""
    engine = guest.engine
    assert isinstance(engine, RootAccess)
    engine.enable_root("a root's password")
    return guest.connect(engine.root_name, "a root's password", a_database(guest))


def a_database(guest: Guest) -> str | None:
    engine = guest.engine
    if not isinstance(engine, Databases):
        return None
    if "shop" not in [database.name for database in engine.list_databases()]:
        engine.create_databases([Database("shop")])
    return "shop"


def test_a_new_server_answers_and_says_its_version(guest: Guest) -> None:
    assert guest.engine.health() is Health.UP
    assert guest.engine.server_version().startswith(f"{guest.host.version}.")
    assert guest.engine.server.pid is not None


def test_initialising_again_leaves_the_data_alone(guest: Guest) -> None:
    with a_session(guest) as session:
        session.write("kept", "yes")
    guest.engine.stop()
    guest.engine.initialise()
    guest.engine.start()
    with a_session(guest) as session:
        assert session.read() == {"kept": "yes"}


def test_starting_again_leaves_a_running_server_alone(guest: Guest) -> None:
    pid = guest.engine.server.pid
    guest.engine.start()
    assert guest.engine.server.pid == pid


def test_the_server_runs_under_the_instances_own_account(guest: Guest) -> None:
    pid = guest.engine.server.pid
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
    assert status["Uid"].split() == [str(guest.host.account.uid)] * 4
    assert guest.host.data.stat().st_uid == guest.host.account.uid
    assert guest.host.data.stat().st_mode & 0o077 == 0


def test_a_stopped_server_is_down_and_comes_back_with_its_data(guest: Guest) -> None:
    with a_session(guest) as session:
        session.write("kept", "yes")
    guest.engine.stop()
    assert guest.engine.server.pid is None
    assert guest.engine.health() is Health.DOWN
    guest.engine.stop()
    guest.engine.start()
    assert guest.engine.health() is Health.UP
    with a_session(guest) as session:
        assert session.read() == {"kept": "yes"}


def test_stopping_does_not_wait_for_idle_clients(guest: Guest) -> None:
    with a_session(guest) as session:
        session.write("kept", "yes")
        guest.engine.stop()
        assert guest.engine.server.pid is None


def test_a_server_that_is_frozen_is_down(guest: Guest) -> None:
    guest.engine.health()
    guest.freeze_server()
    assert guest.engine.health() is Health.DOWN
    guest.thaw_server()
    guest.wait_until(lambda: guest.engine.health() is Health.UP, "the thawed server is up")


def test_used_bytes_grow_with_the_data(guest: Guest) -> None:
    before = guest.engine.used_bytes()
    assert before >= 0
    with a_session(guest) as session:
        for number in range(64):
            session.write(f"row {number}", f"{number:064d}" * 1024)
    guest.engine.stop()
    assert guest.engine.used_bytes() > before


def test_memory_follows_the_flavor(guest: Guest) -> None:
    before = guest.adapter.cache_mb(guest.host)
    assert 0 < before < guest.host.memory_mb
    guest.engine.stop()
    guest.resize(guest.host.memory_mb * 4)
    guest.engine.start()
    assert guest.adapter.cache_mb(guest.host) > before * 2


def test_two_servers_of_one_template_are_strangers(place: Guest, second_place: Guest) -> None:
    for one in (place, second_place):
        one.engine.initialise()
        one.engine.start()
    with a_session(place) as session:
        session.write("mine", "yes")
    with a_session(second_place) as session:
        session.write("other", "yes")
        assert session.read() == {"other": "yes"}


def test_a_taken_port_is_told(place: Guest) -> None:
    place.engine.initialise()
    with socket.create_server((place.host.address, place.host.port)):
        with pytest.raises(EngineError, match=r"(?i)address already in use|bind"):
            place.engine.start()
        assert place.engine.server.pid is None
    place.engine.start()
    assert place.engine.health() is Health.UP


def test_a_damaged_data_directory_is_told(guest: Guest) -> None:
    guest.engine.stop()
    for path in guest.host.data.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.write_bytes(b"rubbish")
    with pytest.raises(EngineError) as refusal:
        guest.engine.start()
    assert len(refusal.value.sentence) > 40
    assert guest.engine.health() is Health.DOWN
