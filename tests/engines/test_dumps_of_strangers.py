"""A dump may hold anything: nobody gets by one what he could not get otherwise, and what it makes works here."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pymysql
import pytest

from argosy.catalog import datastores
from argosy.domain.databases import Database, NewUser, UserId
from argosy.domain.datastore import Datastore, Version
from argosy.domain.errors import Invalid
from argosy.engines.backups import Dumps
from argosy.engines.base import Databases, RootAccess, Users
from tests.support import mariadb
from tests.support.certificates import TestAuthority
from tests.support.engines import Guest, tried
from tests.support.valkey import as_admin, connect

ANN, SECRET = "ann", "Ann-secret-77"


def places(engine: str) -> pytest.MarkDecorator:
    found = [
        (kind, version) for kind in datastores().values() if kind.engine == engine for version in tried(kind)
    ]
    names = [f"{kind.name}-{version.name}" for kind, version in found]
    return pytest.mark.parametrize("filled", found, ids=names, indirect=True)


@pytest.fixture
def filled(request: pytest.FixtureRequest, authority: TestAuthority) -> Iterator[Guest]:
    """With a server, and where there are such the databases shop, which is ann's, and other, which is not."""
    kind, version = cast("tuple[Datastore, Version]", request.param)
    with Guest(kind, version, authority) as guest:
        engine = guest.engine
        engine.initialise()
        engine.start()
        has_databases = isinstance(engine, Databases)
        if isinstance(engine, Databases):
            engine.create_databases([Database("shop"), Database("other")])
        assert isinstance(engine, Users)
        engine.create_users([NewUser(UserId(ANN), SECRET, ("shop",) if has_databases else ())])
        yield guest


def load(guest: Guest, content: bytes, database: str | None = "shop") -> list[str]:
    return cast("Dumps", guest.engine).load_dump(iter([content]), database)


def dumped(guest: Guest, database: str | None = "shop") -> bytes:
    content = bytearray()
    cast("Dumps", guest.engine).dump(content.extend, database, None)
    return bytes(content)


def run_in_postgresql(guest: Guest, database: str, *statements: str) -> list[tuple[Any, ...]]:
    rows: list[tuple[Any, ...]] = []
    with guest.engine.sessions.open(database) as session:  # type: ignore[attr-defined]
        for statement in statements:
            done = session.execute(statement)
            rows = done.fetchall() if done.description else []
    return rows


PLACE = "x" * 300


HOSTILE_ARCHIVES = [
    "RESET ROLE; CREATE ROLE evil SUPERUSER LOGIN;",
    "RESET SESSION AUTHORIZATION; ALTER ROLE ann SUPERUSER;",
    "RESET ROLE; COPY (SELECT 1) TO PROGRAM 'touch /tmp/argosy-evil';",
    "RESET ROLE; GRANT os_admin TO ann;",
    "RESET ROLE; DROP DATABASE other;",
    "SELECT pg_read_file('/etc/passwd');",
]


@places("postgresql")
def test_an_archive_does_nothing_a_user_of_the_database_may_not(filled: Guest) -> None:
    run_in_postgresql(
        filled, "shop", "CREATE TABLE public.victim (a int)", f"COMMENT ON TABLE public.victim IS '{PLACE}'"
    )
    before = f"COMMENT ON TABLE public.victim IS '{PLACE}';"
    content = dumped(filled)
    assert before.encode() in content
    run_in_postgresql(filled, "shop", "DROP TABLE public.victim")
    for hostile in HOSTILE_ARCHIVES:
        with pytest.raises(Invalid, match=r"permission denied|must be|cannot run"):
            load(filled, content.replace(before.encode(), hostile.ljust(len(before)).encode()))
        assert run_in_postgresql(
            filled,
            "shop",
            "SELECT (SELECT count(*) FROM pg_roles WHERE rolsuper), to_regclass('public.victim'),"
            " (SELECT count(*) FROM pg_roles WHERE rolname LIKE '%load'),"
            " (SELECT count(*) FROM pg_database WHERE datname = 'other')",
        ) == [(1, None, 0, 1)], hostile
    load(filled, content)


@places("postgresql")
def test_a_server_that_an_older_release_started_lets_an_import_in(filled: Guest) -> None:
    rules = filled.host.etc / "pg_hba.conf"
    older = [line for line in rules.read_text().splitlines() if line != "local all all scram-sha-256"]
    rules.write_text("".join(f"{line}\n" for line in older))
    run_in_postgresql(filled, "shop", "CREATE TABLE public.things (a int)", "SELECT pg_reload_conf()")
    content = dumped(filled)
    run_in_postgresql(filled, "shop", "DROP TABLE public.things")
    assert load(filled, content) == []
    assert run_in_postgresql(filled, "shop", "SELECT count(*) FROM public.things") == [(0,)]


