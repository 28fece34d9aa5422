"""What Valkey and Redis promise beyond the shared suite: their files, their limits, their own rules."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from ipaddress import IPv4Network
from pathlib import Path
from typing import cast

import pytest

from argosy.catalog import datastores
from argosy.domain.databases import NewUser, UserChange, UserId
from argosy.domain.datastore import Datastore, Version
from argosy.domain.errors import EngineError, ImageUnavailable, Invalid, UserNotFound
from argosy.engines import choices, engine_for, gate
from argosy.engines.base import Health
from argosy.engines.valkey import ValkeyEngine
from tests.engines.test_access_rules import is_heard
from tests.support.certificates import TestAuthority
from tests.support.engines import Guest, Refused
from tests.support.valkey import ValkeySession, as_admin, connect

VERSIONS = [
    (kind, version) for kind in datastores().values() if kind.engine == "valkey" for version in kind.versions
]
ANN = UserId("ann")


@pytest.fixture(params=VERSIONS, ids=[f"{kind.name}-{version.name}" for kind, version in VERSIONS])
def guest(request: pytest.FixtureRequest, authority: TestAuthority) -> Iterator[Guest]:
    kind, version = cast("tuple[Datastore, Version]", request.param)
    try:
        guest = Guest(kind, version, authority, memory_mb=64)
    except ImageUnavailable as reason:
        pytest.skip(str(reason))
    try:
        guest.engine.initialise()
        yield guest
    finally:
        guest.remove()


@pytest.fixture
def engine(guest: Guest) -> ValkeyEngine:
    engine = cast("ValkeyEngine", guest.engine)
    engine.start()
    return engine


def session(guest: Guest, user: str, password: str) -> ValkeySession:
    return connect(guest.host, user, password, tls=True)


def eventually(condition: Callable[[], bool], seconds: float = 20) -> bool:
    never = threading.Event()
    for _ in range(int(seconds * 100)):
        if condition():
            return True
        never.wait(0.01)
    return False


def test_a_tail_cut_off_in_a_crash_costs_only_the_cut_write(guest: Guest, engine: ValkeyEngine) -> None:
    guest.sync_every_write()
    engine.create_users([NewUser(ANN, "secret")])
    with session(guest, "ann", "secret") as ann:
        for number in range(100):
            ann.ask("SET", f"key-{number}", "value")
    guest.kill_server()
    (log,) = (guest.host.data / "appendonlydir").glob("*.incr.aof")
    os.truncate(log, log.stat().st_size - 5)
    engine.start()
    with session(guest, "ann", "secret") as ann:
        assert ann.ask("DBSIZE") == 99
        assert ann.ask("SET", "more", "value") == "OK"


@pytest.mark.parametrize(
    "tampered",
    [
        "",
        "user default on nopass ~* &* +@all\n",
        "user os_admin off\nuser default off\n",
        "user os_admin on nopass ~* &* +@all\nuser default off\nuser default_ on nopass\n",
    ],
)
def test_the_agent_gets_in_and_strangers_do_not_whatever_the_acl_file_says(
    guest: Guest, tampered: str
) -> None:
    guest.host.write_file(guest.host.data / "users.acl", tampered)
    engine = cast("ValkeyEngine", guest.engine)
    engine.start()
    assert engine.health() is Health.UP
    engine.create_users([NewUser(ANN, "secret")])
    for user, password in (("default", ""), ("default", "x"), ("os_admin", ""), ("os_admin", "x")):
        with pytest.raises(Refused):
            session(guest, user, password)


def test_a_link_in_place_of_the_acl_file_is_not_followed(guest: Guest, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("user someone on #0\n")
    (guest.host.data / "users.acl").symlink_to(secret)
    with pytest.raises(EngineError, match="ACL file"):
        guest.engine.start()


def test_an_append_only_file_gone_is_damage_and_not_a_new_beginning(
    guest: Guest, engine: ValkeyEngine
) -> None:
    engine.stop()
    shutil.rmtree(guest.host.data / "appendonlydir")
    engine.initialise()
    with pytest.raises(EngineError, match="damaged"):
        engine.start()
    assert engine.health() is Health.DOWN


def test_an_append_only_file_damaged_before_its_end_is_told(guest: Guest, engine: ValkeyEngine) -> None:
    engine.create_users([NewUser(ANN, "secret")])
    with session(guest, "ann", "secret") as ann:
        for number in range(100):
            ann.ask("SET", f"key-{number}", "value")
    engine.stop()
    (log,) = (guest.host.data / "appendonlydir").glob("*.incr.aof")
    with log.open("r+b") as file:
        file.seek(log.stat().st_size // 2)
        file.write(b"rubbish" * 20)
    with pytest.raises(EngineError, match="append only file"):
        engine.start()
    assert engine.health() is Health.DOWN


def test_rights_in_the_acl_file_give_nobody_more_than_a_user_has(guest: Guest, engine: ValkeyEngine) -> None:
    engine.create_users([NewUser(ANN, "secret")])
    engine.stop()
    acl = guest.host.data / "users.acl"
    acl.write_text(acl.read_text().replace("-@admin", "+@admin").replace("-@dangerous", "+@dangerous"))
    engine.start()
    with session(guest, "ann", "secret") as ann:
        assert ann.ask("SET", "key", "value") == "OK"
        with pytest.raises(Refused, match="permissions"):
            ann.ask("CONFIG", "GET", "dir")


def test_passwords_are_kept_as_hashes_and_the_agents_in_a_file_of_its_own(
    guest: Guest, engine: ValkeyEngine
) -> None:
    engine.create_users([NewUser(ANN, "ann's secret")])
    engine.enable_root("root's secret")
    acl = (guest.host.data / "users.acl").read_text()
    own = guest.host.etc / "os_admin.password"
    assert "secret" not in acl
    assert own.read_text() not in acl
    assert own.stat().st_mode & 0o777 == 0o600
    assert own.stat().st_uid == os.geteuid()


def test_a_user_commands_the_data_and_not_the_server(guest: Guest, engine: ValkeyEngine) -> None:
    engine.create_users([NewUser(ANN, "secret")])
    with session(guest, "ann", "secret") as ann:
        ann.ask("SET", "key", "value")
        ann.ask("EVAL", "return redis.call('GET', KEYS[1])", "1", "key")
        ann.ask("SELECT", "3")
        for command in (
            "INFO",
            "KEYS *",
            "FLUSHDB",
            "FLUSHALL",
            "ROLE",
            "ACL WHOAMI",
            "LASTSAVE",
            "SWAPDB 0 3",
        ):
            ann.ask(*command.split())
        for command in ("CLIENT LIST", "SLOWLOG GET", "CONFIG GET *", "ACL LIST", "SHUTDOWN", "MONITOR"):
            with pytest.raises(Refused, match="permissions"):
                ann.ask(*command.split())


def test_root_sees_what_the_others_are_doing(guest: Guest, engine: ValkeyEngine) -> None:
    engine.enable_root("secret")
    with session(guest, "default", "secret") as root:
        assert "user=os_admin" in root.ask("CLIENT", "LIST")
        assert isinstance(root.ask("SLOWLOG", "GET"), list)
        assert root.ask("LATENCY", "LATEST") == []
        with pytest.raises(Refused, match="permissions"):
            root.ask("CLIENT", "KILL", "TYPE", "normal")


def test_databases_and_hosts_of_a_user_are_refused_in_words(engine: ValkeyEngine) -> None:
    with pytest.raises(Invalid, match="no databases"):
        engine.create_users([NewUser(ANN, "secret", databases=("0",))])
    with pytest.raises(Invalid, match="no host"):
        engine.create_users([NewUser(UserId("ann", "10.0.0.1"), "secret")])
    engine.create_users([NewUser(ANN, "secret")])
    with pytest.raises(Invalid, match="no host"):
        engine.update_user(ANN, UserChange(host="10.0.0.1"))
    with pytest.raises(UserNotFound):
        engine.delete_user(UserId("ann", "10.0.0.1"))


@pytest.mark.parametrize("name", ["os_admin", "os_repl", "default"])
def test_reserved_accounts_cannot_be_made_taken_or_removed(engine: ValkeyEngine, name: str) -> None:
    engine.create_users([NewUser(ANN, "secret")])
    with pytest.raises(Invalid, match="reserved"):
        engine.create_users([NewUser(UserId(name), "secret")])
    with pytest.raises(Invalid, match="reserved"):
        engine.update_user(ANN, UserChange(name=name))
    for act in (engine.get_user, engine.delete_user):
        with pytest.raises(UserNotFound):
            act(UserId(name))
    with pytest.raises(UserNotFound):
        engine.update_user(UserId(name), UserChange(password="mine"))


def test_a_change_that_cannot_be_kept_is_not_made(guest: Guest, engine: ValkeyEngine) -> None:
    if guest.host.account.uid == 0:
        pytest.skip("a server run as root writes anywhere")
    engine.create_users([NewUser(ANN, "secret")])
    guest.host.data.chmod(0o500)
    changes: list[Callable[[], None]] = [
        lambda: engine.create_users([NewUser(UserId("bob"), "b"), NewUser(UserId("eve"), "e")]),
        lambda: engine.update_user(ANN, UserChange(name="anne")),
        lambda: engine.update_user(ANN, UserChange(password="other")),
        lambda: engine.delete_user(ANN),
        lambda: engine.enable_root("root"),
    ]
    for change in changes:
        with pytest.raises(EngineError, match="refused"):
            change()
    assert [user.id.name for user in engine.list_users()] == ["ann"]
    session(guest, "ann", "secret").close()
    for user, password in (("bob", "b"), ("anne", "secret"), ("default", "root")):
        with pytest.raises(Refused):
            session(guest, user, password)
    guest.host.data.chmod(0o700)
    engine.update_user(ANN, UserChange(name="anne"))
    session(guest, "anne", "secret").close()


def test_a_full_volume_blocks_until_there_is_space_and_loses_nothing(guest: Guest) -> None:
    if os.geteuid() != 0:
        pytest.skip("mounting a small volume takes root")
    data, engine = guest.host.data, guest.engine
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "argosy-test", data], check=True)
    try:
        engine.initialise()
        engine.start()
        cast("ValkeyEngine", engine).create_users([NewUser(ANN, "secret")])
        with session(guest, "ann", "secret") as ann:
            ann.ask("SET", "first", "kept")
            ballast = data / "ballast"
            free = os.statvfs(data).f_bavail * os.statvfs(data).f_frsize
            ballast.write_bytes(b"x" * (free - 65536))

            def refused() -> bool:
                try:
                    ann.ask("SET", "big", "x" * 65536)
                except Refused as refusal:
                    return "MISCONF" in str(refusal)
                return False

            assert eventually(refused)
            assert engine.health() is Health.BLOCKED
            assert ann.ask("GET", "first") == "kept"
            ballast.unlink()
            assert eventually(lambda: engine.health() is Health.UP)
            guest.sync_every_write()
            assert ann.ask("SET", "second", "kept") == "OK"
        guest.kill_server()
        engine.start()
        with session(guest, "ann", "secret") as ann:
            assert ann.ask("MGET", "first", "second") == ["kept", "kept"]
    finally:
        engine.server.kill()
        subprocess.run(["umount", data], check=True)


def test_the_agent_still_gets_through_when_users_have_taken_every_connection(
    guest: Guest, engine: ValkeyEngine
) -> None:
    engine.enable_root("secret")
    assert engine.health() is Health.UP
    with ExitStack() as stack:
        for _ in range(64 * 4):
            stack.enter_context(socket.create_connection((guest.host.address, guest.host.port)))
        assert eventually(lambda: engine.health() is Health.BLOCKED)
        assert engine_for("valkey", guest.host).health() is Health.BLOCKED, "a new agent sees it too"
        engine.disable_root()
    assert eventually(lambda: engine.health() is Health.UP)


def test_the_agent_manages_a_server_whose_memory_is_full(guest: Guest, engine: ValkeyEngine) -> None:
    engine.enable_root("secret")
    guest.adapter.hostile_root["fills the memory"](guest.host, "secret")
    assert engine.health() is Health.UP
    engine.create_users([NewUser(ANN, "secret")])
    engine.update_user(ANN, UserChange(name="anne", password="other"))
    engine.disable_root()
    with session(guest, "anne", "other") as anne:
        assert anne.ask("DEL", "filler-0", "filler-1", "filler-2") == 3
        assert anne.ask("SET", "key", "value") == "OK"


def test_reading_its_data_back_is_starting(guest: Guest, engine: ValkeyEngine) -> None:
    # With a pause after every fifty entries that it reads, so that it takes long enough to be seen.
    engine.apply_parameters({"appendfsync": "always", "key-load-delay": "-50"})
    engine.create_users([NewUser(ANN, "secret")])
    with session(guest, "ann", "secret") as ann:
        ann.ask("EVAL", "for i = 1, 200000 do redis.call('SET', i, i) end", "0")
    guest.kill_server()
    seen: set[Health] = set()
    starting = threading.Thread(target=engine.start)
    starting.start()
    while starting.is_alive():
        seen.add(engine.health())
    starting.join()
    assert Health.STARTING in seen
    assert engine.health() is Health.UP


def test_a_script_without_end_is_blocked_and_ends_with_a_stop_that_loses_nothing(
    guest: Guest, engine: ValkeyEngine
) -> None:
    with as_admin(guest.host) as admin:
        admin.ask("CONFIG", "SET", "busy-reply-threshold", "100")
    engine.create_users([NewUser(ANN, "secret")])
    with session(guest, "ann", "secret") as ann:
        ann.ask("SET", "key", "value")
        ann.send("EVAL", "redis.call('SET', 'half', 'done') while true do end", "0")
        assert eventually(lambda: engine.health() is Health.BLOCKED)
        with pytest.raises(EngineError, match="BUSY"):
            engine.list_users()
        engine.stop()
    assert "bye bye" in engine.server.log_tail(), "it was killed"
    engine.start()
    with session(guest, "ann", "secret") as ann:
        assert ann.ask("GET", "key") == "value"


def test_a_busy_machine_is_given_longer_to_guard_the_port(
    guest: Guest, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut_off = gate.cut_off

    def slowly(pid: int, address: str, port: int, networks: Sequence[IPv4Network]) -> None:
        threading.Event().wait(0.25)
        cut_off(pid, address, port, networks)

    monkeypatch.setattr(gate, "cut_off", slowly)
    choices.change(guest.host, allowed_cidrs=("127.88.0.0/16",))
    guest.engine.start()
    assert guest.engine.health() is Health.UP
    assert not is_heard(guest, "127.0.0.1")
    assert is_heard(guest, "127.88.0.1")


def test_a_frozen_server_is_down(guest: Guest, engine: ValkeyEngine) -> None:
    guest.freeze_server()
    assert engine.health() is Health.DOWN
    guest.thaw_server()
    assert eventually(lambda: engine.health() is Health.UP)
