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


def test_who_is_no_administrator_is_told_how_to_be_one(argosy: CommandLine) -> None:
    refused = argosy("admin", "projects", "create", "blue", "--os-cloud", "argosy", code=5)
    assert "--os-cloud argosy-admin" in refused.err


def auth_url(argosy: CommandLine) -> str:
    return str(argosy("status", "--json").json["endpoint"]) + "/identity/v3"
