"""What is PostgreSQL's own."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest

from argosy.catalog import datastores
from argosy.domain.databases import Database, NewUser, UserId
from argosy.domain.errors import DatabaseNotFound, EngineError, EngineNotReady, Invalid
from argosy.engines.base import Health
from argosy.engines.host import Account
from argosy.engines.postgresql import parameters, template
from argosy.engines.postgresql.configuration import RESERVED_CONNECTIONS
from argosy.engines.postgresql.engine import PostgresEngine
from argosy.engines.postgresql.system_identifier import crc32c
from argosy.marks import started_at
from tests.support.certificates import TestAuthority
from tests.support.engines import Guest, Refused, Session

ANNA, BERT = UserId("anna"), UserId("bert")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "number" in metafunc.fixturenames:
        versions = [version.name for version in datastores()["postgresql"].versions]
        metafunc.parametrize("number", versions, ids=[f"postgresql-{name}" for name in versions])


@pytest.fixture
def postgres_place(number: str, authority: TestAuthority) -> Iterator[Guest]:
    datastore = datastores()["postgresql"]
    with Guest(datastore, datastore.version(number), authority) as guest:
        yield guest


@pytest.fixture
def here(postgres_place: Guest) -> Guest:
    postgres_place.engine.initialise()
    postgres_place.engine.start()
    return postgres_place


@pytest.fixture
def engine(here: Guest) -> PostgresEngine:
    assert isinstance(here.engine, PostgresEngine)
    return here.engine


def ask(guest: Guest, user: str, database: str, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(
        host=guest.host.address, user=user, password="secret", dbname=database, autocommit=True
    ) as connection:
        cursor = connection.execute(query.encode())
        return cursor.fetchall() if cursor.description else []


def ask_setting(guest: Guest, name: str) -> int:
    return int(ask(guest, "anna", "postgres", f"SHOW {name}")[0][0])


def fill(file: Path) -> None:
    """Take all the space there is."""
    volume = os.statvfs(file.parent)
    with file.open("wb") as target:
        os.posix_fallocate(target.fileno(), 0, volume.f_bavail * volume.f_frsize)


def control(guest: Guest) -> dict[str, str]:
    program = next(guest.host.bundle.glob("usr/**/bin/pg_controldata"))
    shown = subprocess.run(
        [program, guest.host.data], check=True, capture_output=True, text=True, env={"LC_ALL": "C"}
    )
    assert "WARNING" not in shown.stdout + shown.stderr
    return dict(line.split(":", 1) for line in shown.stdout.splitlines())


def test_crc32c_is_the_one_of_rfc_3720() -> None:
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(bytes(range(32))) == 0x46DD794E


def test_a_copy_of_the_template_has_an_identity_of_its_own(postgres_place: Guest) -> None:
    postgres_place.engine.initialise()
    first = control(postgres_place)
    postgres_place.host.data.rename(postgres_place.home / "first")
    postgres_place.engine.initialise()
    second = control(postgres_place)
    assert first["Database system identifier"] != second["Database system identifier"]
    assert first["Mock authentication nonce"] != second["Mock authentication nonce"]
    assert {key for key in first if first[key] != second[key]} == {
        "Database system identifier",
        "Mock authentication nonce",
    }


def test_a_foreign_directory_is_not_overwritten(postgres_place: Guest) -> None:
    data = postgres_place.host.data
    data.mkdir()
    (data / "left-by-another").write_text("something")
    with pytest.raises(EngineError, match=str(data)):
        postgres_place.engine.initialise()
    assert [file.name for file in data.iterdir()] == ["left-by-another"]
    assert [file.name for file in data.parent.iterdir()] == [data.name]


def test_the_data_is_forced_to_disk_behind_the_servers_back(here: Guest) -> None:
    here.wait_until(lambda: not (here.host.etc / "data-not-synced").exists(), "the data is synced", 120)


def test_the_administrator_cannot_come_by_the_network(here: Guest, engine: PostgresEngine) -> None:
    engine.enable_root("secret")
    ask(here, "root", "postgres", "ALTER ROLE os_admin PASSWORD 'secret'")
    with pytest.raises(Refused, match="pg_hba"):
        here.connect("os_admin", "secret")


def test_a_busy_backend_of_a_killed_server_does_not_keep_the_next_one_out(
    here: Guest, engine: PostgresEngine
) -> None:
    engine.create_users([NewUser(ANNA, "secret")])
    with closing(
        psycopg.connect(
            host=here.host.address, user="anna", password="secret", dbname="postgres", autocommit=True
        )
    ) as connection:
        backend = connection.info.backend_pid
        os.kill(backend, signal.SIGSTOP)  # too busy to notice anything
        here.kill_server()
        assert started_at(backend) is not None
        engine.start()
        assert engine.health() is Health.UP
        assert started_at(backend) is None


def test_a_program_that_outlives_the_server_is_not_taken_for_it(here: Guest, engine: PostgresEngine) -> None:
    engine.enable_root("secret")
    ask(here, "root", "postgres", "COPY (SELECT 1) TO PROGRAM 'cat >/dev/null; sleep 600 >/dev/null 2>&1 &'")
    engine.stop()
    agent = here.new_agent()
    assert agent.server.pid is None
    agent.start()
    assert agent.health() is Health.UP


def test_a_lock_left_by_a_server_of_which_another_program_has_the_pid_is_void(
    here: Guest, engine: PostgresEngine
) -> None:
    here.kill_server()
    lock = here.host.data / "postmaster.pid"
    lines = lock.read_text().splitlines()
    lock.write_text("\n".join([str(os.getpid()), *lines[1:]]) + "\n")
    engine.start()
    assert engine.health() is Health.UP


def test_full_of_connections_it_is_blocked_but_still_managed(here: Guest, engine: PostgresEngine) -> None:
    engine.create_users([NewUser(ANNA, "secret")])
    crowd: list[Session] = []
    try:
        room = ask_setting(here, "max_connections") - RESERVED_CONNECTIONS - 1  # one is the agent's
        crowd.extend(here.connect("anna", "secret") for _ in range(room))
        with pytest.raises(Refused, match="connection slots"):
            here.connect("anna", "secret")
        assert engine.health() is Health.BLOCKED
        assert [user.id for user in engine.list_users()] == [ANNA]
    finally:
        for session in crowd:
            session.close()
    here.wait_until(lambda: engine.health() is Health.UP, "up again")


def test_locked_out_it_is_blocked_until_it_is_started_again(here: Guest, engine: PostgresEngine) -> None:
    engine.enable_root("secret")
    ask(here, "root", "postgres", "ALTER ROLE os_admin NOLOGIN")
    agent = here.new_agent()
    assert agent.health() is Health.BLOCKED
    agent.start()
    assert agent.health() is Health.UP


def test_what_follows_from_the_volumes_size_follows_it_as_the_server_runs(
    here: Guest, engine: PostgresEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = os.statvfs(engine.host.data.parent)
    grown = os.statvfs_result((told.f_bsize, told.f_frsize, 1234 * 2**20 // told.f_frsize * 10, *told[3:]))
    monkeypatch.setattr(os, "statvfs", lambda _: grown)
    assert engine.pending_restart() == ["max_slot_wal_keep_size"]
    engine.mind_room()
    assert engine.pending_restart() == []
    with engine.sessions.open() as session:
        assert session.execute("SHOW max_slot_wal_keep_size").fetchone() == ("1234MB",)


def test_rules_that_the_server_has_not_read_yet_are_not_taken_for_those_in_force(
    here: Guest, engine: PostgresEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute = psycopg.Connection.execute

    def late(connection: Any, query: Any, *rest: Any, **options: Any) -> Any:
        """The server is told, and is slow to hear it."""
        said = "SELECT 1" if query == "SELECT pg_reload_conf()" else query
        return execute(connection, said, *rest, **options)

    monkeypatch.setattr(psycopg.Connection, "execute", late)
    monkeypatch.setattr(parameters, "_RELOAD_S", 0.2)
    with pytest.raises(EngineNotReady, match="has not read its settings"):
        engine.guard()
    monkeypatch.undo()
    engine.guard()
    with (here.host.data / "postgresql.auto.conf").open("a") as altered:
        altered.write("rubbish = (\n")
    monkeypatch.setattr(parameters, "_RELOAD_S", 0.2)
    engine.guard()  # which root cannot prevent


def test_settings_it_cannot_start_with_are_set_aside(here: Guest, engine: PostgresEngine) -> None:
    engine.enable_root("secret")
    ask(here, "root", "postgres", "ALTER SYSTEM SET max_locks_per_transaction = 2147483647")
    engine.stop()
    engine.start()
    refused = here.host.data / "postgresql.auto.conf.refused"
    assert "max_locks_per_transaction" in refused.read_text()


def test_settings_it_can_start_with_are_kept(here: Guest, engine: PostgresEngine) -> None:
    engine.enable_root("secret")
    ask(here, "root", "postgres", "ALTER SYSTEM SET work_mem = '7MB'")
    ask(here, "root", "postgres", "ALTER SYSTEM SET fsync = off")
    engine.stop()
    engine.start()
    assert ask(here, "root", "postgres", "SHOW work_mem") == [("7MB",)]
    assert ask(here, "root", "postgres", "SHOW fsync") == [("on",)]


def test_a_deleted_users_functions_do_not_become_the_administrators(
    here: Guest, engine: PostgresEngine
) -> None:
    engine.create_databases([Database("shop")])
    engine.create_users([NewUser(ANNA, "secret", ("shop",)), NewUser(BERT, "secret", ("shop",))])
    ask(
        here,
        "anna",
        "shop",
        "CREATE FUNCTION rob() RETURNS bool SECURITY DEFINER LANGUAGE sql"
        " AS 'SELECT rolsuper FROM pg_roles WHERE rolname = current_user'",
    )
    engine.delete_user(ANNA)
    assert ask(here, "bert", "shop", "SELECT rob()") == [(False,)]


def test_the_administrator_runs_no_users_function(here: Guest, engine: PostgresEngine) -> None:
    engine.create_databases([Database("shop")])
    engine.create_users([NewUser(ANNA, "secret", ("shop",))])
    for trap in (
        "CREATE TABLE public.caught (who text)",
        """CREATE FUNCTION public.trap() RETURNS name LANGUAGE sql
           AS 'INSERT INTO public.caught VALUES (current_user) RETURNING ''public''::name'""",
        "CREATE VIEW public.pg_namespace AS SELECT public.trap() AS nspname",
    ):
        ask(here, "anna", "shop", trap)
    ask(here, "anna", "shop", "ALTER DATABASE shop SET search_path = public, pg_catalog")
    engine.create_users([NewUser(BERT, "secret", ("shop",))])
    engine.delete_user(BERT)
    assert ask(here, "anna", "shop", "SELECT * FROM public.caught") == []


def test_databases_made_by_root_can_be_shared_like_ours(here: Guest, engine: PostgresEngine) -> None:
    engine.enable_root("secret")
    engine.create_users([NewUser(ANNA, "secret")])
    ask(here, "root", "postgres", "CREATE DATABASE office")
    engine.grant_access(ANNA, ["office"])
    assert engine.get_user(ANNA).databases == ("office",)
    with here.connect("anna", "secret", "office") as session:
        session.write("row", "1")
    engine.revoke_access(ANNA, "office")
    engine.delete_user(ANNA)
    engine.delete_database("office")
    assert engine.list_databases() == []


def test_a_user_of_a_database_has_every_right_on_it(here: Guest, engine: PostgresEngine) -> None:
    engine.create_databases([Database("shop")])
    engine.create_users([NewUser(ANNA, "secret", ("shop",)), NewUser(BERT, "secret", ("shop",))])
    for statement in (
        "CREATE SCHEMA stock",
        "CREATE TABLE stock.items (id serial PRIMARY KEY, name text)",
        "CREATE EXTENSION pg_trgm",
        "CREATE TEMPORARY TABLE scratch (a int)",
    ):
        ask(here, "anna", "shop", statement)
    ask(here, "bert", "shop", "INSERT INTO stock.items (name) VALUES ('nail')")
    assert ask(here, "anna", "shop", "SELECT name FROM stock.items") == [("nail",)]


def test_the_maintenance_database_is_open_but_holds_nothing(here: Guest, engine: PostgresEngine) -> None:
    engine.create_users([NewUser(ANNA, "secret")])
    assert ask(here, "anna", "postgres", "SELECT 1") == [(1,)]
    for statement in ("CREATE TABLE mine (a int)", "CREATE TEMPORARY TABLE mine (a int)"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            ask(here, "anna", "postgres", statement)


def test_a_user_may_change_its_own_password(here: Guest, engine: PostgresEngine) -> None:
    engine.create_users([NewUser(ANNA, "secret")])
    ask(here, "anna", "postgres", "ALTER ROLE anna PASSWORD 'another'")
    with here.connect("anna", "another"):
        pass


@pytest.mark.parametrize(
    ("character_set", "collate", "shown"),
    [
        (None, None, ("UTF8",)),
        ("utf8", "C", ("UTF8", "C")),
        ("UTF8", "C.UTF-8", ("UTF8",)),
        ("latin1", None, ("LATIN1", "C")),
        ("LATIN1", "POSIX", ("LATIN1",)),
        ("SQL_ASCII", "C", ("SQL_ASCII", "C")),
        (None, "en-US-x-icu", ("UTF8",)),
    ],
)
def test_a_database_has_the_character_set_and_collation_asked_for(
    here: Guest,
    engine: PostgresEngine,
    character_set: str | None,
    collate: str | None,
    shown: tuple[str, ...],
) -> None:
    engine.create_databases([Database("shop", character_set, collate)])
    (database,) = engine.list_databases()
    assert (database.character_set, database.collate)[: len(shown)] == shown


@pytest.mark.parametrize(
    ("character_set", "collate"),
    [("utf8mb4", None), ("BIG5", None), ("LATIN1", "en-US-x-nothing"), ("", None)],
)
def test_what_cannot_be_is_refused(
    engine: PostgresEngine, character_set: str | None, collate: str | None
) -> None:
    with pytest.raises(Invalid):
        engine.create_databases([Database("shop", character_set, collate)])
    assert engine.list_databases() == []


def test_names_it_would_cut_short_or_keeps_for_itself_are_refused(engine: PostgresEngine) -> None:
    for name in ("x" * 64, "ü" * 32, "", "nul\0", "postgres", "template1"):
        with pytest.raises(Invalid):
            engine.create_databases([Database(name)])
    for name in ("x" * 64, "ü" * 32, "", "nul\0", "pg_mine", "os_db_1", "public", "none", "root", "os_admin"):
        with pytest.raises(Invalid):
            engine.create_users([NewUser(UserId(name), "secret")])
    for password in ("", "nul\0"):
        with pytest.raises(Invalid):
            engine.create_users([NewUser(ANNA, password)])
    with pytest.raises(DatabaseNotFound):
        engine.delete_database("x" * 64)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small volume")
def test_out_of_space_it_is_blocked_and_recovers_when_there_is_some(postgres_place: Guest) -> None:
    volume = postgres_place.host.data.parent
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=160m,mode=0711", "argosy-test", volume], check=True)
    try:
        engine = postgres_place.engine
        assert isinstance(engine, PostgresEngine)
        engine.initialise()
        engine.start()
        engine.create_databases([Database("shop")])
        engine.create_users([NewUser(ANNA, "secret", ("shop",))])
        with postgres_place.connect("anna", "secret", "shop") as session:
            session.write("kept", "yes")
        filler = volume / "filler"
        fill(filler)
        assert engine.health() is Health.BLOCKED
        with postgres_place.connect("anna", "secret", "shop") as session:
            assert session.read() == {"kept": "yes"}
        filler.unlink()
        engine.start()
        assert engine.health() is Health.UP
        with postgres_place.connect("anna", "secret", "shop") as session:
            session.write("more", "yes")
            assert session.read() == {"kept": "yes", "more": "yes"}
        engine.stop()
    finally:
        postgres_place.engine.server.kill()
        subprocess.run(["umount", "--lazy", volume], check=True)


def test_a_copy_of_a_template_with_holes_anywhere_is_whole(tmp_path: Path) -> None:
    original, copy = tmp_path / "original", tmp_path / "copy"
    with original.open("wb") as file:
        for offset in (0, 3 << 20, 9 << 20):
            file.seek(offset)
            file.write(b"data")
        file.truncate(16 << 20)
    template._copy_file(str(original), str(copy), Account.own())
    assert copy.read_bytes() == original.read_bytes()
