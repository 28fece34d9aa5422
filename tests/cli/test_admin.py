"""`argosy admin`: who may use this Argosy."""

from __future__ import annotations

from tests.support.command_line import CommandLine


def test_an_administrator_makes_a_project_and_who_may_use_it(argosy: CommandLine) -> None:
    argosy("admin", "projects", "create", "red", "--description", "The red ones")
    made = argosy("admin", "users", "create", "rita", "--project", "red", "--role", "reader", "--json").json
    own = {
        "OS_AUTH_URL": auth_url(argosy),
        "OS_USERNAME": "rita",
        "OS_PASSWORD": made["password"],
        "OS_PROJECT_NAME": "red",
    }
    assert argosy("list", "--json", environment=own).json == []
    argosy("create", "x", "--datastore", "valkey", "--no-wait", environment=own, code=5)
    argosy("admin", "projects", "create", "blue", environment=own, code=5)

    argosy("admin", "roles", "grant", "rita", "--project", "red", "--role", "member")
    assert {"user": "rita", "project": "red", "role": "member"} in argosy(
        "admin", "roles", "assignments", "--json"
    ).json
    argosy("admin", "roles", "revoke", "rita", "--project", "red", "--role", "member")
    assert "rita red member" not in argosy("admin", "roles", "assignments", "-q").out

    argosy("admin", "users", "set-password", "rita", "--password-file", "-", stdin="a-new-password\n")
    argosy("list", environment=own, code=5)
    argosy("list", environment={**own, "OS_PASSWORD": "a-new-password"})
    argosy("admin", "users", "delete", "rita")
    argosy("admin", "projects", "delete", "red")
    assert "red" not in argosy("admin", "projects", "list", "-q").out.split()
    argosy("admin", "users", "delete", "rita", code=3)


def test_roles_are_made_and_deleted(argosy: CommandLine) -> None:
    argosy("admin", "roles", "create", "auditor")
    argosy("admin", "roles", "create", "auditor", code=4)
    assert "auditor" in argosy("admin", "roles", "list").out
    argosy("admin", "roles", "delete", "auditor")
    assert {"admin", "member", "reader"} <= set(argosy("admin", "roles", "list", "-q").out.split())


def test_an_administrator_looks_after_instances_of_all_projects(argosy: CommandLine, cache: str) -> None:
    (mine,) = [one for one in argosy("admin", "instances", "--json").json if one["name"] == cache]
    assert mine["id"] in argosy("admin", "instances", "--project", "demo", "-q").out.split()
    assert argosy("admin", "instances", "--project", "admin", "--json").json == []
    assert "demo" in argosy("admin", "show", cache).out
    assert f"The agent of {cache} answers." in argosy("admin", "ping", cache).out
    assert "512 MB and 1 CPU" in argosy("admin", "hwinfo", cache).out
    figures = argosy("admin", "diagnostics", cache, "--json").json
    assert figures["server"]["memory_kb"] > 0
    assert "database server" in argosy("admin", "diagnostics", cache).out
    assert "Root was" in argosy("admin", "root-history", cache).out
    assert f"{cache} is stopped." in argosy("admin", "stop", cache).out
    assert argosy("admin", "diagnostics", cache, "--json").json["server"] is None
    refused = argosy("admin", "stop", cache, code=4)
    assert "is stopped" in refused.err
    assert f"{cache} was rebooted." in argosy("admin", "reboot", cache).out
    assert "has a new agent" in argosy("admin", "renew-agent", cache).out
    assert "Nothing holds" in argosy("admin", "reset", mine["id"]).out
    argosy("admin", "ping", "no-such-instance", code=3)


def test_an_administrator_gives_projects_quotas(argosy: CommandLine) -> None:
    argosy("admin", "projects", "create", "small")
    told = argosy("quota", "set", "small", "--instances", "2", "--ram", "-1", "--volumes", "9").out
    assert told.strip() == "small may have 2 instances, any ram, 9 GB volumes."
    limits = {one["resource"]: one["limit"] for one in argosy("quota", "show", "small", "--json").json}
    assert limits == {"instances": 2, "ram": -1, "volumes": 9, "backups": 50}
    assert "instances" in argosy("quota", "show").out
    assert "as often as it likes" in argosy("quota", "rates").err
    argosy("quota", "set", "small", code=2)
    argosy("quota", "set", "demo", "--instances", "1", "--os-cloud", "argosy", code=5)
    argosy("quota", "show", "nowhere", code=3)
    argosy("admin", "projects", "delete", "small")


def test_an_administrator_makes_and_switches_versions(argosy: CommandLine) -> None:
    made = argosy(
        "admin", "versions", "create", "redis", "7-new", "--suite", "bookworm", "--inactive", "--json"
    ).json
    assert (made["active"], made["tags"]) == (False, ["bookworm"])
    assert "7-new" not in argosy("datastores").out
    argosy("admin", "versions", "set", "redis", "7-new", "--active")
    assert "7-new" in argosy("datastores").out
    assert "7-new" in argosy("admin", "versions", "list").out
    refused = argosy("admin", "versions", "create", "redis", "8", "--suite", "trixie", code=2)
    assert "bookworm for one like 7" in refused.err
    argosy("admin", "versions", "delete", "redis", "7-new")
    argosy("admin", "versions", "delete", "redis", "7-new", code=3)


def test_who_is_no_administrator_is_told_how_to_be_one(argosy: CommandLine) -> None:
    refused = argosy("admin", "projects", "create", "blue", "--os-cloud", "argosy", code=5)
    assert "--os-cloud argosy-admin" in refused.err


def auth_url(argosy: CommandLine) -> str:
    return str(argosy("status", "--json").json["endpoint"]) + "/identity/v3"


def test_an_administrator_rotates_the_ring_of_backups_keys(argosy: CommandLine) -> None:
    (first,) = argosy("admin", "backup-keys", "list", "--json").json
    assert first["active"]
    told = argosy("admin", "backup-keys", "rotate").out
    (older, newer) = argosy("admin", "backup-keys", "list", "--json").json
    assert (older["id"], older["active"], newer["active"]) == (first["id"], False, True)
    assert f"{newer['id']} wraps now" in told
    argosy("admin", "backup-keys", "delete", newer["id"], code=4)
    assert "is deleted" in argosy("admin", "backup-keys", "delete", older["id"]).out
    assert argosy("admin", "backup-keys", "list", "-q").out.split() == [newer["id"]]
    argosy("admin", "backup-keys", "list", "--os-cloud", "argosy", code=5)
