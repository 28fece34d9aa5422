"""`argosy guest`: which code the agents run, and having them run the control plane's."""

from __future__ import annotations

from argosy.rpc import agent_code
from tests.support.command_line import CommandLine
from tests.support.server import Server


def test_an_administrator_sees_which_code_each_guest_runs(argosy: CommandLine, cache: str) -> None:
    (mine,) = [one for one in argosy("guest", "list", "--json").json if one["name"] == cache]
    assert mine["agent"]["code"] == agent_code.digest()
    assert mine["agent"]["is_current"]
    shown = argosy("guest", "list").out
    assert agent_code.digest()[:12] in shown
    argosy("guest", "list", "--os-cloud", "argosy", code=5)


def test_a_guest_is_upgraded_while_its_database_server_goes_on(
    argosy: CommandLine, server: Server, cache: str
) -> None:
    (mine,) = [one for one in argosy("guest", "list", "--json").json if one["name"] == cache]
    database, agent = server.server_pid(mine["id"]), server.agent_pid(mine["id"])
    done = argosy("guest", "upgrade", cache)
    assert done.out.strip() == f"{cache} has a new agent."
    assert server.server_pid(mine["id"]) == database is not None
    assert server.agent_pid(mine["id"]) not in {None, agent}


def test_guests_that_run_the_code_of_today_are_left_alone(argosy: CommandLine, cache: str) -> None:
    assert "guests run the control plane's code" in argosy("guest", "upgrade", "--all").err


def test_which_guests_to_upgrade_has_to_be_said(argosy: CommandLine, cache: str) -> None:
    argosy("guest", "upgrade", code=2)
    argosy("guest", "upgrade", cache, "--all", code=2)
    argosy("guest", "upgrade", "no-such-instance", code=3)
