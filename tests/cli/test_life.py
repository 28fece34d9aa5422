"""`argosy stop`, `start`, `protect`, `tag`, and lists of what was deleted."""

from __future__ import annotations

from tests.support.command_line import CommandLine


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
