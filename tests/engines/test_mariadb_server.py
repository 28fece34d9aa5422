"""What MariaDB promises beyond the shared suite: hosts, grants, a hostile root, full connections and disks."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import cast

import pymysql
import pytest

from argosy.catalog import datastores
from argosy.domain.databases import Database, NewUser, User, UserChange, UserId
from argosy.domain.datastore import Version
from argosy.domain.errors import AccessNotFound, ImageUnavailable, Invalid, UserNotFound
from argosy.engines.base import Health
from argosy.engines.mariadb import MariaDbEngine
from argosy.engines.mariadb.management import AccountLost
from tests.support.certificates import TestAuthority
from tests.support.engines import Guest, Refused
from tests.support.mariadb import as_root, connect, refusals

MARIADB = datastores()["mariadb"]
ANN = UserId("ann")


@pytest.fixture(params=MARIADB.versions, ids=[version.name for version in MARIADB.versions])
def guest(request: pytest.FixtureRequest, authority: TestAuthority) -> Iterator[Guest]:
    try:
        guest = Guest(MARIADB, cast("Version", request.param), authority, memory_mb=256)
    except ImageUnavailable as reason:
        pytest.skip(str(reason))
    try:
        yield guest
    finally:
        guest.remove()


@pytest.fixture
def engine(guest: Guest) -> MariaDbEngine:
    engine = cast("MariaDbEngine", guest.engine)
    engine.initialise()
    engine.start()
    return engine


def ask(guest: Guest, user: str, password: str, *statements: str) -> list[object]:
    """Answers of the last statement, the first column."""
    with (
        closing(connect(guest.host, user, password)) as connection,
        connection.cursor() as cursor,
        refusals(),
    ):
        for statement in statements:
            cursor.execute(statement)
        return [row[0] for row in cursor.fetchall()]


def _come_until_refused(guest: Guest, crowd: ExitStack) -> None:
    for _ in range(1000):
        try:
            crowd.enter_context(guest.connect("ann", "secret", "shop"))
        except Refused as refusal:
            assert "Too many connections" in str(refusal)  # noqa: PT017  # which try is refused is the server's to say
            return
    raise AssertionError("a thousand connections were let in")


def _fill(ballast: Path) -> None:
    with ballast.open("wb", buffering=0) as file:
        for size in (2**20, 2**12):
            with suppress(OSError):
                while file.write(bytes(size)) == size:
                    pass


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.%.%", "127.0.0.0/255.0.0.0"])
def test_a_user_enters_from_its_host(guest: Guest, engine: MariaDbEngine, host: str) -> None:
    engine.create_users([NewUser(UserId("ann", host), "secret")])
    with guest.connect("ann", "secret"):
        assert engine.list_users() == [User(UserId("ann", host))]


@pytest.mark.parametrize("host", ["10.0.0.1", "10.%.%.%", "10.0.0.0/255.0.0.0"])
def test_a_user_does_not_enter_from_elsewhere(guest: Guest, engine: MariaDbEngine, host: str) -> None:
    engine.create_users([NewUser(UserId("ann", host), "secret")])
    with pytest.raises(Refused):
        guest.connect("ann", "secret")


def test_users_of_one_name_at_two_hosts_are_two(guest: Guest, engine: MariaDbEngine) -> None:
    near = UserId("ann", "127.0.0.1")
    engine.create_databases([Database("shop")])
    engine.create_users([NewUser(ANN, "far", ("shop",)), NewUser(near, "near", ("shop",))])
    with guest.connect("ann", "near", "shop") as session:
        session.write("key", "value")
        engine.revoke_access(ANN, "shop")
        assert session.read() == {"key": "value"}
        engine.revoke_access(near, "shop")
        with pytest.raises(Refused):
            session.read()


def test_a_wildcard_in_a_name_opens_no_other_database(guest: Guest, engine: MariaDbEngine) -> None:
    engine.create_databases([Database(name) for name in ("a_b", "axb", "a%", "a\\_b")])
    engine.create_users([NewUser(ANN, "secret", ("a_b",))])
    assert engine.get_user(ANN).databases == ("a_b",)
    for other in ("axb", "a%", "a\\_b"):
        with pytest.raises(Refused):
            guest.connect("ann", "secret", other)


def test_access_by_patterns_made_in_sql_shows_and_is_left_to_sql(guest: Guest, engine: MariaDbEngine) -> None:
    engine.create_databases([Database("app_one"), Database("app_two"), Database("other")])
    engine.create_users([NewUser(ANN, "secret")])
    engine.enable_root("of root")
    as_root("GRANT SELECT ON `app%`.* TO ann@'%'")(guest.host, "of root")
    assert engine.get_user(ANN).databases == ("app_one", "app_two")
    with pytest.raises(Invalid, match="in SQL"):
        engine.revoke_access(ANN, "app_one")
    with pytest.raises(AccessNotFound):
        engine.revoke_access(ANN, "other")


def test_access_does_not_outlive_its_database(guest: Guest, engine: MariaDbEngine) -> None:
    engine.create_databases([Database("shop")])
    engine.create_users([NewUser(ANN, "secret", ("shop",))])
    engine.delete_database("shop")
    engine.create_databases([Database("shop")])
    assert engine.get_user(ANN).databases == ()
    with pytest.raises(Refused):
        guest.connect("ann", "secret", "shop")


def test_a_transaction_left_open_does_not_keep_a_database(guest: Guest, engine: MariaDbEngine) -> None:
    engine.create_databases([Database("shop"), Database("elsewhere")])
    engine.create_users([NewUser(ANN, "secret", ("shop", "elsewhere"))])
    with closing(connect(guest.host, "ann", "secret", "elsewhere")) as connection:
        with connection.cursor() as cursor:
            cursor.execute("CREATE TABLE shop.things (number INT)")
            cursor.execute("BEGIN")
            cursor.execute("INSERT INTO shop.things VALUES (1)")
        engine.delete_database("shop")
    assert [database.name for database in engine.list_databases()] == ["elsewhere"]


def test_character_sets_are_the_servers_to_judge(engine: MariaDbEngine) -> None:
    with pytest.raises(Invalid, match="klingon"):
        engine.create_databases([Database("first"), Database("second", character_set="klingon")])
    with pytest.raises(Invalid, match="not valid for CHARACTER SET"):
        engine.create_databases([Database("third", character_set="latin1", collate="utf8mb4_bin")])
    assert engine.list_databases() == []
    asked = [Database("bin", "utf8mb4", "utf8mb4_bin"), Database("old", "latin1", "latin1_german2_ci")]
    engine.create_databases(asked)
    assert engine.list_databases() == asked


@pytest.mark.parametrize("name", ["x" * 65, "\u65e5" * 64, "blank ", "four\U0001f600bytes"])
def test_a_name_the_server_cannot_keep_is_refused(engine: MariaDbEngine, name: str) -> None:
    with pytest.raises(Invalid):
        engine.create_databases([Database("first"), Database(name)])
    assert engine.list_databases() == []


def test_a_rename_that_fails_leaves_the_password(guest: Guest, engine: MariaDbEngine) -> None:
    engine.create_users([NewUser(ANN, "old")])
    with pytest.raises(Invalid, match="too long"):
        engine.update_user(ANN, UserChange(name="x" * 129, password="new"))
    with guest.connect("ann", "old"):
        assert engine.list_users() == [User(ANN)]


def test_a_renamed_user_has_no_session_under_the_old_name(guest: Guest, engine: MariaDbEngine) -> None:
    engine.create_databases([Database("shop")])
    engine.create_users([NewUser(ANN, "secret", ("shop",))])
    with guest.connect("ann", "secret", "shop") as session:
        engine.update_user(ANN, UserChange(host="127.0.0.1"))
        with pytest.raises(Refused):
            session.read()
    assert engine.get_user(UserId("ann", "127.0.0.1")).databases == ("shop",)
    with pytest.raises(UserNotFound):
        engine.get_user(ANN)


def test_a_damaged_account_is_mended_while_the_server_runs(guest: Guest, engine: MariaDbEngine) -> None:
    engine.enable_root("of root")
    before = engine.server.pid
    as_root("DROP USER os_admin@localhost")(guest.host, "of root")
    assert engine.health() is Health.UP
    guest.new_agent()
    guest.engine.start()
    assert cast("MariaDbEngine", guest.engine).list_users() == []
    assert guest.engine.server.pid == before


def test_a_lost_account_is_told_and_a_start_is_the_cure(guest: Guest, engine: MariaDbEngine) -> None:
    engine.create_databases([Database("shop")])
    engine.enable_root("of root")
    as_root("ALTER USER os_admin@localhost ACCOUNT LOCK", "KILL USER os_admin")(guest.host, "of root")
    assert engine.health() is Health.BLOCKED
    with pytest.raises(AccountLost, match="restart the instance"):
        engine.list_users()
    engine.start()
    assert engine.health() is Health.UP
    assert engine.list_databases()[0].name == "shop"


@pytest.mark.parametrize(
    "crime",
    [
        ("DELETE FROM mysql.global_priv", "FLUSH PRIVILEGES", "KILL USER os_admin"),
        ("UPDATE mysql.global_priv SET Priv = '{}'", "FLUSH PRIVILEGES", "KILL USER os_admin"),
        ("DROP TABLE mysql.global_priv",),
        ("DROP TABLE mysql.db",),
        ("ALTER TABLE mysql.global_priv ENGINE = InnoDB",),
        ("DROP DATABASE mysql",),
    ],
    ids=lambda crime: cast("str", crime[0]),
)
def test_the_data_outlives_the_accounts(guest: Guest, engine: MariaDbEngine, crime: tuple[str, ...]) -> None:
    engine.create_databases([Database("shop")])
    engine.create_users([NewUser(ANN, "secret", ("shop",))])
    with guest.connect("ann", "secret", "shop") as session:
        session.write("key", "value")
    engine.enable_root("of root")
    as_root(*crime)(guest.host, "of root")
    engine.stop()
    engine.start()
    if ANN in [user.id for user in engine.list_users()]:
        engine.update_user(ANN, UserChange(password="secret"))
    else:
        engine.create_users([NewUser(ANN, "secret")])
        assert engine.get_user(ANN).databases == ()
    engine.grant_access(ANN, ["shop"])
    with guest.connect("ann", "secret", "shop") as session:
        assert session.read() == {"key": "value"}


def test_root_reads_no_file_of_ours(guest: Guest, engine: MariaDbEngine) -> None:
    engine.enable_root("of root")
    for file in ("init.sql", "os_admin.password", "server.key"):
        path = guest.host.etc / file
        assert path.exists()
        assert ask(guest, "root", "of root", f"SELECT LOAD_FILE('{path}')") == [None]


def test_root_at_other_hosts_goes_with_root(guest: Guest, engine: MariaDbEngine) -> None:
    engine.enable_root("of root")
    as_root("CREATE USER root@'127.0.0.1' IDENTIFIED BY 'back door'", "GRANT ALL ON *.* TO root@'127.0.0.1'")(
        guest.host, "of root"
    )
    engine.disable_root()
    for password in ("of root", "back door"):
        with pytest.raises(Refused):
            guest.connect("root", password)


def test_users_cannot_crowd_the_agent_out(guest: Guest, engine: MariaDbEngine) -> None:
    engine.create_databases([Database("shop")])
    engine.create_users([NewUser(ANN, "secret", ("shop",))])
    with ExitStack() as crowd:
        _come_until_refused(guest, crowd)
        assert engine.health() is Health.BLOCKED
        # An agent that comes new finds the door shut, too, but for the one place kept for it.
        engine.management.close()
        assert engine.health() is Health.BLOCKED
        engine.revoke_access(ANN, "shop")
        assert engine.health() is Health.UP


def test_a_request_that_waits_does_not_make_the_server_look_down(guest: Guest, engine: MariaDbEngine) -> None:
    with engine.management.session():
        assert engine.health() is Health.UP


def test_a_small_flavor_serves_all_its_connections(guest: Guest, engine: MariaDbEngine) -> None:
    engine.stop()
    small = cast("MariaDbEngine", guest.resize(128))
    small.start()
    small.create_databases([Database("shop")])
    small.create_users([NewUser(ANN, "secret", ("shop",))])
    with ExitStack() as users:
        sessions = [users.enter_context(guest.connect("ann", "secret", "shop")) for _ in range(20)]
        for number, session in enumerate(sessions):
            session.write(f"key {number}", "value")
        assert len(sessions[0].read()) == 20


@pytest.mark.skipif(os.geteuid() != 0, reason="only root mounts a small volume")
def test_a_full_volume_blocks_and_room_frees(guest: Guest) -> None:
    volume = guest.host.data.parent
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256m,mode=711", "tmpfs", volume], check=True)
    try:
        guest.engine.initialise()
        guest.engine.start()
        assert guest.engine.health() is Health.UP
        ballast = volume / "ballast"
        _fill(ballast)
        assert guest.engine.health() is Health.BLOCKED
        ballast.unlink()
        assert guest.engine.health() is Health.UP
    finally:
        guest.engine.server.kill()
        subprocess.run(["umount", "-l", volume], check=True)


def test_the_agents_statements_are_in_no_log_of_roots(guest: Guest, engine: MariaDbEngine) -> None:
    engine.enable_root("of root")
    as_root(
        "SET GLOBAL log_output = 'TABLE'", "SET GLOBAL general_log = 1",
        "SET GLOBAL slow_query_log = 1", "SET GLOBAL long_query_time = 0",
    )(guest.host, "of root")  # fmt: skip
    engine.management.close()
    engine.create_users([NewUser(ANN, "secret")])
    logged = ask(guest, "root", "of root", "SELECT argument FROM mysql.general_log")
    logged += ask(guest, "root", "of root", "SELECT sql_text FROM mysql.slow_log")
    assert logged
    assert not [statement for statement in logged if b"ann" in bytes(str(statement), "utf-8")]


def test_the_server_speaks_only_at_its_address(guest: Guest, engine: MariaDbEngine) -> None:
    engine.create_users([NewUser(ANN, "secret")])
    with pytest.raises(pymysql.err.OperationalError, match="refused"):
        pymysql.connect(host="127.77.255.254", port=guest.host.port, user="ann", password="secret")
