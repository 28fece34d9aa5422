"""What MariaDB's backups promise beyond the shared suite: increments, histories, users carried as they are."""

from __future__ import annotations

import itertools
import os
import shutil
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Self, cast

import pytest

from argosy import marks
from argosy.catalog import datastores
from argosy.domain.databases import Database, NewUser, User, UserId
from argosy.domain.datastore import Version
from argosy.domain.errors import ArgosyError, EngineError, Invalid
from argosy.engines import pipes
from argosy.engines.backups import Facts, Log, Segment, Stored
from argosy.engines.mariadb import MariaDbEngine, history
from tests.support.certificates import TestAuthority
from tests.support.engines import Guest, Refused, tried
from tests.support.mariadb import as_root, connect

MARIADB = datastores()["mariadb"]
ANN, BEN = UserId("ann"), UserId("ben")


def places(version: Version, authority: TestAuthority) -> Iterator[Guest]:
    with Guest(MARIADB, version, authority, memory_mb=256) as place:
        yield place


@pytest.fixture(params=tried(MARIADB), ids=[version.name for version in tried(MARIADB)])
def mariadb(request: pytest.FixtureRequest) -> Version:
    return cast("Version", request.param)


@pytest.fixture
def guest(mariadb: Version, authority: TestAuthority) -> Iterator[Guest]:
    yield from places(mariadb, authority)


@pytest.fixture
def other(mariadb: Version, authority: TestAuthority) -> Iterator[Guest]:
    yield from places(mariadb, authority)


@pytest.fixture
def engine(guest: Guest) -> MariaDbEngine:
    """With a database, a user of it and root."""
    engine = cast("MariaDbEngine", guest.engine)
    engine.initialise()
    engine.start()
    engine.create_databases([Database("shop")])
    engine.create_users([NewUser(ANN, "secret", ("shop",))])
    engine.enable_root("of root")
    return engine


def silent(_: str) -> None:
    pass


def backed_up(engine: MariaDbEngine, parent: Stored | None = None) -> Stored:
    parts: list[bytes] = []
    facts = engine.back_up(parts.append, None if parent is None else parent.facts, silent)
    return Stored(facts, lambda: iter(parts))


def write(guest: Guest, *keys: str) -> None:
    with guest.connect("ann", "secret", "shop") as session:
        for key in keys:
            session.write(key, "value")


def keys(guest: Guest) -> set[str]:
    with guest.connect("ann", "secret", "shop") as session:
        return set(session.read())


def gtids(engine: MariaDbEngine) -> str:
    with engine.management.session() as session:
        ((told,),) = session.run("SELECT @@GLOBAL.gtid_binlog_pos")
    return str(told)


def test_a_chain_brings_back_what_its_last_one_has_and_goes_on_from_its_gtid(
    guest: Guest, other: Guest, engine: MariaDbEngine
) -> None:
    write(guest, "full")
    full = backed_up(engine)
    write(guest, "first")
    first = backed_up(engine, full)
    write(guest, "second")
    second = backed_up(engine, first)
    write(guest, "too late")
    restored = cast("MariaDbEngine", other.engine)
    facts = restored.restore([full, first, second], None, silent)
    restored.start()
    assert keys(other) == {"full", "first", "second"}
    assert gtids(restored) == facts["reached_position"] == second.facts["gtids"]
    write(other, "on")
    assert int(gtids(restored).rpartition("-")[2]) == int(facts["reached_position"].rpartition("-")[2]) + 1
    assert restored.list_users() == [User(ANN, ("shop",))]


def test_a_parent_of_another_history_cannot_be_built_on(
    guest: Guest, other: Guest, engine: MariaDbEngine
) -> None:
    full = backed_up(engine)
    restored = cast("MariaDbEngine", other.engine)
    restored.restore([full], None, silent)
    restored.start()
    with pytest.raises(Invalid, match="restored since") as refusal:
        backed_up(restored, full)
    assert refusal.value.code == "parent-unusable"
    another = Stored({**full.facts, "series": "10.6"}, full.read)
    with pytest.raises(Invalid, match=r"version 10\.6"):
        backed_up(engine, another)