@places("postgresql")
def test_what_an_archive_makes_belongs_to_all_users_of_the_database(filled: Guest) -> None:
    run_in_postgresql(
        filled,
        "other",
        "CREATE EXTENSION hstore SCHEMA public",
        "COMMENT ON EXTENSION hstore IS 'mine'",
        "CREATE SCHEMA deep",
        "CREATE TABLE deep.things (id serial PRIMARY KEY, name text)",
        "INSERT INTO deep.things (name) SELECT 'thing ' || n FROM generate_series(1, 1000) n",
        "CREATE VIEW public.some AS SELECT * FROM deep.things WHERE id < 11",
        "CREATE FUNCTION public.many() RETURNS bigint LANGUAGE sql AS 'SELECT count(*) FROM deep.things'",
        "CREATE PUBLICATION everything FOR ALL TABLES",
    )
    assert load(filled, dumped(filled, "other")) == []
    with filled.connect(ANN, SECRET, "shop") as session:
        session.write("key", "value")
    owners = run_in_postgresql(
        filled,
        "shop",
        "SELECT DISTINCT r.rolname ~ '^os_db_[0-9]+$' FROM pg_class c JOIN pg_roles r ON r.oid = relowner"
        " WHERE relnamespace IN ('deep'::regnamespace, 'public'::regnamespace) AND relname NOT LIKE 'written%'",
    )
    assert owners == [(True,)]
    assert run_in_postgresql(filled, "shop", "SELECT public.many(), (SELECT count(*) FROM public.some)") == [
        (1000, 10)
    ]
    assert run_in_postgresql(filled, "shop", "SET ROLE ann", "DROP SCHEMA deep CASCADE") == []
    table = bytearray()
    cast("Dumps", filled.engine).dump(table.extend, "other", "deep.things")
    group = run_in_postgresql(
        filled, "shop", "SELECT 'os_db_' || oid FROM pg_database WHERE datname = 'shop'"
    )
    run_in_postgresql(filled, "shop", f"CREATE SCHEMA deep AUTHORIZATION {group[0][0]}")
    load(filled, bytes(table))
    assert run_in_postgresql(filled, "shop", "SELECT count(*) FROM deep.things") == [(1000,)]


def run_in_mariadb(guest: Guest, *statements: str) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = []
    with guest.engine.management.session() as session:  # type: ignore[attr-defined]
        for statement in statements:
            rows = session.run(statement)
    return rows


def ask_mariadb(guest: Guest, who: tuple[str, str], *statements: str) -> list[Any]:
    """The rows of the last one."""
    user, database = who
    rows: list[Any] = []
    with contextlib.closing(mariadb.connect(guest.host, user, SECRET, database)) as connection:
        for statement in statements:
            with connection.cursor() as cursor:
                cursor.execute(statement)
                rows = list(cursor.fetchall())
    return rows


HOSTILE_SCRIPTS = [
    "\\! touch /tmp/argosy-evil",
    "system touch /tmp/argosy-evil",
    "source /etc/hostname",
    "CREATE USER evil IDENTIFIED BY 'x';",
    "GRANT ALL ON *.* TO ann;",
    "DROP DATABASE other;",
    "CREATE TABLE other.evil (a int);",
    "LOAD DATA LOCAL INFILE '/etc/passwd' INTO TABLE victim;",
    "SELECT LOAD_FILE('/etc/passwd') INTO OUTFILE 'evil';",
    "SET GLOBAL max_connections = 1;",
    "USE mysql; DELETE FROM global_priv;",
]


@places("mariadb")
def test_a_script_does_nothing_a_user_of_the_database_may_not(filled: Guest) -> None:
    for hostile in HOSTILE_SCRIPTS:
        with pytest.raises(Invalid, match="was not loaded to its end"):
            load(filled, f"CREATE OR REPLACE TABLE victim (a text);\n{hostile}\nSELECT 1;\n".encode())
        made = run_in_mariadb(filled, "SELECT COUNT(*) FROM mysql.global_priv WHERE User = 'evil'")
        assert made == [(0,)], hostile
        assert run_in_mariadb(filled, "SHOW TABLES IN other") == [], hostile
    assert not Path("/tmp/argosy-evil").exists()
    filled.connect(ANN, SECRET, "shop").close()


