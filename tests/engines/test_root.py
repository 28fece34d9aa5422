"""Root is handed out, taken back, and never shuts the agent out for good."""

from __future__ import annotations

import pytest

from argosy.domain.databases import Database, NewUser, UserId
from argosy.engines.base import Databases, Health, RootAccess, Users
from tests.support.engines import Guest, Refused


def may_enter(guest: Guest, root: RootAccess, password: str) -> bool:
    try:
        with guest.connect(root.root_name, password):
            return True
    except Refused:
        return False


def test_nobody_is_root_before_it_is_enabled(guest: Guest, root: RootAccess) -> None:
    assert not may_enter(guest, root, "")
    assert not may_enter(guest, root, root.root_name)


def test_root_enters_with_its_password(guest: Guest, root: RootAccess) -> None:
    root.enable_root("first")
    assert may_enter(guest, root, "first")
    assert not may_enter(guest, root, "second")


def test_enabling_again_sets_the_new_password(guest: Guest, root: RootAccess) -> None:
    root.enable_root("first")
    root.enable_root("second")
    assert may_enter(guest, root, "second")
    assert not may_enter(guest, root, "first")


def test_root_is_not_listed(root: RootAccess, users: Users) -> None:
    root.enable_root("secret")
    assert users.list_users() == []


def test_disabled_root_is_out_at_once_and_may_come_back(guest: Guest, root: RootAccess) -> None:
    root.disable_root()
    root.enable_root("first")
    with guest.connect(root.root_name, "first") as session:
        root.disable_root()
        with pytest.raises(Refused):
            session.read()
    assert not may_enter(guest, root, "first")
    root.disable_root()
    root.enable_root("second")
    assert may_enter(guest, root, "second")
    assert not may_enter(guest, root, "first")


def test_root_survives_a_restart(guest: Guest, root: RootAccess) -> None:
    root.enable_root("secret")
    guest.engine.stop()
    guest.engine.start()
    assert may_enter(guest, root, "secret")


def test_the_agent_manages_the_server_again_after_root_shut_it_out(guest: Guest, hostile_act: str) -> None:
    engine = guest.engine
    assert isinstance(engine, RootAccess)
    assert isinstance(engine, Users)
    engine.create_users([NewUser(UserId("anna"), "of anna")])
    engine.enable_root("secret of root")
    guest.adapter.hostile_root[hostile_act](guest.host, "secret of root")
    engine.stop()
    guest.new_agent().start()
    engine = guest.engine
    assert isinstance(engine, RootAccess)
    assert isinstance(engine, Users)
    assert engine.health() is Health.UP
    engine.disable_root()
    assert not may_enter(guest, engine, "secret of root")
    assert "anna" in [user.id.name for user in engine.list_users()]
    engine.create_users([NewUser(UserId("bert"), "of bert")])
    with guest.connect("bert", "of bert") as session:
        assert session.encrypted is (guest.host.tls is not None)
    if isinstance(engine, Databases):
        engine.create_databases([Database("shop")])
        assert "shop" in [database.name for database in engine.list_databases()]
