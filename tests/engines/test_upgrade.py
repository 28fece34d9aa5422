"""Data moves to another version with everything in it, or stays where it was; on the real servers of both."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from argosy.catalog import datastores
from argosy.domain.databases import Database, NewUser, UserId
from argosy.domain.errors import EngineError, Invalid
from argosy.engines import upgrades
from argosy.engines.base import Databases, RootAccess, Users
from argosy.engines.staging import Software
from argosy.engines.upgrades import MayUpgrade
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


@pairs([("valkey/8", "valkey/9"), ("postgresql/17", "postgresql/18")])
def test_an_agent_that_dies_before_the_other_version_is_told_to_run_goes_on_with_the_old(
    moved: Moved,
) -> None:
    old = software_of(moved)
    moved.prepare()
    moved.become(old)
    moved.start()
    moved.assert_everything_is_there()
    moved.assert_nothing_is_left()
    # Its data may have changed since: what was made ready is of no use any more.
    moved.engine.stop()
    moved.become(moved.to)
    with pytest.raises(EngineError, match="left alone"):
        moved.start()
    upgrades.abandon(moved.guest.host)
    moved.become(old)
    moved.start()
    assert moved.engine.server_version().startswith(old.version)


@pairs([("valkey/8", "valkey/9"), ("mariadb/10.11", "mariadb/11.8")])
def test_a_version_that_is_given_up_leaves_the_data_as_it_was(moved: Moved) -> None:
    old = software_of(moved)
    moved.prepare()
    for _ in range(2):  # whoever dies in the middle of a change of place begins it again
        moved.become(moved.to)
    upgrades.abandon(moved.guest.host)
    moved.become(moved.to)
    with pytest.raises(EngineError, match="left alone"):
        moved.start()
    for _ in range(2):
        moved.become(old)
    moved.start()
    assert moved.engine.server_version().startswith(old.version)
    moved.assert_everything_is_there()
    moved.assert_nothing_is_left()


@pairs([("valkey/8", "valkey/9")])
def test_there_is_no_way_back_once_the_newer_version_has_served(moved: Moved) -> None:
    moved.prepare()
    moved.become(moved.to)
    moved.start()
    with pytest.raises(Invalid, match="has served"):
        upgrades.abandon(moved.guest.host)


@pairs([("valkey/8", "valkey/9")])
@pytest.mark.parametrize("killed_at", ["between the renames", "after the way back began"])
def test_a_change_of_place_cut_off_in_its_middle_is_finished(moved: Moved, killed_at: str) -> None:
    old = software_of(moved)
    moved.prepare()
    host = moved.guest.host
    host.data.rename(upgrades.previous(host))
    if killed_at == "between the renames":
        moved.become(moved.to)
    else:
        moved.become(old)
    moved.start()
    moved.assert_everything_is_there()
    moved.assert_nothing_is_left()


@pairs([("mariadb/10.11", "mariadb/11.8")])
def test_a_broken_program_of_the_newer_version_harms_nothing(moved: Moved) -> None:
    old = software_of(moved)
    moved.to = broken(moved.to, Path("usr/bin/mariadb-upgrade"), moved.guest.home)
    with pytest.raises(EngineError, match="mariadb-upgrade"):
        moved.prepare()
    moved.become(old)
    moved.start()
    moved.assert_everything_is_there()
    moved.assert_nothing_is_left()


@pairs([("postgresql/15", "postgresql/17")])
def test_what_a_newer_version_refuses_is_found_before_the_server_stops(moved: Moved) -> None:
    with moved.engine.sessions.open("shop") as session:  # type: ignore[attr-defined]
        session.execute("CREATE TABLE public.registered (what regproc)")
    with pytest.raises(Invalid, match=r"public\.registered\.what"):
        upgrades.check(moved.engine, moved.to)
    assert moved.engine.server.pid is not None


@pairs([("postgresql/18", "postgresql/18")])
def test_an_older_release_is_refused_and_another_of_the_same_needs_no_conversion(moved: Moved) -> None:
    """Two releases of one version cannot be had side by side from Debian: a copy at another path stands for one."""
    same = replace(moved.to, bundle=linked(moved.to.bundle, moved.guest.home / "other"))
    assert not upgrades.needs_conversion(moved.guest.host, same)
    upgrades.check(moved.engine, same)
    moved.engine.stop()
    moved.become(same)
    moved.start()
    moved.assert_everything_is_there()
    older = software("postgresql/17")
    with pytest.raises(Invalid, match="an older release"):
        upgrades.check(moved.engine, older)


def software_of(moved: Moved) -> Software:
    host = moved.guest.host
    return Software(host.version, host.bundle, host.template)


def linked(bundle: Path, to: Path) -> Path:
    """A copy of a bundle at another place, by hard links or, across file systems, as it is."""
    shutil.copytree(bundle, to, symlinks=True, copy_function=_link)
    to.chmod(0o755)
    return to


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:
        shutil.copy2(source, target, follow_symlinks=False)


def broken(of: Software, program: Path, home: Path) -> Software:
    """A copy of a version's software in which one program fails."""
    bundle = linked(of.bundle.resolve(), home / "broken")
    (bundle / program).unlink()
    (bundle / program).write_text("#!/bin/sh\necho 'mariadb-upgrade: broken for the test' >&2\nexit 3\n")
    (bundle / program).chmod(0o755)
    return replace(of, bundle=bundle)


@pairs([("postgresql/15", "postgresql/18")])
def test_indexes_whose_order_a_library_decides_are_built_anew(moved: Moved) -> None:
    def files() -> dict[str, int]:
        with moved.engine.sessions.open("shop") as session:  # type: ignore[attr-defined]
            rows = session.execute(
                "SELECT relname, relfilenode FROM pg_class WHERE relname IN ('by_icu', 'by_c')"
            ).fetchall()
        return dict(rows)

    with moved.engine.sessions.open("shop") as session:  # type: ignore[attr-defined]
        session.execute("CREATE COLLATION public.german (provider = icu, locale = 'de')")
        session.execute("CREATE TABLE public.words (word text COLLATE public.german, plain text)")
        session.execute("CREATE INDEX by_icu ON public.words (word)")
        session.execute("CREATE INDEX by_c ON public.words (plain)")
    before = files()
    moved.prepare()
    moved.become(moved.to)
    moved.start()
    after = files()
    assert after["by_icu"] != before["by_icu"]
    assert after["by_c"] == before["by_c"]
    moved.assert_everything_is_there()
