"""`argosy stop`, `start`, `protect`, `tag`, and lists of what was deleted."""

from __future__ import annotations

import json

from tests.support.command_line import CommandLine
from tests.support.server import Server, wait_until


def test_an_instance_is_stopped_and_started(argosy: CommandLine) -> None:
    argosy("create", "rest", "--datastore", "valkey", "--flavor", "tiny", "-q")
    assert argosy("stop", "rest").out == "rest is stopped: argosy start rest\n"
    assert "SHUTDOWN" in argosy("list").out
    assert "start it" in argosy("show", "rest").out
    assert "stopped" in argosy("stop", "rest", code=4).err
    assert argosy("start", "rest").out == "rest was started.\n"
    assert argosy("show", "rest", "--json").json["operating_status"] == "HEALTHY"
    argosy("delete", "rest")


def test_a_protected_instance_is_deleted_after_it_is_unprotected(argosy: CommandLine) -> None:
    argosy(
        "create", "kept", "--datastore", "valkey", "--tag", "stage=test", "--tag", "team=web", "--protected"
    )
    assert "protected" in argosy("delete", "kept", code=5).err
    assert argosy("list", "--tag", "stage=test", "--tag", "team", "--json").json[0]["name"] == "kept"
    assert argosy("list", "--tag", "stage=production", "-q").out == ""
    assert argosy("tag", "kept", "stage=production", "--remove", "team").out == "stage=production\n"
    assert argosy("tag", "kept", "--json").json == {"stage": "production"}
    assert "stage=production" in argosy("show", "kept").out
    assert "KEY=VALUE" in argosy("tag", "kept", "stage", code=2).err
    assert "'a b'" in argosy("tag", "kept", "a b=c", code=2).err
    assert argosy("unprotect", "kept").out == "kept can be deleted now.\n"
    argosy("delete", "kept")
    argosy("show", "kept", code=3)

    gone = argosy("list", "--deleted", "--json").json
    assert gone[0]["name"] == "kept"
    assert gone[0]["deleted"].endswith("Z")
    shown = argosy("show", "kept", "--deleted").out
    assert gone[0]["id"] in shown
    assert "DELETED" in shown
    assert argosy("show", "never", "--deleted", code=3).err


def test_history_is_followed_live_through_a_restart_of_the_server(
    server: Server, argosy: CommandLine
) -> None:
    with argosy.running("operations", "--follow", "--json", "-n", "1") as operations:
        with argosy.running("events", "--follow", "--kind", "instance.create.succeeded", "-n", "1") as events:
            argosy("create", "live", "--datastore", "valkey", "-q")
            wait_until("the create is told", lambda: "live  instance.create.succeeded" in events.out())
        server.kill("api")
        server.start()
        argosy("delete", "live", "-q")

        def deleted() -> bool:
            told = [json.loads(line) for line in operations.out().splitlines()]
            return any(
                (one["instance_name"], one["kind"]) == ("live", "instance.delete") for one in told
            ) and (told[-1]["state"] == "succeeded")

        wait_until("the deletion is told", deleted)
    told = [json.loads(line) for line in operations.out().splitlines()]
    mine = [(one["kind"], one["state"], one["step"]) for one in told if one["instance_name"] == "live"]
    # How early the create was seen first is up to the machine.
    assert list(dict.fromkeys(mine))[-6:] == [
        ("instance.create", "succeeded", 4),
        ("instance.delete", "queued", 0),
        *(("instance.delete", "running", step) for step in range(1, 4)),
        ("instance.delete", "succeeded", 3),
    ]
    assert (operations.code, events.code) == (130, 130)

    gone = argosy("operations", "live", "--state", "succeeded", "--since", "1h", "--json").json
    assert [each["kind"] for each in gone] == ["instance.delete", "instance.create"]
    assert "live" in argosy("events", "live", "--kind", "instance.delete.requested").out
    assert "neither a span" in argosy("events", "--since", "soon", code=2).err
    assert "queued, running" in argosy("operations", "--state", "done", code=2).err
    argosy("events", "never", code=3)
