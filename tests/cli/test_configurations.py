"""`argosy configuration`: from its making to its rollback, on an instance that follows it."""

from __future__ import annotations

from tests.support.command_line import CommandLine


def test_a_group_is_made_attached_changed_and_rolled_back(argosy: CommandLine, cache: str) -> None:
    of_valkey = ("--datastore", "valkey")
    for number, wrong in enumerate((["nothing=1"], ["port=1"], ["timeout=many"], ["timeout"])):
        assert argosy("configuration", "create", f"bad{number}", *wrong, *of_valkey, code=None).code != 0
    told = argosy(
        "configuration", "create", "slow", "databases=8", "timeout=100", *of_valkey, "--dry-run"
    ).out
    assert "needs a restart" in told
    assert argosy("configuration", "list").out == ""
    made = argosy(
        "configuration", "create", "slow", "timeout=100", *of_valkey, "--note", "first", "--json"
    ).json
    assert (made["values"], made["revision"]) == ({"timeout": 100}, 1)
    assert argosy("configuration", "list", "-q").out.split() == [made["id"]]
    argosy("configuration", "create", "slow", "timeout=100", *of_valkey)
    assert made["id"] in argosy("configuration", "show", "slow", code=2).err, "two have the name"
    group = made["id"]
    for other in argosy("configuration", "list", "-q").out.split():
        if other != group:
            argosy("configuration", "delete", other)

    tried = argosy("configuration", "attach", "slow", cache, "--dry-run").out
    assert "at once" in tried
    assert "applied" in argosy("configuration", "attach", "slow", cache).out
    assert "slow, applied" in argosy("show", cache).out
    assert "detach" in argosy("configuration", "attach", "slow", cache, code=2).err
    assert "in use" in argosy("configuration", "delete", "slow", code=2).err

    shown = argosy("configuration", "set", "slow", "timeout=200", "--note", "calmer", "--json").json
    assert (shown["revision"], shown["followers"][0]["state"]) == (2, "applied")
    refused = argosy("configuration", "set", "slow", "notify-keyspace-events=QQ", code=1).out
    assert "refused" in refused
    assert "refused" in argosy("configuration", "instances", "slow").out
    diff = argosy("configuration", "diff", "slow", "1", "2").out
    assert ("timeout" in diff, "100" in diff, "200" in diff) == (True, True, True)
    assert "timeout" in argosy("configuration", "rollback", "slow", "1", "--dry-run").out
    assert "applied" in argosy("configuration", "rollback", "slow", "1").out
    history = argosy("configuration", "history", "slow").out
    assert ("calmer" in history, "back to revision 1" in history) == (True, True)
    assert argosy("configuration", "history", "slow", "-q").out.split() == ["4", "3", "2", "1"]
    assert argosy("configuration", "unset", "slow", "timeout", "--json").json["values"] == {}
    assert "does not set" in argosy("configuration", "unset", "slow", "timeout", code=2).err
    assert "NAME=VALUE" in argosy("configuration", "set", "slow", "timeout", code=2).err

    assert "follows no configuration group" in argosy("configuration", "detach", cache).out
    argosy("configuration", "delete", "slow")
    argosy("configuration", "show", "slow", code=3)
