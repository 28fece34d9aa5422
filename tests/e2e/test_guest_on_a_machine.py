"""A machine's guest from its first boot on: it enrols once, knows itself at each boot, and lives anew when asked to."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from argosy.domain.errors import ArgosyError
from argosy.rpc import agent_code, messages
from argosy.rpc.messages import Phase
from tests.support import files
from tests.support.machine import Cloud, SimulatedMachine
from tests.support.machine import cloud as running_cloud
from tests.support.server import wait_until


@pytest.fixture(scope="module")
def cloud() -> Iterator[Cloud]:
    with running_cloud() as made:
        yield made


@pytest.fixture(scope="module")
def machine(cloud: Cloud) -> SimulatedMachine:
    """One that has booted and has a database server, for tests that leave it so."""
    machine = cloud.machine()
    machine.boot()
    machine.prepare()
    return machine


def test_nothing_of_the_bootstrap_identity_is_left_on_the_disk(machine: SimulatedMachine) -> None:
    certificate, key = machine.bootstrap_lines()
    assert places_with(machine, key) == places_with(machine, certificate) == [machine.user_data]


def test_an_agent_that_is_killed_comes_back_as_the_same_guest_and_its_server_goes_on(
    machine: SimulatedMachine,
) -> None:
    server, agent = machine.server_pid, machine.agent_pid
    machine.kill_agent()
    wait_until("another agent serves", lambda: machine.agent_pid not in {None, agent})
    wait_until("it serves", lambda: serves(machine))
    assert machine.server_pid == server is not None
    assert machine.events().count("enrolled") == 1


def test_a_machine_boots_as_what_it_was_told_while_no_conductor_answers(
    cloud: Cloud, machine: SimulatedMachine
) -> None:
    machine.power_off()
    cloud.stop()
    try:
        machine.boot()
        wait_until("it serves", lambda: serves(machine))
        wait_until("its server runs", lambda: machine.server_pid)
    finally:
        cloud.start()


def test_a_machine_waits_for_its_conductor_to_enrol(cloud: Cloud) -> None:
    machine = cloud.machine()
    cloud.stop()
    try:
        machine.boot()
        wait_until("it has tried twice", lambda: machine.events().count("not enrolled") >= 2)
        assert not machine.layout.enrolled.exists()
    finally:
        cloud.start()
    wait_until("it serves", lambda: serves(machine))
    machine.power_off()


def test_a_guest_killed_before_it_kept_the_answer_enrols_with_the_same_key(cloud: Cloud) -> None:
    machine = cloud.machine()
    machine.boot()
    wait_until("it serves", lambda: serves(machine))
    machine.power_off()
    key = (machine.layout.identity / "guest.key").read_text()
    machine.layout.enrolled.unlink()
    machine.boot()
    wait_until("it serves", lambda: serves(machine))
    machine.power_off()
    assert (machine.layout.identity / "guest.key").read_text() == key


def test_a_guest_whose_addresses_changed_is_given_certificates_for_them(
    cloud: Cloud, machine: SimulatedMachine
) -> None:
    server = machine.server_pid
    before = (machine.layout.tls / "server.crt").read_text()
    machine.tell(addresses=(machine.told.address, "203.0.113.7"))
    assert machine.renew().phase is Phase.SUCCEEDED
    assert (machine.layout.tls / "server.crt").read_text() != before
    wait_until("the server shows it", lambda: "203.0.113.7" in names_shown_by(machine))
    assert machine.server_pid == server


def test_a_guest_that_is_to_live_anew_hears_what_it_is_before_that_is_done(
    cloud: Cloud, machine: SimulatedMachine
) -> None:
    machine.tell(memory_mb=machine.told.memory_mb + 1)
    call = messages.Renew(job_id="while it is away")
    cloud.stop()
    try:
        agent = machine.agent_pid
        cloud.guests.run(machine.told.rpc_address, call)
        wait_until("another agent serves", lambda: machine.agent_pid not in {None, agent} and serves(machine))
        assert cloud.guests.run(machine.told.rpc_address, call).doing == "waiting for the conductor"
    finally:
        cloud.start()
    assert machine.run(call).phase is Phase.SUCCEEDED
    hardware = cloud.guests.call(machine.told.rpc_address, messages.TellHardware())
    assert hardware.memory_mb == machine.told.memory_mb


def test_a_machine_whose_volume_is_not_there_says_so_to_whoever_asks(cloud: Cloud) -> None:
    machine = cloud.machine()
    machine.unplug()
    machine.boot()
    state = machine.run(messages.Prepare(job_id="first"))
    assert (state.phase, state.error_code) == (Phase.FAILED, "platform-error")
    assert "is not attached" in (state.error or "")
    machine.plug()
    wait_until("it serves", lambda: serves(machine))
    machine.power_off()


def test_an_agent_takes_the_code_of_its_control_plane_while_its_server_goes_on(
    cloud: Cloud, machine: SimulatedMachine
) -> None:
    server = machine.server_pid
    older = machine.install_older()
    assert machine.renew().phase is Phase.SUCCEEDED
    assert machine.code_that_runs() == older
    assert machine.renew(agent_code.digest()).phase is Phase.SUCCEEDED
    assert machine.code_that_runs() == agent_code.digest()
    assert machine.server_pid == server


def test_code_that_is_not_what_was_asked_for_is_not_taken(machine: SimulatedMachine) -> None:
    agent = machine.agent_pid
    state = machine.renew("0" * 64)
    assert (state.phase, state.error_code) == (Phase.FAILED, "bad-agent-code")
    assert machine.agent_pid == agent
    assert machine.code_that_runs() == agent_code.digest()


def test_code_that_never_serves_gives_way_to_the_one_before(machine: SimulatedMachine) -> None:
    server = machine.server_pid
    machine.install_broken()
    state = machine.renew()
    assert state.phase is Phase.SUCCEEDED
    assert machine.code_that_runs() == agent_code.digest()
    assert "never came to serve: going back" in machine.log
    assert machine.server_pid == server


def places_with(machine: SimulatedMachine, words: str) -> list[Path]:
    return [path for path, data in files.read(machine.layout.root) if words.encode() in data]


def names_shown_by(machine: SimulatedMachine) -> list[str]:
    """Of the database server, to clients."""
    context = ssl.create_default_context(cafile=str(machine.layout.tls / "ca.crt"))
    with (
        socket.create_connection((machine.told.address, machine.told.port), timeout=10) as connection,
        context.wrap_socket(connection, server_hostname=machine.told.address) as secured,
    ):
        certificate = secured.getpeercert() or {}
    return [str(value) for _, value in certificate.get("subjectAltName", ())]  # type: ignore[str-unpack]


def serves(machine: SimulatedMachine) -> bool:
    try:
        machine.cloud.guests.call(machine.told.rpc_address, messages.Ping())
    except ArgosyError:
        return False
    return True
