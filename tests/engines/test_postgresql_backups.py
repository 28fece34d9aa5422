"""What PostgreSQL's backups promise beyond the shared suite: increments, histories, archived log, users as they are."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import psycopg
import pytest

from argosy import marks
from argosy.catalog import datastores
from argosy.domain.databases import Database, NewUser, UserChange, UserId
from argosy.domain.datastore import Version
from argosy.domain.errors import ArgosyError, EngineError, Invalid
from argosy.engines.backups import Facts, Log, Segment, Stored
from argosy.engines.postgresql import lsn
from argosy.engines.postgresql.engine import PostgresEngine
from argosy.engines.postgresql.log_archive import SCRIPT, let_go, segment_of, spool
from argosy.engines.postgresql.session import conninfo
from tests.support.certificates import TestAuthority
from tests.support.engines import Guest, Refused, tried
from tests.support.server import wait_until

POSTGRESQL = datastores()["postgresql"]
ONLY_DEFAULT = pytest.mark.parametrize("postgresql", [POSTGRESQL.version("17")], ids=["17"], indirect=True)
ANN, BEN = UserId("ann"), UserId("ben")


def places(version: Version, authority: TestAuthority) -> Iterator[Guest]:
    with Guest(POSTGRESQL, version, authority, memory_mb=256) as place:
        yield place


@pytest.fixture(params=tried(POSTGRESQL, "15"), ids=[version.name for version in tried(POSTGRESQL, "15")])
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


def now(engine: PostgresEngine) -> tuple[datetime, str]:
    """By the server's clock, and where its log is."""
    with engine.sessions.open() as session:
        row = session.execute("SELECT clock_timestamp(), pg_current_wal_lsn()::text").fetchone()
    assert row is not None
    return row[0].astimezone(UTC), row[1]


def is_archived(engine: PostgresEngine, segment: str) -> bool:
    """By the server's own account, whatever has become of the copy."""
    with engine.sessions.open() as session:
        row = session.execute("SELECT coalesce(last_archived_wal, '') FROM pg_stat_archiver").fetchone()
    return row is not None and row[0] >= segment


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
        place = self._engine.position()
        self._engine.finish_segment()
        wait_until("all is handed out", lambda: self._all(place), 60)

    def _all(self, place: int) -> bool:
        for segment in self._engine.finished_segments():
            shutil.copyfile(self._engine.segment_file(segment), self._place / segment.name)
            self._engine.archived(segment)
            self.segments.append(segment)
        return bool(self.segments) and self.segments[-1].ends >= place

    def _fetch(self, segment: Segment, path: Path) -> None:
        shutil.copyfile(self._place / segment.name, path)

    def log(self, to_time: datetime | None = None, to_position: str | None = None) -> Log:
        return Log(self.segments, self._fetch, to_time, to_position)


def test_any_backup_of_a_chain_is_restored(guest: Guest, other: Guest, engine: PostgresEngine) -> None:
    write(guest, "one")
    chain = [backed_up(engine)]
    for key in ("two", "three"):
        write(guest, key)
        chain.append(backed_up(engine, chain[-1]))
    write(guest, "four")
    assert chain[0].facts["fingerprint"]["tables"]["shop"] == {"public.written": 1}
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
    write(guest, "before")
    full = backed_up(engine)
    write(guest, "one")
    moment, position = now(engine)
    write(guest, "two")
    shelf.take_down()
    write(guest, "three")
    shelf.take_down()
    shelf.take_down()  # of nothing
    of_all = {"before", "one", "two", "three"}

    def tried(expected: set[str], log: Log) -> Facts:
        facts, keys = restored(other, [full], log)
        assert keys == expected
        other.engine.stop()
        shutil.rmtree(other.engine.host.data)
        return facts

    assert tried({"before", "one"}, shelf.log(to_time=moment))["reached_at"] == moment.isoformat()
    assert tried({"before", "one"}, shelf.log(to_position=position))["reached_position"] == position
    tried(of_all, shelf.log(to_time=datetime.now(UTC) + timedelta(hours=1)))
    if guest.host.version != "17":
        return  # the rest is the same in all versions
    at_once = tried({"before"}, shelf.log(to_position=full.facts["position"]))
    assert at_once["reached_position"] == full.facts["position"]
    ended = tried(of_all, shelf.log())
    assert lsn.number(ended["reached_position"]) <= shelf.segments[-1].ends
    tried(of_all, shelf.log(to_position=lsn.text(shelf.segments[-1].ends)))