def test_a_backup_counts_exactly_the_rows_it_has_though_others_write(
    guest: Guest, other: Guest, engine: MariaDbEngine
) -> None:
    write(guest, "first")
    stop = threading.Event()

    def go_on() -> None:
        with guest.connect("ann", "secret", "shop") as session:
            number = 0
            while not stop.is_set():
                session.write(f"row-{number}", "value")
                number += 1

    writer = threading.Thread(target=go_on)
    writer.start()
    try:
        backup = backed_up(engine)
    finally:
        stop.set()
        writer.join()
    other.engine.restore([backup], None, silent)  # type: ignore[attr-defined]  # of MariaDB
    other.engine.start()
    counted = backup.facts["fingerprint"]["tables"].get("shop", {}).get("written")
    assert counted in {None, len(keys(other))}


def test_nothing_is_left_of_a_backup_that_could_not_be_stored(guest: Guest, engine: MariaDbEngine) -> None:
    def refuse(part: bytes) -> None:
        raise EngineError("the store is full")

    with pytest.raises(EngineError, match="the store is full"):
        engine.back_up(refuse, None, silent)
    assert not marks.marked({marks.INSTANCE: guest.host.instance_id, marks.ROLE: "backup"})
    assert not (guest.host.run / "backup").exists()
    write(guest, "after")
    assert backed_up(engine).facts["to_lsn"] > 0


def test_what_a_dead_agent_left_running_is_ended_by_the_next(guest: Guest, engine: MariaDbEngine) -> None:
    begun, over = threading.Event(), threading.Event()
    ended: list[str] = []

    def hold(part: bytes) -> None:
        begun.set()
        assert over.wait(60)

    def back_up() -> None:
        try:
            engine.back_up(hold, None, silent)
        except EngineError as error:
            ended.append(error.sentence)

    first = threading.Thread(target=back_up)
    first.start()
    try:
        assert begun.wait(60)
        ours = {marks.INSTANCE: guest.host.instance_id, marks.ROLE: "backup"}
        left = marks.marked(ours)
        assert left
        pipes.end(guest.host, {marks.ROLE: "backup"})
        assert not marks.marked(ours)
    finally:
        over.set()
        first.join()
    assert "mariadb-backup failed (-9)" in ended[0]
    write(guest, "after")
    again = cast("MariaDbEngine", guest.new_agent())
    assert backed_up(again).facts["fingerprint"]["tables"] == {"shop": {"written": 1}}


def test_root_cannot_keep_the_server_from_being_backed_up(
    guest: Guest, other: Guest, engine: MariaDbEngine
) -> None:
    write(guest, "one")
    as_root(
        "SET GLOBAL sql_select_limit = 0",
        "SET GLOBAL max_join_size = 1",
        "SET GLOBAL tx_read_only = 1",
        "SET GLOBAL sql_mode = 'ANSI_QUOTES,NO_BACKSLASH_ESCAPES'",
        "REVOKE ALL PRIVILEGES, GRANT OPTION FROM os_admin@localhost",
    )(guest.host, "of root")
    backup = backed_up(engine)
    dump = engine.dump_accounts()
    with engine.management.session() as session:
        assert session.run("SELECT @@GLOBAL.sql_select_limit, @@GLOBAL.max_join_size") == [(0, 1)]
    restored = cast("MariaDbEngine", other.engine)
    restored.restore([backup], None, silent)
    restored.start()
    assert keys(other) == {"one"}
    assert restored.load_accounts(dump) == []
    assert restored.check(backup.facts["fingerprint"], silent) == []


def test_nothing_is_left_of_a_restore_that_failed(guest: Guest, other: Guest, engine: MariaDbEngine) -> None:
    full = backed_up(engine)

    def cut() -> Iterator[bytes]:
        yield from list(full.read())[:1]
        raise EngineError("chunk 2 is missing")

    with pytest.raises(EngineError, match="chunk 2 is missing"):
        other.engine.restore([Stored(full.facts, cut)], None, silent)  # type: ignore[attr-defined]  # of MariaDB
    assert not list(other.host.data.parent.iterdir())
    with pytest.raises(EngineError, match="mbstream failed"):
        other.engine.restore([Stored(full.facts, lambda: iter([b"rubbish" * 100]))], None, silent)  # type: ignore[attr-defined]  # of MariaDB
    assert not list(other.host.data.parent.iterdir())


