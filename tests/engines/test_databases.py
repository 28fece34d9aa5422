"""Databases come and go."""

from __future__ import annotations

import pytest

from argosy.domain.databases import Database, NewUser, UserId
from argosy.domain.errors import DatabaseExists, DatabaseNotFound, Invalid
from argosy.engines.base import Databases, Users
from tests.support.engines import Guest, Refused


def names(databases: Databases) -> list[str]:
    return [database.name for database in databases.list_databases()]


def test_a_new_server_has_no_databases(databases: Databases) -> None:
    assert databases.list_databases() == []


def test_databases_are_listed_by_name(databases: Databases) -> None:
    databases.create_databases([Database("zoo"), Database("ant"), Database("Bee")])
    assert names(databases) == ["Bee", "ant", "zoo"]


def test_a_taken_name_is_refused_before_any_is_made(databases: Databases) -> None:
    databases.create_databases([Database("taken")])
    with pytest.raises(DatabaseExists, match="taken"):
        databases.create_databases([Database("fresh"), Database("taken")])
    assert names(databases) == ["taken"]


def test_a_deleted_database_is_gone_with_its_sessions(
    guest: Guest, databases: Databases, users: Users
) -> None:
    databases.create_databases([Database("shop"), Database("kept")])
    users.create_users([NewUser(UserId("anna"), "secret of anna", ("shop",))])
    with guest.connect("anna", "secret of anna", "shop") as session:
        session.write("row", "1")
        databases.delete_database("shop")
        with pytest.raises(Refused):
            session.write("row", "2")
    assert names(databases) == ["kept"]


def test_a_database_of_the_same_name_starts_empty(guest: Guest, databases: Databases, users: Users) -> None:
    databases.create_databases([Database("shop")])
    users.create_users([NewUser(UserId("anna"), "secret of anna", ("shop",))])
    with guest.connect("anna", "secret of anna", "shop") as session:
        session.write("row", "1")
    databases.delete_database("shop")
    databases.create_databases([Database("shop")])
    users.create_users([NewUser(UserId("bert"), "secret of bert", ("shop",))])
    with guest.connect("bert", "secret of bert", "shop") as session:
        session.write("other", "2")
        assert session.read() == {"other": "2"}


def test_a_database_that_is_not_there_is_not_found(databases: Databases) -> None:
    with pytest.raises(DatabaseNotFound, match="nowhere"):
        databases.delete_database("nowhere")


def test_the_servers_own_databases_are_not_users_to_touch(guest: Guest, databases: Databases) -> None:
    rule = guest.datastore.database_names
    assert rule is not None
    for name in rule.reserved:
        with pytest.raises(DatabaseNotFound):
            databases.delete_database(name)


def test_an_unknown_character_set_or_collation_is_refused(databases: Databases) -> None:
    with pytest.raises(Invalid, match="klingon"):
        databases.create_databases([Database("shop", character_set="klingon")])
    with pytest.raises(Invalid, match="klingon"):
        databases.create_databases([Database("shop", collate="klingon_ci")])
    assert databases.list_databases() == []


def test_hostile_names_are_names_like_any_other(guest: Guest, databases: Databases, users: Users) -> None:
    hostile = sorted(guest.adapter.hostile_names)
    databases.create_databases([Database(name) for name in hostile])
    assert names(databases) == hostile
    users.create_users([NewUser(UserId(name), f"the secret of {name}", (name,)) for name in hostile])
    assert [(user.id.name, user.databases) for user in users.list_users()] == sorted(
        ((name, (name,)) for name in hostile), key=lambda pair: f"{pair[0]}@%"
    )
    for name in hostile:
        with guest.connect(name, f"the secret of {name}", name) as session:
            session.write("whose", name)
            assert session.read() == {"whose": name}
    for name in hostile:
        users.delete_user(UserId(name))
        databases.delete_database(name)
    assert names(databases) == []
    assert users.list_users() == []
