"""`argosy backup`, `argosy restore` and `argosy create --from-backup`, on real databases."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from argosy.metadata.store import Store
from tests.support.command_line import CommandLine
from tests.support.server import Server


@pytest.fixture
def vault(argosy: CommandLine) -> Iterator[str]:
    """A Valkey instance with something in it."""
    argosy("create", "vault", "--datastore", "valkey", "--user", "app", "--tag", "team=web", "-q")
    argosy("connect", "vault", "-c", "SET colour green")
    yield "vault"
    argosy("delete", "vault", code=None)


def test_an_instance_is_backed_up_restored_in_place_and_into_another(argosy: CommandLine, vault: str) -> None:
    told = argosy("backup", "create", vault, "--name", "green", "--description", "as it was").out
    assert told.startswith("green has vault as of 20")
    assert told.endswith("kB in the store.\n")
    argosy("connect", vault, "-c", "SET colour red")
    later = argosy("backup", "create", vault, "-q").out.strip()

    listed = argosy("backup", "list", vault, "--json").json
    assert [(each["id"] == later, each["kind"], each["status"]) for each in listed] == [
        (True, "full", "COMPLETED"),
        (False, "full", "COMPLETED"),
    ]
    assert listed[0]["name"].startswith("vault-20")
    assert listed[0]["consistent_at"].endswith("Z")
    assert listed[0]["size_gb"] > 0
    table = argosy("backup", "list").out
    assert all(word in table for word in ("green", "vault", "valkey ", "COMPLETED", later))
    shown = argosy("backup", "show", "green").out
    assert "as it was" in shown
    assert "argosy create NEW_NAME --from-backup green" in shown

    # Its size, its tag, its user and the password kept of it come with the data.
    argosy("create", "copy", "--from-backup", "green", "-q")
    copy = argosy("show", "copy", "--json").json
    assert (copy["datastore"], copy["tags"]) == ("valkey", {"team": "web"})
    assert argosy("connect", "copy", "-c", "GET colour").out.strip() == "green"

    assert argosy("restore", vault, "--backup", "green").out == "vault is what it was at green.\n"
    assert argosy("connect", vault, "-c", "GET colour").out.strip() == "green"

    argosy("delete", vault, "copy")
    assert argosy("backup", "list", "--json").json[0]["instance_name"] == "vault"
    assert (
        argosy("backup", "delete", "green", later).out
        == f"green is deleted.\n{listed[0]['name']} is deleted.\n"
    )
    argosy("backup", "show", "green", code=3)
    assert "argosy backup create" in argosy("backup", "list").err


def test_a_backup_that_was_forgotten_is_registered_again(
    server: Server, argosy: CommandLine, vault: str
) -> None:
    made = argosy("backup", "create", vault, "--name", "green", "--json").json
    store = Store(server.settings.database_url)
    with store.write() as tx:
        tx.backups.forget(made["id"])
    store.close()
    argosy("backup", "show", "green", code=3)
    told = argosy("backup", "register", made["location"], "--name", "found").out
    assert told.startswith("found has vault as of 20")
    argosy("create", "found-again", "--from-backup", "found", "-q")
    assert argosy("show", "found-again", "--json").json["tags"] == {"team": "web"}
    argosy("delete", "found-again")
    # It is not known whose archive this is: it stays.
    for _ in range(2):
        argosy("backup", "delete", "found")
        argosy("backup", "register", made["location"], "--name", "found")
    assert argosy("backup", "show", "found", "--json").json["status"] == "RESTORED"
    assert (
        "known here already" in argosy("backup", "register", made["location"], "--name", "twice", code=4).err
    )
    argosy("backup", "delete", "found")


def test_increments_are_deleted_with_what_they_build_on(argosy: CommandLine, crm: str) -> None:
    full = argosy("backup", "create", crm, "--name", "full", "-q").out.strip()
    assert (
        argosy("backup", "create", crm, "--name", "more", "--incremental", "--json").json["parent_id"] == full
    )
    assert (
        argosy("backup", "create", crm, "--name", "other", "--parent", "full", "--json").json["kind"]
        == "incremental"
    )
    assert f"full ({full})" in argosy("backup", "show", "more").out
    assert argosy("backup", "list", "--datastore", "mariadb", "-q").out.count("\n") == 3
    assert "has 2 incremental backups" in argosy("backup", "delete", "full", code=4).err
    argosy("backup", "delete", "full", "--cascade")
    assert argosy("backup", "list", crm, "--json").json == []


def test_what_cannot_be_is_said(argosy: CommandLine, crm: str, cache: str) -> None:
    assert "name or id 'never'" in argosy("restore", crm, "--backup", "never", code=3).err
    assert "say what to restore" in argosy("restore", crm, code=2).err
    assert "no incremental backups" in argosy("backup", "create", cache, "--incremental", code=1).err
    argosy("backup", "create", crm, "--name", "twin", "-q")
    wrong = argosy("create", "x", "--from-backup", "twin", "--volume-autogrow", "5", code=2).err
    assert "--volume-autogrow needs --volume" in wrong
    assert "cannot be restored to valkey" in argosy("restore", cache, "--backup", "twin", code=2).err
    assert (
        "cannot be restored to valkey"
        in argosy("create", "x", "--from-backup", "twin", "--datastore", "valkey", code=2).err
    )
    argosy("backup", "create", crm, "--name", "twin", "-q")
    assert "2 backups are named 'twin'" in argosy("backup", "show", "twin", code=2).err
    for each in argosy("backup", "list", crm, "-q").out.split():
        argosy("backup", "delete", each)


def test_backups_are_kept_where_a_strategy_says(argosy: CommandLine, cache: str) -> None:
    assert "unless told otherwise" in argosy("backup", "strategy", "list").err
    argosy("backup", "strategy", "set", "--container", "ours")
    assert "kept in cache-only" in argosy("backup", "strategy", "set", cache, "--container", "cache-only").out
    listed = argosy("backup", "strategy", "list").out
    assert "(the project)" in listed
    assert "cache " in listed
    made = argosy("backup", "create", cache, "--json").json
    assert "/cache-only/" in made["location"]
    argosy("backup", "strategy", "delete", cache)
    argosy("backup", "strategy", "delete")
    assert argosy("backup", "strategy", "list", "--json").json == []
    assert "must not hold spaces" in argosy("backup", "strategy", "set", "--container", "a b", code=2).err
    argosy("backup", "delete", made["id"])
