"""`argosy databases`, `users` and `root`: what is inside an instance."""

from __future__ import annotations

import json

from tests.support.command_line import CommandLine


def test_databases_come_and_go(argosy: CommandLine, shop: str) -> None:
    name = 'odd "name" ü'
    argosy("databases", "create", shop, name)
    argosy("databases", "create", shop, name, code=2)
    assert {"name": name} in argosy("databases", "list", shop, "--json").json
    assert argosy("databases", "list", shop, "-q").out.splitlines().count(name) == 1
    argosy("databases", "delete", shop, name)
    argosy("databases", "delete", shop, name, code=3)
    assert "shop" in argosy("databases", "list", shop).out


def test_a_user_is_made_with_a_password_that_works(argosy: CommandLine, shop: str) -> None:
    made = argosy("users", "create", shop, "bob", "--database", "shop", "--json").json
    assert argosy("connect", shop, "-u", "bob", "-c", "select current_user").out.split()[2] == "bob"
    argosy("users", "password", shop, "bob", "--password-file", "-", stdin="another-password\n")
    old, new = {"ARGOSY_PASSWORD": made["password"]}, {"ARGOSY_PASSWORD": "another-password"}
    argosy("connect", shop, "-u", "bob", "-c", "select 1", environment=old, code=1)
    argosy("connect", shop, "-u", "bob", "-c", "select 1", environment=new)
    generated = argosy("users", "password", shop, "bob", "-q").out.strip()
    assert json.loads((argosy.home / "credentials.json").read_text()) != {}
    assert len(generated) == 24
    argosy("connect", shop, "-u", "bob", "-c", "select 1")
    argosy("users", "rename", shop, "bob", "robert")
    argosy("users", "show", shop, "bob", code=3)
    argosy("connect", shop, "-u", "robert", "-c", "select 1")
    argosy("users", "delete", shop, "robert")
    assert generated not in (argosy.home / "credentials.json").read_text()


def test_access_is_granted_shown_and_revoked(argosy: CommandLine, shop: str) -> None:
    argosy("databases", "create", shop, "orders")
    argosy("users", "create", shop, "carl")
    assert argosy("users", "grant", shop, "carl", "orders", "shop").out == "carl may use orders, shop.\n"
    assert argosy("users", "access", shop, "carl", "-q").out.split() == ["orders", "shop"]
    assert argosy("users", "show", shop, "carl", "--json").json["databases"] == ["orders", "shop"]
    assert argosy("users", "revoke", shop, "carl", "shop").out == "carl may use orders.\n"
    argosy("users", "revoke", shop, "carl", "shop", code=3)
    argosy("users", "delete", shop, "carl")
    argosy("databases", "delete", shop, "orders")


def test_mariadb_tells_users_apart_by_their_host(argosy: CommandLine, crm: str) -> None:
    argosy("users", "create", crm, "dora", "--host", "127.77.%.%", "--database", "crm")
    listed = {(each["name"], each["host"]) for each in argosy("users", "list", crm, "--json").json}
    assert ("dora", "127.77.%.%") in listed
    assert "dora@127.77.%.%" in argosy("users", "list", crm, "-q").out
    argosy("users", "show", crm, "dora", code=3)
    argosy("users", "rename", crm, "dora", "dora", "--host", "127.77.%.%", "--new-host", "%")
    argosy("users", "show", crm, "dora")
    argosy("users", "delete", crm, "dora")


def test_root_is_opened_used_and_closed(argosy: CommandLine, shop: str, cache: str) -> None:
    for name, login, query in ((shop, "root", "select 1"), (cache, "default", "ACL WHOAMI")):
        assert argosy("root", "show", name, "-q").out.strip() == "disabled"
        opened = argosy("root", "enable", name, "--json").json
        assert (opened["enabled"], opened["name"]) == (True, login)
        assert argosy("root", "show", name, "--json").json == {"enabled": True}
        argosy("connect", name, "-u", login, "-c", query)
        argosy("root", "disable", name)
        argosy("connect", name, "-u", login, "-c", query, code=1, environment={"ARGOSY_PASSWORD": "gone"})
        assert opened["password"] not in (argosy.home / "credentials.json").read_text()


def test_what_a_datastore_cannot_do_is_said(argosy: CommandLine, cache: str) -> None:
    refused = argosy("databases", "create", cache, "x", code=None)
    assert refused.code != 0
    assert "argosy: " in refused.err


def test_a_password_file_must_have_one_line_a_user(argosy: CommandLine, shop: str) -> None:
    refused = argosy("users", "create", shop, "x", "--password-file", "-", stdin="one\ntwo\n", code=2)
    assert "2 passwords" in refused.err
    argosy("users", "create", shop, "x", "--ask-password", code=2)
    answers = [("Password of x: ", "a-secret-9\n"), ("Repeat for confirmation: ", "a-secret-9\n")]
    asked = argosy.at_terminal("users", "create", shop, "x", "--ask-password", answers=answers)
    assert asked.code == 0
    assert "a-secret-9" not in asked.out
    argosy("users", "delete", shop, "x")
