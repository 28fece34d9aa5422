"""Users are let into databases one by one, and shown out at once."""

from __future__ import annotations

import pytest

from argosy.domain.databases import Database, NewUser, UserId
from argosy.domain.errors import AccessNotFound, DatabaseNotFound, UserNotFound
from argosy.engines.base import Access, Databases, Users
from tests.support.engines import Guest, Refused

ANNA, BERT = UserId("anna"), UserId("bert")


@pytest.fixture(autouse=True)
def _scene(access: Access, databases: Databases, users: Users) -> None:
    databases.create_databases([Database("shop"), Database("office")])
    users.create_users([NewUser(ANNA, "secret", ("shop",)), NewUser(BERT, "secret")])


def may_write(guest: Guest, user: UserId, database: str) -> bool:
    try:
        with guest.connect(user.name, "secret", database) as session:
            session.write(f"{user.name} was here", "yes")
            return True
    except Refused:
        return False


def test_a_user_gets_into_its_databases_and_no_other(guest: Guest) -> None:
    assert may_write(guest, ANNA, "shop")
    assert not may_write(guest, ANNA, "office")
    assert not may_write(guest, BERT, "shop")


def test_a_grant_adds_to_what_a_user_has(guest: Guest, access: Access, users: Users) -> None:
    access.grant_access(ANNA, ["office"])
    access.grant_access(ANNA, ["office", "shop"])
    assert users.get_user(ANNA).databases == ("office", "shop")
    assert may_write(guest, ANNA, "shop")
    assert may_write(guest, ANNA, "office")


def test_a_grant_with_an_unknown_database_gives_nothing(access: Access, users: Users) -> None:
    with pytest.raises(DatabaseNotFound, match="nowhere"):
        access.grant_access(BERT, ["office", "nowhere"])
    assert users.get_user(BERT).databases == ()


def test_users_of_one_database_work_with_each_others_data(guest: Guest, access: Access) -> None:
    with guest.connect("anna", "secret", "shop") as session:
        session.write("from anna", "1")
    access.grant_access(BERT, ["shop"])
    with guest.connect("bert", "secret", "shop") as session:
        session.write("from bert", "2")
        assert session.read() == {"from anna": "1", "from bert": "2"}


def test_what_a_deleted_user_made_stays_with_the_others(guest: Guest, access: Access, users: Users) -> None:
    access.grant_access(BERT, ["shop"])
    with guest.connect("anna", "secret", "shop") as session:
        session.write("from anna", "1")
    users.delete_user(ANNA)
    with guest.connect("bert", "secret", "shop") as session:
        session.write("from bert", "2")
        assert session.read() == {"from anna": "1", "from bert": "2"}


def test_a_revoked_user_is_out_at_once(guest: Guest, access: Access, users: Users) -> None:
    access.grant_access(ANNA, ["office"])
    with (
        guest.connect("anna", "secret", "shop") as in_shop,
        guest.connect("anna", "secret", "office") as in_office,
    ):
        in_shop.write("row", "1")
        in_office.write("row", "1")
        access.revoke_access(ANNA, "shop")
        with pytest.raises(Refused):
            in_shop.write("row", "2")
    assert not may_write(guest, ANNA, "shop")
    assert may_write(guest, ANNA, "office")
    assert users.get_user(ANNA).databases == ("office",)


def test_a_revoked_user_can_be_let_in_again(guest: Guest, access: Access) -> None:
    access.revoke_access(ANNA, "shop")
    access.grant_access(ANNA, ["shop"])
    assert may_write(guest, ANNA, "shop")


def test_access_that_was_not_given_cannot_be_taken(access: Access) -> None:
    for user, database in ((BERT, "shop"), (ANNA, "office"), (ANNA, "nowhere")):
        with pytest.raises(AccessNotFound):
            access.revoke_access(user, database)


def test_an_unknown_user_is_not_found(access: Access) -> None:
    with pytest.raises(UserNotFound):
        access.grant_access(UserId("nobody-of-that-name"), ["shop"])
    with pytest.raises(UserNotFound):
        access.revoke_access(UserId("nobody-of-that-name"), "shop")


def test_access_to_a_deleted_database_goes_with_it(guest: Guest, databases: Databases, users: Users) -> None:
    databases.delete_database("shop")
    assert users.get_user(ANNA).databases == ()
    databases.create_databases([Database("shop")])
    assert users.get_user(ANNA).databases == ()
    assert not may_write(guest, ANNA, "shop")