def test_the_log_of_data_that_is_gone_goes_too(guest: Guest, engine: MariaDbEngine) -> None:
    full = backed_up(engine)
    engine.stop()
    volume = guest.host.data.parent
    guest.host.data.rename(volume / "data.replaced")
    engine.restore([full], None, silent)
    engine.start()
    engine.mind_room()
    assert (volume / "binlog").is_dir(), "the replaced data may be put back"
    (volume / "data.replaced").rename(guest.home / "gone")
    engine.mind_room()
    assert [place.name for place in volume.glob("binlog*")] == [history.of(guest.host.data).log]


def test_users_are_carried_with_passwords_grants_and_roles(
    guest: Guest, other: Guest, engine: MariaDbEngine
) -> None:
    engine.create_databases([Database("a_b"), Database("away")])
    as_root(
        "CREATE ROLE reader",
        "GRANT SELECT ON `a\\_b`.* TO reader",
        "CREATE USER 'ben'@'%' IDENTIFIED BY 'of ben' WITH MAX_USER_CONNECTIONS 7",
        "GRANT reader TO ben@'%'",
        "SET DEFAULT ROLE reader FOR ben@'%'",
        "CREATE USER `o'``brien`@`127.%` IDENTIFIED BY 'x' ACCOUNT LOCK",
        "GRANT SELECT ON `away`.* TO `o'``brien`@`127.%`",
        "CREATE TABLE away.t (a INT, ` ON ``shop``.* TO x` INT)",
        "GRANT SELECT (a, ` ON ``shop``.* TO x`) ON away.t TO ben@'%'",
    )(guest.host, "of root")
    dump = engine.dump_accounts()

    to = cast("MariaDbEngine", other.engine)
    to.initialise()
    to.start()
    to.create_databases([Database("shop"), Database("a_b")])
    to.create_users([NewUser(ANN, "older", ("a_b",)), NewUser(UserId("gone"), "secret", ("shop",))])
    remarks = to.load_accounts(dump)
    assert len(remarks) == 2
    assert "no database 'away'" in remarks[0] + remarks[1]
    assert {str(user.id): user.databases for user in to.list_users()} == {
        "ann@%": ("shop",),
        "ben@%": (),
        "o'`brien@127.%": (),
    }
    other.connect("ann", "secret", "shop").close()
    other.connect("ben", "of ben", "a_b").close()
    as_root("SELECT 1")(other.host, "of root")
    for name, password in (("gone", "secret"), ("o'`brien", "x")):
        with pytest.raises(Refused):
            other.connect(name, password)
    loaded = to.dump_accounts()
    assert to.load_accounts(loaded) == []
    assert to.dump_accounts() == loaded


def test_accounts_of_another_form_are_refused_and_leave_all_as_it_is(engine: MariaDbEngine) -> None:
    for dump in ("", "{}", '{"format": "mariadb accounts 9"}', '{"format": "mariadb accounts 1"}'):
        with pytest.raises(Invalid):
            engine.load_accounts(dump)
    assert engine.list_users() == [User(ANN, ("shop",))]


class Archived:
    """A log archive: what was finished, kept as files elsewhere."""

    def __init__(self, engine: MariaDbEngine, directory: Path) -> None:
        self._engine = engine
        self._directory = directory
        directory.mkdir()
        self.segments: list[Segment] = []
        engine.keep_log(on=True)

    def take(self) -> list[Segment]:
        self._engine.finish_segment()
        taken = self._engine.finished_segments()
        for segment in taken:
            shutil.copy(self._engine.segment_file(segment), self._directory / segment.name)
            self._engine.archived(segment)
        self.segments += taken
        return taken

    def log(self, to_time: datetime | None = None, to_position: str | None = None) -> Log:
        return Log(self.segments, self._fetch, to_time, to_position)

    def _fetch(self, segment: Segment, path: Path) -> None:
        shutil.copyfile(self._directory / segment.name, path)


@pytest.fixture
def archived(guest: Guest, engine: MariaDbEngine) -> Archived:
    return Archived(engine, guest.home / "archive")


def restored_to(other: Guest, chain: list[Stored], log: Log) -> Facts:
    facts = cast("MariaDbEngine", other.engine).restore(chain, log, silent)
    other.engine.start()
    return facts


def wait_for_the_next_second() -> datetime:
    """Its beginning, which is over."""
    now = datetime.now(UTC)
    moment = now.replace(microsecond=0) + timedelta(seconds=1)
    time.sleep((moment - now).total_seconds())
    return moment


