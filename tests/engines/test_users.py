"""Users come, change and go."""

from __future__ import annotations

import pytest

from argosy.domain.databases import Database, NewUser, User, UserChange, UserId
from argosy.domain.errors import DatabaseNotFound, Invalid, UserExists, UserNotFound
from argosy.engines.base import Access, Databases, Users
from tests.support.engines import Guest, Refused

ANNA = UserId("anna")
SECRETS = (
    "a plain one",
    "quotes ' \" and back\\slash",
    "unicode пароль 🐘",
    "percent %s {0} $1 ; --",
    "x" * 200,
)


def names(users: Users) -> list[str]:
    return [user.id.name for user in users.list_users()]


def may_enter(guest: Guest, user: str, password: str) -> bool:
    try:
        with guest.connect(user, password):
            return True
    except Refused:
        return False


def test_a_new_server_has_no_users(users: Users) -> None:
    assert users.list_users() == []


def test_users_are_listed_by_name(users: Users) -> None:
    users.create_users([NewUser(UserId(name), "secret") for name in ("zoe", "anna", "Bert")])
    assert names(users) == ["Bert", "anna", "zoe"]


@pytest.mark.parametrize("secret", SECRETS, ids=range(len(SECRETS)))
def test_a_user_enters_with_the_password_and_no_other(guest: Guest, users: Users, secret: str) -> None:
    users.create_users([NewUser(ANNA, secret)])
    assert may_enter(guest, "anna", secret)
    assert not may_enter(guest, "anna", secret + "x")
    assert not may_enter(guest, "anna", "")
    assert not may_enter(guest, "nobody-of-that-name", secret)


def test_a_taken_name_is_refused_before_any_is_made(guest: Guest, users: Users) -> None:
    users.create_users([NewUser(ANNA, "first")])
    with pytest.raises(UserExists, match="anna"):
        users.create_users([NewUser(UserId("bert"), "secret"), NewUser(ANNA, "second")])
    assert names(users) == ["anna"]
    assert may_enter(guest, "anna", "first")


def test_access_to_a_database_that_is_not_there_is_refused_before_any_is_made(
    databases: Databases, users: Users
) -> None:
    databases.create_databases([Database("shop")])
    with pytest.raises(DatabaseNotFound, match="nowhere"):
        users.create_users([NewUser(UserId("bert"), "s", ("shop",)), NewUser(ANNA, "s", ("nowhere",))])
    assert users.list_users() == []


def test_a_user_is_shown_with_its_databases(databases: Databases, users: Users) -> None:
    databases.create_databases([Database("two"), Database("one"), Database("not")])
    users.create_users([NewUser(ANNA, "secret", ("two", "one"))])
    assert users.get_user(ANNA) == User(ANNA, ("one", "two"))
    assert users.list_users() == [User(ANNA, ("one", "two"))]


def test_a_new_password_replaces_the_old(guest: Guest, users: Users) -> None:
    users.create_users([NewUser(ANNA, "old")])
    users.update_user(ANNA, UserChange(password="new"))
    assert may_enter(guest, "anna", "new")
    assert not may_enter(guest, "anna", "old")


def test_a_renamed_user_keeps_its_password(guest: Guest, users: Users) -> None:
    users.create_users([NewUser(ANNA, "secret")])
    users.update_user(ANNA, UserChange(name="bert"))
    assert names(users) == ["bert"]
    assert may_enter(guest, "bert", "secret")
    assert not may_enter(guest, "anna", "secret")


def test_a_renamed_user_keeps_its_databases(access: Access, databases: Databases, users: Users) -> None:
    databases.create_databases([Database("shop")])
    users.create_users([NewUser(ANNA, "secret", ("shop",))])
    users.update_user(ANNA, UserChange(name="bert", password="new"))
    assert users.list_users() == [User(UserId("bert"), ("shop",))]


def test_a_change_is_all_or_nothing(guest: Guest, users: Users) -> None:
    users.create_users([NewUser(ANNA, "of anna"), NewUser(UserId("bert"), "of bert")])
    with pytest.raises(UserExists, match="bert"):
        users.update_user(ANNA, UserChange(name="bert", password="new"))
    assert names(users) == ["anna", "bert"]
    assert may_enter(guest, "anna", "of anna")
    assert may_enter(guest, "bert", "of bert")


def test_a_deleted_user_is_gone_with_its_sessions(guest: Guest, users: Users) -> None:
    users.create_users([NewUser(ANNA, "secret"), NewUser(UserId("bert"), "secret")])
    with guest.connect("anna", "secret") as session:
        users.delete_user(ANNA)
        with pytest.raises(Refused):
            session.read()
    assert names(users) == ["bert"]
    assert not may_enter(guest, "anna", "secret")


def test_a_user_that_is_not_there_is_not_found(users: Users) -> None:
    with pytest.raises(UserNotFound):
        users.get_user(ANNA)
    with pytest.raises(UserNotFound):
        users.delete_user(ANNA)
    with pytest.raises(UserNotFound):
        users.update_user(ANNA, UserChange(password="x"))


def test_the_administrators_are_not_users(guest: Guest, users: Users) -> None:
    rule = guest.datastore.user_names
    assert rule is not None
    for name in rule.reserved:
        with pytest.raises(UserNotFound):
            users.get_user(UserId(name))
        with pytest.raises(UserNotFound):
            users.update_user(UserId(name), UserChange(password="mine now"))
        with pytest.raises(UserNotFound):
            users.delete_user(UserId(name))
        assert not may_enter(guest, name, "mine now")


def test_hosts_are_refused_where_there_are_none(guest: Guest, users: Users) -> None:
    if guest.datastore.user_hosts:
        pytest.skip(f"{guest.datastore.title} knows its users' hosts")
    with pytest.raises(Invalid, match="host"):
        users.create_users([NewUser(UserId("anna", "10.0.0.1"), "secret")])
    users.create_users([NewUser(ANNA, "secret")])
    with pytest.raises(Invalid, match="host"):
        users.update_user(ANNA, UserChange(host="10.0.0.1"))
    with pytest.raises(UserNotFound):
        users.get_user(UserId("anna", "10.0.0.1"))


def test_hostile_names_are_names_like_any_other(guest: Guest, users: Users) -> None:
    hostile = sorted(guest.adapter.hostile_names, key=lambda name: f"{name}@%")
    users.create_users([NewUser(UserId(name), f"the secret of {name}") for name in hostile])
    assert names(users) == hostile
    for name in hostile:
        assert users.get_user(UserId(name)).id == UserId(name)
        assert may_enter(guest, name, f"the secret of {name}")
        users.update_user(UserId(name), UserChange(password="another"))
        assert may_enter(guest, name, "another")
    for name in hostile:
        users.delete_user(UserId(name))
    assert users.list_users() == []
