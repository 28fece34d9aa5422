"""Backups of Valkey and Redis: what they hold, what they leave behind, and what a restore refuses."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

import pytest

from argosy import marks
from argosy.catalog import datastores
from argosy.domain.databases import NewUser, UserChange, UserId
from argosy.domain.datastore import Datastore, Version
from argosy.domain.errors import BackupUnusable, EngineError, ImageUnavailable, Invalid, OutOfSpace
from argosy.engines import restores
from argosy.engines.backups import CONSISTENT_AT, FINGERPRINT, Facts, Stored
from argosy.engines.base import Health
from argosy.engines.valkey import ValkeyEngine
from tests.support.certificates import TestAuthority
from tests.support.engines import Guest, Refused, tried
from tests.support.valkey import ValkeySession, as_admin, connect

VERSIONS = [
    (kind, version)
    for kind in datastores().values()
    if kind.engine == "valkey"
    for version in tried(kind, "9")
    if version.name != "8" or "ARGOSY_TEST_LONG" in os.environ
]
ANN, BOB = UserId("ann"), UserId("bob")
PART = 2**20


@pytest.fixture(params=VERSIONS, ids=[f"{kind.name}-{version.name}" for kind, version in VERSIONS])
def kind(request: pytest.FixtureRequest) -> tuple[Datastore, Version]:
    return cast("tuple[Datastore, Version]", request.param)


@pytest.fixture
def places(kind: tuple[Datastore, Version], authority: TestAuthority) -> Iterator[Callable[[int], Guest]]:
    """Makes places of a size."""
    made: list[Guest] = []

    def make(memory_mb: int) -> Guest:
        try:
            made.append(Guest(*kind, authority, memory_mb=memory_mb))
        except ImageUnavailable as reason:
            pytest.skip(str(reason))
        return made[-1]

    try:
        yield make
    finally:
        for guest in made:
            guest.remove()


@pytest.fixture
def guest(places: Callable[[int], Guest]) -> Guest:
    """With a running server and a user."""
    guest = places(256)
    guest.engine.initialise()
    guest.engine.start()
    driving(guest).create_users([NewUser(ANN, "secret")])
    return guest


def driving(guest: Guest) -> ValkeyEngine:
    return cast("ValkeyEngine", guest.engine)


def session(guest: Guest, user: str = "ann", password: str = "secret") -> ValkeySession:  # noqa: S107 - a test's
    return connect(guest.host, user, password, tls=True)


def silent(_: str) -> None:
    """Nobody listens."""


class Archive:
    """An archive in memory."""

    def __init__(self) -> None:
        self.content = bytearray()
        self.facts: Facts = {}

    def take(self, guest: Guest) -> Archive:
        self.facts = driving(guest).back_up(self.content.extend, None, silent)
        return self

    @property
    def stored(self) -> Stored:
        return Stored(self.facts, self._read)

    def _read(self) -> Iterator[bytes]:
        for start in range(0, len(self.content), PART):
            yield bytes(self.content[start : start + PART])


def fill(guest: Guest, megabytes: int) -> None:
    """With what is hard to compress."""
    with session(guest) as ann:
        block = os.urandom(2**19).hex()
        for number in range(megabytes):
            ann.ask("SET", f"filler-{number}", str(number) + block)


def persistence(guest: Guest) -> dict[str, str]:
    with as_admin(guest.host) as admin:
        told = [str(admin.ask("INFO", section)) for section in ("persistence", "replication")]
    return dict(line.split(":", 1) for line in "\n".join(told).splitlines() if ":" in line)


def is_at_rest(guest: Guest) -> bool:
    told = persistence(guest)
    return told["rdb_bgsave_in_progress"] == "0" and told["connected_slaves"] == "0"


def assert_nothing_is_left(guest: Guest) -> None:
    guest.wait_until(lambda: is_at_rest(guest), "the server's child is gone")
    assert sorted(path.name for path in guest.host.data.parent.iterdir()) == ["data"]


def test_a_restored_server_has_all_kinds_of_data_and_its_users(
    guest: Guest, places: Callable[[int], Guest]
) -> None:
    engine = driving(guest)
    engine.create_users([NewUser(UserId(name), "other") for name in guest.adapter.hostile_names])
    engine.enable_root("a root's password")
    with session(guest) as ann:
        for command in (
            "SET plain value",
            "SET counted 12345678",
            "SET going value EX 1000",
            "RPUSH list 1 two 3",
            "ZADD sorted 1 one 2 two",
            "XADD stream 1-1 field value",
            "SADD numbers 1 2 3",
            "SETBIT bits 7 1",
            "SELECT 7",
            "SET elsewhere value",
        ):
            ann.ask(*command.split())
        ann.ask("FUNCTION", "LOAD", "#!lua name=lib\nredis.register_function('one', function() return 1 end)")
    archive = Archive().take(guest)
    assert archive.facts[FINGERPRINT] == {"keys": {"0": [8, 1], "7": [1, 0]}}
    assert archive.facts[CONSISTENT_AT].endswith("+00:00")
    assert_nothing_is_left(guest)

    other = places(256)
    restored = driving(other)
    assert restored.restore([archive.stored], None, silent) == {"reached_at": archive.facts[CONSISTENT_AT]}
    assert restored.server.pid is None
    restored.start()
    with session(other) as ann:
        assert ann.ask("GET", "plain") == "value"
        assert ann.ask("INCR", "counted") == 12345679
        assert 0 < int(ann.ask("TTL", "going")) <= 1000
        assert ann.ask("LRANGE", "list", "0", "-1") == ["1", "two", "3"]
        assert ann.ask("ZSCORE", "sorted", "two") in {"2", 2.0}
        assert ann.ask("XLEN", "stream") == 1
        assert ann.ask("FCALL", "one", "0") == 1
        ann.ask("SELECT", "7")
        assert ann.ask("GET", "elsewhere") == "value"
    for name in guest.adapter.hostile_names:
        session(other, name, "other").close()
    session(other, "default", "a root's password").close()
    assert restored.list_users() == engine.list_users()
    assert restored.check(archive.facts[FINGERPRINT], silent) == []
    # It appends to what it read: nothing is lost at the next start.
    other.sync_every_write()
    with session(other) as ann:
        ann.ask("SET", "later", "too")
    other.kill_server()
    restored.start()
    with session(other) as ann:
        assert ann.ask("MGET", "plain", "later") == ["value", "too"]


def test_a_backup_under_writes_has_what_was_acknowledged_before_it_and_counts_what_it_has(
    guest: Guest, places: Callable[[int], Guest]
) -> None:
    fill(guest, 8)
    done = threading.Event()
    written: list[int] = []

    def write() -> None:
        with session(guest) as ann:
            while not done.is_set():
                ann.ask("SET", f"key-{len(written)}", "value")
                written.append(1)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        guest.wait_until(lambda: len(written) > 100, "writes")
        before = len(written)
        archive = Archive().take(guest)
        after = len(written)
        guest.wait_until(lambda: len(written) > after, "writes go on")
    finally:
        done.set()
        writer.join()
    assert_nothing_is_left(guest)
    other = places(256)
    driving(other).restore([archive.stored], None, silent)
    driving(other).start()
    with session(other) as ann:
        there = int(ann.ask("DBSIZE")) - 8
        assert before <= there <= len(written)
        assert ann.ask("EXISTS", *[f"key-{number}" for number in range(there)]) == there, "there is a hole"
    assert archive.facts[FINGERPRINT]["keys"]["0"] == [there + 8, 0]
    assert driving(other).check(archive.facts[FINGERPRINT], silent) == []


def test_the_server_is_done_with_its_snapshot_long_before_a_slow_store(
    guest: Guest, places: Callable[[int], Guest]
) -> None:
    fill(guest, 48)
    archive = Archive()
    waits: list[int] = []
    room = guest.host.data.parent

    def write(part: bytes) -> None:
        if not waits:
            waits.append(1)
            guest.wait_until(lambda: is_at_rest(guest), "the snapshot is over")
            assert [path.name for path in room.iterdir()] == ["data"], "a dead agent would leave it behind"
        archive.content.extend(part)

    archive.facts = driving(guest).back_up(write, None, silent)
    assert len(archive.content) > 32 * 2**20, "it all fits into memory"
    assert_nothing_is_left(guest)
    other = places(256)
    driving(other).restore([archive.stored], None, silent)
    driving(other).start()
    assert driving(other).check(archive.facts[FINGERPRINT], silent) == []


def test_a_store_that_fails_ends_the_snapshot_and_the_next_backup_works(guest: Guest) -> None:
    fill(guest, 24)
    taken: list[bytes] = []

    def write(part: bytes) -> None:
        if taken:
            raise OutOfSpace("The store is full.")
        taken.append(part)

    with pytest.raises(OutOfSpace, match="The store is full"):
        driving(guest).back_up(write, None, silent)
    assert_nothing_is_left(guest)
    Archive().take(guest)


def test_a_server_that_dies_in_the_middle_is_told(guest: Guest) -> None:
    fill(guest, 48)
    killed: list[bytes] = []

    def write(part: bytes) -> None:
        if not killed:
            killed.append(part)
            guest.kill_server()

    with as_admin(guest.host) as admin:
        # Microseconds for each key, so that it is not done before.
        admin.ask("CONFIG", "SET", "rdb-key-save-delay", "100000")
    with pytest.raises(EngineError, match=r"broke its snapshot off|cut off"):
        driving(guest).back_up(write, None, silent)
    driving(guest).start()
    assert_nothing_is_left(guest)


def test_what_only_the_newest_version_has_is_backed_up_too(
    guest: Guest, places: Callable[[int], Guest]
) -> None:
    with session(guest) as ann:
        ann.ask("HSET", "hash", "going", "1", "staying", "2")
        try:
            ann.ask("HEXPIRE", "hash", "1000", "FIELDS", "1", "going")
        except Refused:
            pytest.skip("its fields do not expire")
    archive = Archive().take(guest)
    other = places(256)
    driving(other).restore([archive.stored], None, silent)
    driving(other).start()
    with session(other) as ann:
        going, staying = cast("list[int]", ann.ask("HTTL", "hash", "FIELDS", "2", "going", "staying"))
        assert 0 < going <= 1000
        assert staying == -1
    assert driving(other).check(archive.facts[FINGERPRINT], silent) == []


def test_a_backup_needs_no_connection_that_users_could_have_taken(guest: Guest) -> None:
    with ExitStack() as stack:
        for _ in range(256 * 4):
            stack.enter_context(socket.create_connection((guest.host.address, guest.host.port)))
        guest.wait_until(lambda: driving(guest).health() is Health.BLOCKED, "all connections are taken")
        Archive().take(guest)
        told = driving(guest).client.call("CONFIG", "GET", "maxclients")
        assert told == ["maxclients", str(256 * 4)]


def test_a_backup_is_never_built_on_another(guest: Guest) -> None:
    with pytest.raises(Invalid, match="only be backed up in full"):
        driving(guest).back_up(lambda _: None, {}, silent)


def cut(archive: Archive) -> None:
    del archive.content[len(archive.content) // 2 :]


def unreadable(archive: Archive) -> None:
    def read() -> Iterator[bytes]:
        yield bytes(archive.content[:100])
        raise BackupUnusable("Chunk 3 is missing.")

    archive._read = read  # type: ignore[method-assign]


def of_larger_memory(archive: Archive) -> None:
    archive.facts = {**archive.facts, "used_memory_bytes": 300 * 2**20}


def foreign(archive: Archive) -> None:
    archive.content += b"user os_admin nopass +@all\n"


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (cut, "does not have the snapshot"),
        (unreadable, "Chunk 3 is missing"),
        (of_larger_memory, "300 MB in memory and the server may hold 192 MB"),
        (foreign, "no accounts"),
    ],
)
def test_what_cannot_be_restored_leaves_nothing(
    guest: Guest, places: Callable[[int], Guest], damage: Callable[[Archive], None], told: str
) -> None:
    with session(guest) as ann:
        ann.ask("SET", "plain", "value")
    archive = Archive().take(guest)
    damage(archive)
    other = places(256)
    with pytest.raises((EngineError, BackupUnusable, Invalid), match=told):
        driving(other).restore([archive.stored], None, silent)
    assert list(other.host.data.parent.iterdir()) == []


def test_in_place_the_data_is_the_backups_and_the_users_are_those_of_now(guest: Guest) -> None:
    engine = driving(guest)
    engine.create_users([NewUser(BOB, "secret")])
    with session(guest) as ann:
        ann.ask("SET", "plain", "value")
    archive = Archive().take(guest)
    with session(guest) as ann:
        ann.ask("SET", "plain", "changed")
        ann.ask("SET", "later", "gone")
    engine.update_user(ANN, UserChange(password="newer"))
    engine.delete_user(BOB)
    engine.create_users([NewUser(UserId("cecil"), "secret")])

    restores.prepare(engine, "restore-1", [archive.stored], None, engine.dump_accounts(), silent)
    with session(guest, "ann", "newer") as ann:
        assert ann.ask("GET", "later") == "gone", "the server was left alone"
    engine.stop()
    restores.exchange(guest.host)
    engine.start()
    restores.finish(guest.host)
    with session(guest, "ann", "newer") as ann:
        assert ann.ask("MGET", "plain", "later") == ["value", None]
    assert [user.id.name for user in engine.list_users()] == ["ann", "cecil"]
    assert_nothing_is_left(guest)


def test_a_restore_in_place_needs_no_memory_beside_the_servers_and_refuses_what_no_server_would_load(
    guest: Guest,
) -> None:
    fill(guest, 1)
    archive = Archive().take(guest)
    archive.content[len(archive.content) // 2] ^= 1
    seen: list[int] = []

    def say(_: str) -> None:
        seen.extend(marks.marked({marks.INSTANCE: guest.host.instance_id, **restores.MARK}))

    with pytest.raises(EngineError, match="base of the append-only file is damaged"):
        restores.prepare(driving(guest), "restore-1", [archive.stored], None, None, say)
    assert seen == [], "a second server ran"
    assert_nothing_is_left(guest)
    with session(guest) as ann:
        assert ann.ask("DBSIZE") == 1


def test_accounts_are_carried_to_another_server_whoever_it_had(
    guest: Guest, places: Callable[[int], Guest]
) -> None:
    other = places(256)
    other.engine.initialise()
    other.engine.start()
    there = driving(other)
    there.create_users([NewUser(ANN, "before"), NewUser(BOB, "secret")])
    there.enable_root("secret")
    dump = driving(guest).dump_accounts()
    assert "secret" not in dump
    with session(other, "ann", "before") as stale:
        assert there.load_accounts(dump) == []
        with pytest.raises(Refused):
            stale.ask("PING")
    session(other).close()
    for name, password in (("bob", "secret"), ("default", "secret"), ("ann", "before")):
        with pytest.raises(Refused):
            session(other, name, password)
    there.stop()
    there.start()
    session(other).close()
    with pytest.raises(Refused), session(other) as ann:
        ann.ask("CONFIG", "GET", "*")
    for damaged in ("user ann nopass\n", "user ann on", "CREATE USER ann;\n"):
        with pytest.raises(Invalid):
            there.load_accounts(damaged)


def test_a_check_tells_of_a_damaged_base_and_of_keys_that_are_missing(
    guest: Guest, places: Callable[[int], Guest]
) -> None:
    fill(guest, 1)
    archive = Archive().take(guest)
    other = places(256)
    driving(other).restore([archive.stored], None, silent)
    driving(other).start()
    with session(other) as ann:
        ann.ask("DEL", "filler-0")
    expected: Any = {"keys": {"0": [1, 0], "3": [4, 2]}}
    assert driving(other).check(expected, silent) == [
        "Database 0 has 0 keys that do not expire, not 1.",
        "Database 3 has 0 keys that do not expire, not 2.",
    ]
    base = next(Path(other.host.data / "appendonlydir").glob("*.base.rdb"))
    content = bytearray(base.read_bytes())
    content[len(content) // 2] ^= 1
    base.write_bytes(content)
    (wrong,) = driving(other).check(None, silent)
    assert "base of the append-only file is damaged" in wrong