def test_segments_follow_each_other_and_are_told_until_archived(
    guest: Guest, engine: MariaDbEngine, archived: Archived
) -> None:
    write(guest, "one")
    first = archived.take()
    assert engine.finished_segments() == []
    assert archived.take() == []
    assert engine.position() == first[-1].ends
    write(guest, "two")
    assert engine.position() > first[-1].ends
    engine.finish_segment()
    waiting = cast("MariaDbEngine", guest.new_agent()).finished_segments()
    assert [segment.starts for segment in waiting] == [first[-1].ends]
    assert waiting[0].facts["position"] == gtids(engine)
    assert waiting[0].first_at is not None
    assert abs(waiting[0].first_at - datetime.now(UTC)) < timedelta(minutes=2)


def test_only_what_is_archived_is_forgotten_for_want_of_room(
    guest: Guest, engine: MariaDbEngine, archived: Archived
) -> None:
    write(guest, "one")
    archived.take()
    write(guest, "two")
    engine.finish_segment()
    oldest = guest.host.data.parent / "binlog" / "mysql-bin.000001"

    def is_forgotten() -> bool:
        # The server keeps a file until what is in it is in InnoDB for good, which comes later.
        engine.give_room(least_free=1.1)
        return not oldest.exists()

    guest.wait_until(is_forgotten, "what is archived is forgotten")
    waiting = engine.finished_segments()
    assert [segment.name.rpartition(".")[2] for segment in waiting] == ["000002"]
    assert waiting[0].starts == archived.segments[-1].ends


def test_what_was_forgotten_before_it_was_archived_is_a_gap(
    guest: Guest, engine: MariaDbEngine, archived: Archived
) -> None:
    write(guest, "one")
    backup = backed_up(engine)
    before = archived.take()
    write(guest, "lost")
    engine.finish_segment()
    write(guest, "after")
    engine.finish_segment()
    purge = as_root("PURGE BINARY LOGS TO 'mysql-bin.000003'")
    lost = guest.host.data.parent / "binlog" / "mysql-bin.000002"

    def is_lost() -> bool:
        # As above: of what is not in InnoDB for good yet nothing is purged.
        purge(guest.host, "of root")
        return not lost.exists()

    guest.wait_until(is_lost, "the server has purged its log")
    after = archived.take()
    assert after[0].starts > before[-1].ends
    with pytest.raises(EngineError, match="gap before"):
        engine.restore([backup], archived.log(), silent)
    as_root("RESET MASTER")(guest.host, "of root")
    write(guest, "anew")
    anew = archived.take()
    assert [segment.name.rpartition(".")[2] for segment in anew] == ["000001"]
    assert anew[0].starts > after[-1].ends


def test_a_log_leads_to_its_end_to_a_gtid_and_to_a_second(
    guest: Guest, other: Guest, engine: MariaDbEngine, archived: Archived
) -> None:
    write(guest, "full")
    full = backed_up(engine)
    write(guest, "first")
    first = backed_up(engine, full)
    write(guest, "after the backup")
    archived.take()
    at_gtid = gtids(engine)
    write(guest, "after the gtid")
    moment = wait_for_the_next_second()
    write(guest, "after the second")
    as_root("SET TIMESTAMP = 1000000000", "INSERT INTO shop.written VALUES ('long ago', 'value')")(
        guest.host, "of root"
    )
    archived.take()
    engine.create_databases([Database("last")])
    engine.create_users([NewUser(BEN, "of ben", ("last",))])
    archived.take()
    rows = {"full", "first", "after the backup"}

    with Guest(MARIADB, guest_version(guest), None, memory_mb=256) as third:
        facts = restored_to(third, [full, first], archived.log(to_position=at_gtid))
        assert keys(third) == rows
        assert facts["reached_position"] == at_gtid == gtids(cast("MariaDbEngine", third.engine))
    with Guest(MARIADB, guest_version(guest), None, memory_mb=256) as third:
        facts = restored_to(third, [full], archived.log(to_time=moment))
        assert keys(third) == rows | {"after the gtid"}
        assert facts["reached_at"] < moment.isoformat()
    facts = restored_to(other, [full, first], archived.log())
    assert keys(other) == rows | {"after the gtid", "after the second", "long ago"}
    assert facts["reached_position"] == gtids(engine) == gtids(cast("MariaDbEngine", other.engine))
    other.connect("ben", "of ben", "last").close()
    assert not [place for place in other.host.data.parent.iterdir() if place.name.startswith(".")]


