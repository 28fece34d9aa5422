"""Data moves to another version with everything in it, or stays where it was; on the real servers of both."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import cast

import pytest

from argosy.catalog import datastores
from argosy.domain.databases import Database, NewUser, UserId
from argosy.engines import upgrades
from argosy.engines.base import Databases, RootAccess, Users
from argosy.engines.upgrades import MayUpgrade, Software
from tests.support.certificates import TestAuthority
from tests.support.engines import Guest
from tests.support.images import image

ANN, SECRET, ROOT_SECRET = "ann", "Ann-secret-77", "a root's password"
PAIRS = [
    ("postgresql/15", "postgresql/17"),
    ("postgresql/15", "postgresql/18"),
    ("postgresql/17", "postgresql/18"),
    ("mariadb/10.11", "mariadb/11.8"),
    ("redis/7", "valkey/8"),
    ("redis/7", "valkey/9"),
    ("valkey/8", "valkey/9"),
]
ONE_EACH = [("postgresql/15", "postgresql/18"), ("mariadb/10.11", "mariadb/11.8"), ("redis/7", "valkey/9")]


def software(version: str) -> Software:
    datastore, _, name = version.partition("/")
    bundle, template = image(datastore, name)
    return Software(name, bundle, template)


class Moved:
    """An instance with data, users and root, and what its agent does in an upgrade."""

    def __init__(self, guest: Guest, to: Software) -> None:
        self.guest, self.to = guest, to
        engine = guest.engine
        engine.initialise()
        engine.start()
        upgrades.served(engine.host)
        self.database = None
        if isinstance(engine, Databases):
            engine.create_databases([Database("shop"), Database("other")])
            self.database = "shop"
        assert isinstance(engine, Users)
        assert isinstance(engine, RootAccess)
        access = (self.database,) if self.database else ()
        engine.create_users([NewUser(UserId(ANN), SECRET, access)])
        engine.enable_root(ROOT_SECRET)
        with guest.connect(ANN, SECRET, self.database) as session:
            for number in range(50):
                session.write(f"kept-{number}", "all along")

    @property
    def engine(self) -> MayUpgrade:
        return cast("MayUpgrade", self.guest.engine)

    def prepare(self) -> None:
        upgrades.check(self.engine, self.to)
        upgrades.remember(self.engine)
        self.engine.prepare_to_stop()
        self.engine.stop()
        upgrades.prepare(self.engine, self.to, lambda _: None)

    def become(self, software: Software) -> None:
        """Another agent is booted, which is told of this software."""
        self.guest.host = replace(
            self.guest.host, version=software.version, bundle=software.bundle, template=software.template
        )
        self.guest.new_agent()
        upgrades.settle(self.guest.host)

    def start(self) -> None:
        upgrades.check_data(self.guest.host)
        self.engine.start()
        upgrades.served(self.guest.host)

    def assert_everything_is_there(self) -> None:
        with self.guest.connect(ANN, SECRET, self.database) as session:
            assert len(session.read()) == 50
            session.write("later", "too")
        engine = self.guest.engine
        assert isinstance(engine, RootAccess)
        self.guest.connect(engine.root_name, ROOT_SECRET, self.database).close()
        assert isinstance(engine, Users)
        access = (self.database,) if self.database else ()
        assert [(user.id.name, user.databases) for user in engine.list_users()] == [(ANN, access)]
        if isinstance(engine, Databases):
            assert [one.name for one in engine.list_databases()] == ["other", "shop"]

    def assert_nothing_is_left(self) -> None:
        host = self.guest.host
        assert sorted(path.name for path in host.data.parent.iterdir() if "upgrade" in path.name) == []
        assert not upgrades.previous(host).exists()
        for place in (host.etc / "upgrade.json", host.etc / "upgrade", host.run / "u"):
            assert not place.exists() or not any(place.rglob("*.sock"))


@pytest.fixture
def moved(request: pytest.FixtureRequest, authority: TestAuthority) -> Iterator[Moved]:
    before, after = request.param
    datastore, _, name = before.partition("/")
    found = datastores()[datastore]
    with Guest(found, found.version(name), authority) as guest:
        yield Moved(guest, software(after))


def pairs(chosen: list[tuple[str, str]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("moved", chosen, ids=["-to-".join(pair) for pair in chosen], indirect=True)


@pairs(PAIRS)
def test_data_users_and_root_move_to_the_newer_version(moved: Moved) -> None:
    before = moved.guest.host.bundle
    moved.prepare()
    moved.become(moved.to)
    moved.start()
    moved.engine.after_upgrade()
    assert moved.guest.host.bundle != before
    assert moved.engine.server_version().startswith(moved.to.version)
    moved.assert_everything_is_there()
    moved.assert_nothing_is_left()


@pairs(ONE_EACH)
def test_a_rehearsal_leaves_the_server_serving_and_nothing_behind(moved: Moved) -> None:
    pid = moved.engine.server.pid
    upgrades.check(moved.engine, moved.to, rehearsal=True)
    told = upgrades.rehearse(moved.engine, moved.to, lambda _: None)
    assert "worked on a copy" in told
    assert moved.engine.server.pid == pid
    moved.assert_everything_is_there()
    moved.assert_nothing_is_left()