@ONLY_DEFAULT
def test_a_target_out_of_reach_is_refused_with_the_reason(
    guest: Guest, other: Guest, engine: PostgresEngine, tmp_path: Path
) -> None:
    shelf = Shelf(engine, tmp_path / "shelf")
    write(guest, "one")
    early, place = now(engine)
    full = backed_up(engine)
    for key in ("two", "three", "four"):
        write(guest, key)
        shelf.take_down()
    with_gap = replace(shelf.log(), segments=[*shelf.segments[:-2], shelf.segments[-1]])

    def lost(segment: Segment, path: Path) -> None:
        raise EngineError("chunk 0 is missing")

    refusals = {
        r"has the state of .* which is after": shelf.log(to_time=early),
        f"is past {place}, it has the state of": shelf.log(to_position=place),
        "does not reach 7F/0: it ends at": shelf.log(to_position="7F/0"),
        "is no LSN": shelf.log(to_position="0-1-270"),
        "has a gap before": with_gap,
        "chunk 0 is missing": replace(shelf.log(), fetch=lost),
    }
    for reason, log in refusals.items():
        with pytest.raises(ArgosyError, match=reason):
            other.engine.restore([full], log, silent)  # type: ignore[attr-defined]  # of PostgreSQL
        assert not list(other.host.data.parent.iterdir())
    assert not (other.host.etc / "log").exists()
    assert not marks.marked({marks.INSTANCE: other.host.instance_id})


@ONLY_DEFAULT
def test_a_transaction_that_outlives_a_segment_is_archived_when_it_commits(
    guest: Guest, other: Guest, engine: PostgresEngine, tmp_path: Path
) -> None:
    shelf = Shelf(engine, tmp_path / "shelf")
    write(guest, "one")
    full = backed_up(engine)
    with psycopg.connect(conninfo(engine.host, "shop")) as session:
        session.execute("INSERT INTO public.written VALUES ('long', 'value')")
        shelf.take_down()
        reached = engine.position()
        assert reached == shelf.segments[-1].ends
        session.commit()
    assert engine.position() > reached
    shelf.take_down()
    assert engine.position() == shelf.segments[-1].ends
    assert restored(other, [full], shelf.log())[1] == {"one", "long"}


@ONLY_DEFAULT
def test_settings_that_root_altered_do_not_keep_the_log_from_being_replayed(
    guest: Guest, other: Guest, engine: PostgresEngine, tmp_path: Path
) -> None:
    engine.enable_root("of root")
    guest.adapter.hostile_root["makes the server unable to start"](guest.host, "of root")
    with engine.sessions.open() as session:
        session.execute("ALTER SYSTEM SET recovery_target_name = 'nowhere'")
    shelf = Shelf(engine, tmp_path / "shelf")
    full = backed_up(engine)
    write(guest, "one")
    shelf.take_down()
    assert restored(other, [full], shelf.log())[1] == {"one"}
    assert "nowhere" in (other.host.data / "postgresql.auto.conf.refused").read_text()


def test_log_of_another_history_is_not_archived(guest: Guest, engine: PostgresEngine) -> None:
    full = backed_up(engine)
    engine.keep_log(on=True)
    write(guest, "one")
    engine.finish_segment()
    wait_until("it waits", engine.finished_segments, 60)
    engine.stop()
    guest.host.data.rename(guest.home / "replaced")
    engine.restore([full], None, silent)
    again = cast("PostgresEngine", guest.new_agent())
    again.start()
    assert again.finished_segments() == []
    again.finish_segment()
    (first, *_) = wait_until("the next one is there", again.finished_segments, 60)
    assert first.starts >= int(full.facts["log_from"])
    again.keep_log(on=False)
    assert not spool(engine.host).exists()


def test_nothing_is_left_of_a_restore_that_failed(guest: Guest, other: Guest, engine: PostgresEngine) -> None:
    full = backed_up(engine)

    def cut() -> Iterator[bytes]:
        yield from list(full.read())[:1]
        raise EngineError("chunk 2 is missing")

    rubbish = [b"rubbish" * 1000]
    for stream, reason in ((cut, "chunk 2 is missing"), (lambda: iter(rubbish), "tar failed")):
        with pytest.raises(EngineError, match=reason):
            other.engine.restore([Stored(full.facts, stream)], None, silent)  # type: ignore[attr-defined]  # of PostgreSQL
        assert not list(other.host.data.parent.iterdir())