@places("mariadb")
def test_routines_triggers_and_views_work_for_the_users_here_whoever_made_them_elsewhere(
    filled: Guest,
) -> None:
    assert isinstance(filled.engine, RootAccess)
    filled.engine.enable_root(SECRET)
    by_admin = "CREATE DEFINER=os_admin@localhost"
    ask_mariadb(
        filled,
        ("root", "other"),
        "CREATE TABLE secret (word text)",
        "CREATE TABLE things (id int auto_increment primary key, name varchar(80), seen int)",
        f"{by_admin} TRIGGER mark BEFORE INSERT ON things FOR EACH ROW SET NEW.seen = 7",
        "INSERT INTO things (name) VALUES ('one'), ('CREATE DEFINER=`os_admin`@`localhost` PROCEDURE x')",
        f"{by_admin} SQL SECURITY DEFINER VIEW some AS SELECT name FROM things",
        f"{by_admin} FUNCTION many() RETURNS int READS SQL DATA RETURN (SELECT COUNT(*) FROM things)",
        f"{by_admin} PROCEDURE pry() SELECT COUNT(*) FROM mysql.global_priv",
        f"{by_admin} EVENT daily ON SCHEDULE EVERY 1 DAY DO DELETE FROM secret",
    )
    content = dumped(filled, "other")
    assert content.count(b"DEFINER=`os_admin`") > 4
    (remark,) = load(filled, content)
    assert "another definer" in remark
    ann = (ANN, "shop")
    ask_mariadb(filled, ann, "INSERT INTO things (name) VALUES ('two')")
    assert ask_mariadb(filled, ann, "SELECT seen FROM things WHERE name = 'two'") == [(7,)]
    assert ask_mariadb(filled, ann, "SELECT COUNT(*) FROM some") == [(3,)]
    assert ask_mariadb(filled, ann, "SELECT many()") == [(3,)]
    assert ask_mariadb(filled, ann, "SELECT COUNT(*) FROM things WHERE name LIKE '%`os_admin`@%'") == [(1,)]
    with pytest.raises(pymysql.MySQLError, match="denied"):
        ask_mariadb(filled, ann, "CALL pry()")
    assert isinstance(filled.engine, Users)
    assert [user.id.name for user in filled.engine.list_users()] == [ANN]
    assert isinstance(filled.engine, Databases)
    filled.engine.delete_database("shop")
    assert run_in_mariadb(filled, "SELECT User FROM mysql.global_priv WHERE User LIKE 'os\\_db\\_%'") == []


@places("mariadb")
def test_a_script_that_does_not_end_like_one_is_told(filled: Guest) -> None:
    (remark,) = load(filled, b"CREATE TABLE things (a int);\nINSERT INTO things VALUES (1);")
    assert "cut off" in remark
    assert run_in_mariadb(filled, "SELECT a FROM shop.things") == [(1,)]


@places("valkey")
def test_a_snapshot_is_loaded_beside_what_is_there(filled: Guest) -> None:
    with connect(filled.host, ANN, SECRET, tls=True) as ann:
        for command in ("SET both old", "SET going x EX 1000", "HSET hash a 1", "SELECT 5", "SET far away"):
            ann.ask(*command.split())
        ann.ask("SET", "binary \0\xff", "\0\xff" * 50)
        ann.ask("FUNCTION", "LOAD", "#!lua name=lib\nredis.register_function('one', function() return 1 end)")
        ann.ask("SELECT", "0")
        ann.ask("EVAL", "for i = 1, 3000 do redis.call('SET', 'n' .. i, i) end", "0")
        content = dumped(filled, None)
        for command in ("FLUSHALL", "FUNCTION FLUSH", "SET both new", "SET mine kept"):
            ann.ask(*command.split())
        # As the servers' own tools leave it behind the snapshot when they write it to a pipe.
        load(filled, content + b"0123456789" * 4, None)
        assert ann.ask("MGET", "both", "mine") == ["old", "kept"]
        assert 0 < int(ann.ask("TTL", "going")) <= 1000
        assert ann.ask("HGET", "hash", "a") == "1"
        assert ann.ask("DBSIZE") == 3004
        assert ann.ask("FCALL", "one", "0") == 1
        ann.ask("SELECT", "5")
        assert ann.ask("GET", "far") == "away"
        assert ann.ask("GET", "binary \0\xff") == "\0\xff" * 50
    assert [path.name for path in filled.host.data.parent.iterdir()] == ["data"]


@places("valkey")
def test_a_snapshot_that_takes_more_memory_than_there_is_left_is_refused(filled: Guest) -> None:
    with connect(filled.host, ANN, SECRET, tls=True) as ann:
        ann.ask("EVAL", "for i = 1, 60 do redis.call('SET', i, string.rep('x', 1000000)) end", "0")
        content = dumped(filled, None)
    with as_admin(filled.host) as admin:
        admin.ask("FLUSHALL")
    filled.engine.stop()
    filled.resize(64)
    filled.engine.start()
    with pytest.raises(Invalid, match="of memory, and of 48 MB are"):
        load(filled, content, None)
    with connect(filled.host, ANN, SECRET, tls=True) as ann:
        assert ann.ask("DBSIZE") == 0
