"""What PostgreSQL's backups promise beyond the shared suite: increments, histories, archived log, users as they are."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

import pytest

from argosy.catalog import datastores
from argosy.domain.databases import Database, NewUser, UserChange, UserId
from argosy.domain.datastore import Version
from argosy.domain.errors import EngineError, Invalid
from argosy.engines.backups import Facts, Log, Segment, Stored
from argosy.engines.postgresql.engine import PostgresEngine
from argosy.engines.postgresql.log_archive import spool
from tests.support.certificates import TestAuthority
from tests.support.engines import Guest, Refused
from tests.support.server import wait_until

POSTGRESQL = datastores()["postgresql"]
ANN, BEN = UserId("ann"), UserId("ben")


def places(version: Version, authority: TestAuthority) -> Iterator[Guest]:
    with Guest(POSTGRESQL, version, authority, memory_mb=256) as place:
        yield place


@pytest.fixture(params=POSTGRESQL.versions, ids=[version.name for version in POSTGRESQL.versions])
def postgresql(request: pytest.FixtureRequest) -> Version:
    return cast("Version", request.param)


@pytest.fixture
def guest(postgresql: Version, authority: TestAuthority) -> Iterator[Guest]:
    yield from places(postgresql, authority)


@pytest.fixture
def other(postgresql: Version, authority: TestAuthority) -> Iterator[Guest]:
    yield from places(postgresql, authority)


@pytest.fixture
def engine(guest: Guest) -> PostgresEngine:
    engine = cast("PostgresEngine", guest.engine)
    engine.initialise()
    engine.start()
    engine.create_databases([Database("shop")])
    engine.create_users([NewUser(ANN, "secret", ("shop",))])
    return engine


def silent(_: str) -> None:
    pass


def backed_up(engine: PostgresEngine, parent: Stored | None = None) -> Stored:
    parts: list[bytes] = []
    facts = engine.back_up(parts.append, None if parent is None else parent.facts, silent)
    return Stored(facts, lambda: iter(parts))


def write(guest: Guest, *keys: str) -> None:
    with guest.connect("ann", "secret", "shop") as session:
        for key in keys:
            session.write(key, "value")


def restored(other: Guest, chain: list[Stored], log: Log | None = None) -> tuple[Facts, set[str]]:
    facts = other.engine.restore(chain, log, silent)  # type: ignore[attr-defined]
    other.engine.start()
    with other.connect("ann", "secret", "shop") as session:
        return facts, set(session.read())


class Shelf:
    """Archives the log of an engine, as its agent would."""

    def __init__(self, engine: PostgresEngine, place: Path) -> None:
        self._engine = engine
        self._place = place
        self.segments: list[Segment] = []
        place.mkdir()
        engine.keep_log(on=True)

    def take_down(self) -> None:
        """All that was committed until now."""
        self._engine.finish_segment()
        wait_until("all is handed out", self._all, 20)

    def _all(self) -> bool:
        for segment in self._engine.finished_segments():
            shutil.copyfile(self._engine.segment_file(segment), self._place / segment.name)
            self._engine.archived(segment)
            self.segments.append(segment)
        return bool(self.segments) and self.segments[-1].ends >= self._engine.position()

    def _fetch(self, segment: Segment, path: Path) -> None:
        shutil.copyfile(self._place / segment.name, path)

    def log(self, to_time: datetime | None = None, to_position: str | None = None) -> Log:
        return Log(
            self.segments,
            self._fetch,
            to_time,
            to_position,
        )


def test_any_backup_of_a_chain_is_restored(guest: Guest, other: Guest, engine: PostgresEngine) -> None:
    write(guest, "one")
    chain = [backed_up(engine)]
    for key in ("two", "three"):
        write(guest, key)
        chain.append(backed_up(engine, chain[-1]))
    write(guest, "four")
    assert (
        chain[0].facts["fingerprint"]["tables"]["shop"] == {"public.entries": 1}
        or chain[0].facts["fingerprint"]["tables"]
    )
    _, keys = restored(other, chain[:2])
    assert keys == {"one", "two"}
    other.engine.stop()
    shutil.rmtree(other.engine.host.data)
    _, keys = restored(other, chain)
    assert keys == {"one", "two", "three"}
    checked = cast("PostgresEngine", other.engine)
    assert checked.check(chain[-1].facts["fingerprint"], silent) == []
    write(other, "four")
    (wrong,) = checked.check(chain[-1].facts["fingerprint"], silent)
    assert "has 4 rows, the backup's had 3" in wrong
    with pytest.raises(Invalid, match="restored since") as refusal:
        backed_up(checked, chain[-1])
    assert refusal.value.code == "parent-unusable"


def test_a_moment_a_position_and_the_end_of_the_log_are_restored(
    guest: Guest, other: Guest, engine: PostgresEngine, tmp_path: Path
) -> None:
    shelf = Shelf(engine, tmp_path / "shelf")
    full = backed_up(engine)
    write(guest, "one")
    with engine.sessions.open() as session:
        moment, position = (
            session.execute("SELECT clock_timestamp(), pg_current_wal_lsn()::text").fetchone() or ()
        )
    write(guest, "two")
    shelf.take_down()
    write(guest, "three")
    shelf.take_down()
    shelf.take_down()  # of nothing

    def tried(expected: set[str], log: Log) -> Facts:
        facts, keys = restored(other, [full], log)
        assert keys == expected
        other.engine.stop()
        shutil.rmtree(other.engine.host.data)
        return facts

    tried({"one"}, shelf.log(to_time=moment))
    assert tried({"one"}, shelf.log(to_position=position))["reached_position"] == position
    tried({"one", "two", "three"}, shelf.log())
    tried({"one", "two", "three"}, shelf.log(to_time=datetime.now(UTC) + timedelta(hours=1)))
    with pytest.raises(EngineError, match="ends before"):
        other.engine.restore([full], shelf.log(to_position="7F/0"), silent)  # type: ignore[attr-defined]
    engine.keep_log(on=False)
    assert not spool(engine.host).exists()


def test_users_are_carried_as_they_are(guest: Guest, other: Guest, engine: PostgresEngine) -> None:
    write(guest, "one")
    engine.enable_root("of root")
    full = backed_up(engine)
    engine.update_user(ANN, UserChange(password="later"))
    engine.create_users([NewUser(BEN, "of ben", ("shop",))])
    dump = engine.dump_accounts()
    assert "later" not in dump
    new = cast("PostgresEngine", other.engine)
    new.restore([full], None, silent)
    new.start()
    new.create_users([NewUser(UserId("eve"), "of eve")])
    assert new.load_accounts(dump) == []
    assert new.load_accounts(dump) == []
    assert [(str(user.id), user.databases) for user in new.list_users()] == [
        (str(user.id), user.databases) for user in engine.list_users()
    ]
    with pytest.raises(Refused):
        other.connect("ann", "secret", "shop")
    for user, password in (("ann", "later"), ("ben", "of ben"), ("root", "of root")):
        with other.connect(user, password, "shop") as session:
            assert session.read()["one"] == "value"
    new.delete_database("shop")
    assert "it is not there" in " ".join(new.load_accounts(dump))


def test_what_a_full_spool_lets_go_shows_as_a_gap(
    guest: Guest, engine: PostgresEngine, tmp_path: Path
) -> None:
    engine.keep_log(on=True)
    held = spool(engine.host) / "held"
    with held.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, 1100 * 2**20)
    write(guest, "one")
    engine.finish_segment()

    def forgotten() -> bool:
        with engine.sessions.open() as session:
            row = session.execute("SELECT archived_count FROM pg_stat_archiver").fetchone()
        return row is not None and int(row[0]) >= 1

    wait_until("the server has gone on", forgotten, 30)
    held.unlink()
    assert engine.finished_segments() == []
    write(guest, "two")
    engine.finish_segment()
    wait_until("the next one is there", engine.finished_segments, 30)
    assert engine.finished_segments()[0].starts > 0
