"""The agent's own account gets another password, and the agent is never locked out."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from argosy.domain.errors import EngineNotReady
from argosy.engines.base import Health, RotatesPassword, Users
from argosy.engines.host import Host
from tests.support.engines import Guest


def kept(guest: Guest) -> str:
    return (guest.host.etc / "os_admin.password").read_text()


def rotate(guest: Guest) -> None:
    engine = guest.engine
    if not isinstance(engine, RotatesPassword):
        pytest.skip(f"the management account of {guest.datastore.title} has no password")
    engine.rotate_password()


def manages(guest: Guest) -> bool:
    """Whether a new agent finds its way in."""
    engine = guest.new_agent()
    assert isinstance(engine, Users)
    engine.list_users()
    return engine.health() is Health.UP


def test_the_management_account_gets_another_password(guest: Guest) -> None:
    before = kept(guest) if (guest.host.etc / "os_admin.password").exists() else ""
    rotate(guest)
    assert kept(guest) != before
    assert manages(guest)
    assert before.strip() not in guest.everything_written()
    guest.engine.stop()
    guest.engine.start()
    assert manages(guest)


def test_an_agent_that_dies_at_any_moment_of_it_finds_its_way_in(guest: Guest) -> None:
    if not isinstance(guest.engine, RotatesPassword):
        pytest.skip(f"the management account of {guest.datastore.title} has no password")
    for moment in ("before it is kept", "after it was kept"):
        _die_while_rotating(guest, moment)
        assert manages(guest), moment
        rotate(guest)
        assert manages(guest), moment


def _die_while_rotating(guest: Guest, moment: str) -> None:
    """In a process of its own, that is killed around the writing of the new password."""
    engine = guest.new_agent()
    assert isinstance(engine, RotatesPassword)
    write = Host.write_file

    def die(host: Host, path: Path, text: str, mode: int = 0o600, *, as_agent: bool = False) -> Path:
        if moment.startswith("after"):
            write(host, path, text, mode, as_agent=as_agent)
        os.kill(os.getpid(), signal.SIGKILL)
        return path

    pid = os.fork()
    if pid == 0:
        try:
            Host.write_file = die  # type: ignore[assignment, method-assign] # in this process alone, to die there
            engine.rotate_password()
        finally:
            os._exit(1)
    assert os.WIFSIGNALED(os.waitpid(pid, 0)[1])


def test_a_server_that_does_not_answer_keeps_the_password_it_has(guest: Guest) -> None:
    if not isinstance(guest.engine, RotatesPassword):
        pytest.skip(f"the management account of {guest.datastore.title} has no password")
    before = kept(guest)
    guest.engine.stop()
    with pytest.raises(EngineNotReady):
        rotate(guest)
    assert kept(guest) == before