def guest_version(guest: Guest) -> Version:
    return MARIADB.version(guest.host.version)


def test_a_target_out_of_reach_is_refused_with_the_reason(
    guest: Guest, other: Guest, engine: MariaDbEngine, archived: Archived
) -> None:
    write(guest, "one")
    early = gtids(engine)
    write(guest, "two")
    backup = backed_up(engine)
    write(guest, "three")
    archived.take()
    last = gtids(engine)
    beyond = f"{last.rpartition('-')[0]}-{int(last.rpartition('-')[2]) + 1}"
    before = datetime.now(UTC) - timedelta(hours=1)
    for log, reason in (
        (archived.log(to_position=beyond), rf"does not reach {beyond}: it ends at {last}"),
        (archived.log(to_position=early), f"past {early}"),
        (archived.log(to_time=before), "restore an earlier one"),
        (archived.log(to_position="rubbish"), "is no GTID"),
    ):
        with pytest.raises(ArgosyError, match=reason):
            other.engine.restore([backup], log, silent)  # type: ignore[attr-defined]  # of MariaDB
        assert not list(other.host.data.parent.iterdir())
        assert not (other.host.etc / "log").exists()
    own = str(backup.facts["position"])
    restored_to(other, [backup], archived.log(to_position=own))
    assert keys(other) == {"one", "two"}


def test_a_log_is_applied_whatever_root_did_in_it(
    guest: Guest, other: Guest, engine: MariaDbEngine, archived: Archived
) -> None:
    backup = backed_up(engine)
    as_root("DROP USER os_admin@localhost", "CREATE TABLE shop.big (a LONGTEXT)")(guest.host, "of root")
    archived.take()
    as_root(
        "SET sql_mode = 'ANSI_QUOTES,NO_BACKSLASH_ESCAPES'",
        "SET GLOBAL max_allowed_packet = 1073741824",
        'INSERT INTO "shop"."big" VALUES (REPEAT(\'x\', 20000000))',
        "CREATE PROCEDURE shop.p() BEGIN SELECT ';', '\\'; END",
        "SET SESSION binlog_format = 'STATEMENT'",
        "CREATE TABLE shop.s (a INT AUTO_INCREMENT PRIMARY KEY, b DOUBLE, c TIMESTAMP(6) NULL)",
        "INSERT INTO shop.s (b, c) VALUES (RAND(), NOW(6)), (0.5, NULL)",
    )(guest.host, "of root")
    engine.stop()
    engine.start()
    archived.take()
    restored_to(other, [backup], archived.log())
    compare = (
        "SELECT CONCAT((SELECT MD5(a) FROM shop.big), (SELECT GROUP_CONCAT(a, b, IFNULL(c, '')) FROM shop.s))"
    )
    with engine.management.session() as session:
        before = session.run(compare)
    with cast("MariaDbEngine", other.engine).management.session() as session:
        assert session.run(compare) == before


def test_checks_find_what_is_missing_and_what_is_damaged(guest: Guest, engine: MariaDbEngine) -> None:
    write(guest, *(f"key-{number}" for number in range(50)))
    as_root(
        "USE shop",
        "CREATE TABLE shop.gone (a INT PRIMARY KEY)",
        "CREATE TABLE shop.whole (a INT PRIMARY KEY, b LONGTEXT, KEY (b(20)))",
        "INSERT INTO shop.whole SELECT seq, REPEAT(MD5(seq), 10) FROM seq_1_to_2000",
        "CREATE SEQUENCE shop.numbers",
        "CREATE VIEW shop.seen AS SELECT * FROM shop.written",
        "CREATE TABLE shop.aria (a INT) ENGINE = Aria",
    )(guest.host, "of root")
    fingerprint = engine.fingerprint()
    assert fingerprint == {"tables": {"shop": {"gone": 0, "whole": 2000, "written": 50}}, "left_out": 0}
    assert engine.check(fingerprint, silent) == []
    as_root("DROP TABLE shop.gone", "DELETE FROM shop.written WHERE k = 'key-7'")(guest.host, "of root")
    found = engine.check(fingerprint, silent)
    assert len(found) == 2
    assert "shop.gone is missing" in found[0]
    assert "shop.written has 49 rows; it had 50" in found[1]
    engine.stop()
    with (guest.host.data / "shop" / "whole.ibd").open("r+b") as file:
        for page in range(10, 40):
            file.seek(page * 16384 + 200)
            file.write(b"\xa5" * 5000)
    engine.start()
    assert any("shop.whole" in one for one in engine.check(None, silent))


