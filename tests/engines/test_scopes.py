"""Where systemd runs, a server is given a scope of its own; it stays the same process, with the same doors.

systemd does not run where these tests do: a program of its command's name stands in, which runs what it is given as
`systemd-run --scope` does, in the same process.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from argosy.catalog import datastores
from argosy.engines.process import SERVER, ServerProcess
from argosy.engines.upgrades import REHEARSAL
from tests.support.engines import Guest

_STANDS_IN = """#!/bin/sh
for word do echo "$word"; done > {asked}
while [ "$1" != -- ]; do shift; done
shift
exec "$@"
"""
_SERVER = [
    "/bin/sh",
    "-c",
    'echo "${LISTEN_PID:-$$} $$ $(id -u) $(id -g) $(readlink /proc/$$/fd/3)"; exec sleep 600',
]


@pytest.fixture
def place() -> Iterator[Guest]:
    datastore = datastores()["valkey"]
    with Guest(datastore, datastore.version(datastore.default_version), None) as guest:
        programs = guest.home / "bundle/usr/bin"
        programs.mkdir(parents=True)
        program = programs / "systemd-run"
        program.write_text(_STANDS_IN.format(asked=guest.home / "asked"))
        for path in (programs, programs.parent, programs.parent.parent, program):
            path.chmod(0o755)
        guest.host = replace(guest.host, bundle=guest.home / "bundle", unit="argosy-database")
        yield guest


Start = Callable[..., tuple[ServerProcess, list[str]]]


@pytest.fixture
def start(place: Guest) -> Iterator[Start]:
    """Starts a server; returns it, and the words that it wrote first."""
    servers = []

    def start(role: str = SERVER, doors: tuple[socket.socket, socket.socket] | None = None) -> Any:
        server = ServerProcess(place.host, place.host.logs / f"{role}.log", role)
        servers.append(server)
        server.start(_SERVER, doors=doors)
        place.wait_until(lambda: "\n" in server.log.read_text(), "it wrote a line")
        return server, server.log.read_text().split()

    yield start
    for server in servers:
        server.kill()


def words_of(guest: Guest) -> list[str]:
    return (guest.home / "asked").read_text().splitlines()


def test_a_server_in_a_scope_is_found_again_by_another_agent(place: Guest, start: Start) -> None:
    server, _ = start()
    assert ServerProcess(place.host, server.log).pid == server.pid
    (place.host.run / "server.json").unlink()
    assert ServerProcess(place.host, server.log).pid == server.pid
    server.kill()
    assert server.pid is None


def test_a_server_in_a_scope_runs_under_its_account_and_has_its_doors(place: Guest, start: Start) -> None:
    with socket.create_server((place.host.address, place.host.port)) as first, socket.socket() as second:
        server, told = start(doors=(first, second))
    pid, account = str(server.pid), place.host.account
    assert told[:4] == [pid, pid, str(account.uid), str(account.gid)]
    assert told[4].startswith("socket:")


def test_a_scope_says_whose_it_is_and_ends_after_the_agent_and_before_its_volume(
    place: Guest, start: Start
) -> None:
    server, _ = start()
    words = words_of(place)
    assert "--scope" in words
    assert any(word.startswith("--unit=argosy-database-") for word in words)
    assert "--property=Before=argosy-agent.service" in words
    assert f"--property=RequiresMountsFor={place.host.data.parent}" in words
    if os.geteuid() == 0:
        assert f"--reuid={place.host.account.uid}" in words
    rehearsal, _ = start(REHEARSAL)
    assert any(word.startswith("--unit=argosy-database-rehearsal-") for word in words_of(place))
    assert server.pid != rehearsal.pid