def test_a_parent_is_refused_when_what_leads_on_from_it_is_gone(guest: Guest, engine: PostgresEngine) -> None:
    full = backed_up(engine)
    write(guest, "one")
    if "manifest" in full.facts:
        shutil.rmtree(engine.host.etc / "backup-manifests")
    else:
        with engine.sessions.open() as session:
            session.execute("SELECT pg_drop_replication_slot('os_backup_chain')")
        engine.finish_segment()  # the server would make anew the one it writes to
        segment = full.facts["log_from"]
        (engine.host.data / "pg_wal" / lsn.segment_name(1, segment // 2**24, 2**24)).unlink()
    with pytest.raises(Invalid, match=r"not on the server any more|forgotten a part") as refusal:
        backed_up(engine, full)
    assert refusal.value.code == "parent-unusable"


def test_users_are_carried_as_they_are(guest: Guest, other: Guest, engine: PostgresEngine) -> None:
    write(guest, "one")
    engine.enable_root("of root")
    full = backed_up(engine)
    engine.update_user(ANN, UserChange(password="later"))
    engine.create_users([NewUser(BEN, "of ben", ("shop",))])
    with engine.sessions.open() as session:
        for statement in (
            "CREATE ROLE readers",
            "GRANT readers TO ben WITH ADMIN OPTION",
            "ALTER ROLE ben SET search_path = 'a b', public",
            "ALTER ROLE ben IN DATABASE shop SET work_mem = '3MB'",
            "ALTER ROLE ann CONNECTION LIMIT 7",
        ):
            session.execute(statement)
    dump = engine.dump_accounts()
    assert "later" not in dump
    new = cast("PostgresEngine", other.engine)
    new.restore([full], None, silent)
    new.start()
    new.create_users([NewUser(UserId("eve"), "of eve")])
    assert new.load_accounts(dump) == []
    assert new.load_accounts(dump) == []
    assert new.dump_accounts() == dump
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
    shelf = Shelf(engine, tmp_path / "shelf")
    write(guest, "one")
    shelf.take_down()
    held = spool(engine.host) / "held"
    with held.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, 1100 * 2**20)
    write(guest, "two")
    with engine.sessions.open() as session:
        (segment,) = session.execute("SELECT pg_walfile_name(pg_current_wal_insert_lsn())").fetchone() or (
            "",
        )
    engine.finish_segment()
    wait_until("the server has gone on", lambda: is_archived(engine, segment), 60)
    held.unlink()
    assert engine.finished_segments() == []
    write(guest, "three")
    shelf.take_down()
    assert shelf.segments[-1].starts > shelf.segments[-2].ends


def test_the_copying_of_log_is_never_in_the_servers_way(tmp_path: Path) -> None:
    spooled, segment = tmp_path / "spool", tmp_path / "segment"
    script = tmp_path / "archive.sh"
    script.write_text(SCRIPT)
    segment.write_bytes(b"log" * 1000)
    name = "000000010000000000000001"

    def run(name: str, *, most_kb: int = 1000, spared_kb: int = 0, path: Path = segment) -> list[str]:
        subprocess.run(["sh", script, spooled, str(most_kb), str(spared_kb), path, name], check=True)
        return sorted(file.name for file in spooled.iterdir()) if spooled.exists() else []

    assert run(name) == []
    spooled.mkdir()
    assert run("00000002.history") == run(f"{name}.00000028.backup") == []
    assert run(name, most_kb=0) == run(name, spared_kb=2**50) == run(name, path=tmp_path / "no") == []
    assert run(name) == run(name) == [name]
    segment.write_bytes(b"of another history")
    assert run(name) == [name]
    assert (spooled / name).read_bytes() == b"of another history"


def test_what_is_no_segment_in_the_spool_is_not_archived(tmp_path: Path) -> None:
    whole = tmp_path / "000000010000000000000001"
    for name, size in ((whole.name, 2**24), ("000000010000000000000002", 7)):
        with (tmp_path / name).open("wb") as file:
            file.truncate(size)
    (tmp_path / "000000010000000000000003").symlink_to("/etc/passwd")
    found = [segment_of(file) for file in sorted(tmp_path.iterdir())]
    assert [one.name for one in found if one] == [whole.name]


@ONLY_DEFAULT
def test_a_spool_that_the_server_is_copying_to_is_gone_at_once(
    guest: Guest, monkeypatch: pytest.MonkeyPatch
) -> None:
    spooled, remove = spool(guest.host), os.rmdir
    spooled.mkdir()

    def copy_and_remove(path: str, **options: Any) -> None:
        with suppress(FileNotFoundError):
            (spooled / ".000000010000000000000001.new").touch()
        remove(path, **options)

    monkeypatch.setattr(os, "rmdir", copy_and_remove)
    cast("PostgresEngine", guest.engine).keep_log(on=False)
    assert not list(guest.host.data.parent.iterdir())


@ONLY_DEFAULT
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small volume")
def test_what_waits_to_be_archived_gives_way_before_the_volume_is_full(guest: Guest) -> None:
    volume = guest.host.data.parent
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=96m,mode=0711", "argosy-test", volume], check=True)
    try:
        spool(guest.host).mkdir()
        waiting = spool(guest.host) / "000000010000000000000001"
        for size_mb, goes in ((16, False), (64, True)):
            with waiting.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, size_mb * 2**20)
            assert let_go(guest.host) is goes
            assert waiting.exists() is not goes
        assert not let_go(guest.host)
        assert spool(guest.host).is_dir()
    finally:
        subprocess.run(["umount", "--lazy", volume], check=True)