def test_a_backup_and_its_log_are_restored_by_a_newer_version_and_not_by_an_older(
    authority: TestAuthority,
) -> None:
    old, new = (MARIADB.version(name) for name in ("10.11", "11.8"))
    with (
        Guest(MARIADB, old, authority, memory_mb=256) as guest,
        Guest(MARIADB, new, authority, memory_mb=256) as other,
    ):
        engine = cast("MariaDbEngine", guest.engine)
        engine.initialise()
        engine.start()
        engine.create_databases([Database("shop")])
        engine.create_users([NewUser(ANN, "secret", ("shop",))])
        archived = Archived(engine, guest.home / "archive")
        write(guest, "full")
        full = backed_up(engine)
        write(guest, "first")
        first = backed_up(engine, full)
        write(guest, "log")
        archived.take()
        restored_to(other, [full, first], archived.log())
        assert keys(other) == {"full", "first", "log"}
        newer = cast("MariaDbEngine", other.engine)
        assert newer.load_accounts(engine.dump_accounts()) == []
        assert newer.check(None, silent) == []
        with pytest.raises(EngineError, match=r"of MariaDB 11\.8, which 10\.11 cannot read"):
            engine.restore([backed_up(newer)], None, silent)


class Ledger:
    """Rows that clients write, one by one or several in a transaction: when each was begun, and when acknowledged."""

    def __init__(self, guest: Guest) -> None:
        self._guest = guest
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self.rows: dict[int, tuple[datetime, datetime]] = {}
        self._threads = [threading.Thread(target=self._write, args=(number,)) for number in range(3)]

    def __enter__(self) -> Self:
        as_root("CREATE TABLE shop.ledger (id BIGINT PRIMARY KEY)")(self._guest.host, "of root")
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _write(self, writer: int) -> None:
        connection = connect(self._guest.host, "root", "of root", "shop")
        with connection, connection.cursor() as cursor:
            for turn in itertools.count():
                if self._stop.is_set():
                    return
                rows = [writer * 10**9 + turn * 10 + number for number in range(1 + turn % 3)]
                begun = datetime.now(UTC)
                cursor.execute("BEGIN")
                for row in rows:
                    cursor.execute("INSERT INTO ledger VALUES (%s)", (row,))
                cursor.execute("COMMIT")
                acknowledged = datetime.now(UTC)
                with self._lock:
                    self.rows |= dict.fromkeys(rows, (begun, acknowledged))


@pytest.mark.skipif(not os.environ.get("ARGOSY_TEST_LONG"), reason="takes a minute: set ARGOSY_TEST_LONG")
def test_restores_to_seconds_have_what_was_acknowledged_by_then_and_nothing_begun_later(
    guest: Guest, engine: MariaDbEngine, archived: Archived, authority: TestAuthority
) -> None:
    backups: list[Stored] = []
    with Ledger(guest) as ledger:
        for _ in range(3):
            backups.append(backed_up(engine, backups[-1] if backups else None))
            time.sleep(3)
            archived.take()
    archived.take()
    for last, seconds in itertools.product(range(3), (1, 2)):
        consistent_at = datetime.fromisoformat(backups[last].facts["consistent_at"])
        moment = consistent_at.replace(microsecond=0) + timedelta(seconds=seconds)
        with Guest(MARIADB, guest_version(guest), authority, memory_mb=256) as place:
            restored_to(place, backups[: last + 1], archived.log(to_time=moment))
            with cast("MariaDbEngine", place.engine).management.session() as session:
                there = {int(str(row)) for (row,) in session.run("SELECT id FROM shop.ledger")}
        must = {row for row, (_, acknowledged) in ledger.rows.items() if acknowledged <= moment}
        may = {row for row, (begun, _) in ledger.rows.items() if begun < moment}
        assert must <= there, f"{len(must - there)} acknowledged rows are missing at {moment}"
        assert there <= may, f"{len(there - may)} rows begun later are there at {moment}"
