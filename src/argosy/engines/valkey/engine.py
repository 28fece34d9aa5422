"""One Valkey or Redis server: start, stop, health, users and root."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

from argosy.domain.databases import ANY_HOST, NewUser, User, UserChange, UserId
from argosy.domain.errors import EngineError, EngineNotReady, Invalid, UserExists, UserNotFound
from argosy.engines.base import ChecksSize, Engine, Health, RootAccess, RotatesPassword, Users
from argosy.engines.host import Host
from argosy.engines.layers import Layers
from argosy.engines.logs import LayeredLogs
from argosy.engines.process import ServerProcess, until_next_look_s
from argosy.engines.valkey import configuration
from argosy.engines.valkey.accounts import ADMIN, RESERVED, ROOT, Accounts
from argosy.engines.valkey.backups import ACL_FILE, DIRECTORY, MANIFEST, SOCKET, ValkeyBackups, lay_manifest
from argosy.engines.valkey.client import Client, Refused
from argosy.engines.valkey.configuration import find_program
from argosy.engines.valkey.dumps import ValkeyDumps
from argosy.engines.valkey.guard import ValkeyGuard
from argosy.engines.valkey.upgrade import ValkeyUpgrades

_SILENCE_S = 30
_STOP_S = 60


class ValkeyEngine(
    LayeredLogs,
    ValkeyGuard,
    ValkeyUpgrades,
    ValkeyDumps,
    ValkeyBackups,
    Engine,
    Users,
    RootAccess,
    RotatesPassword,
    ChecksSize,
):
    """Drives one server through its Unix socket.

    The ACL file lies in the data directory: users are data, they move and are kept with it.
    """

    root_name = ROOT

    def __init__(self, host: Host, server: ServerProcess) -> None:
        self.host = host
        self.server = server
        self._applying = threading.RLock()
        self._socket = host.run / SOCKET
        self._aclfile = host.data / ACL_FILE
        self._log = host.data / DIRECTORY / MANIFEST
        password_file = host.etc / f"{ADMIN}.password"
        # Two connections, so that health is known while a command takes its time.
        self.client = Client(self._socket, ADMIN, password_file.read_text, timeout_s=30)
        self._probe = Client(self._socket, ADMIN, password_file.read_text, timeout_s=1)
        self._accounts = Accounts(host, self.client, self._aclfile, password_file)

    def build_template(self) -> None:
        """Make an empty directory: the server makes its own files in milliseconds."""
        self.host.make_directory(self.host.template)

    def initialise(self) -> None:
        """Lay an append-only file without entries: from then on, data that is not there is data lost."""
        self.host.make_directory(self.host.data)
        if self._log.exists() or self._aclfile.exists():
            return
        unfinished = self.host.data / ".appendonlydir.new"
        shutil.rmtree(unfinished, ignore_errors=True)
        self.host.make_directory(unfinished)
        lay_manifest(self.host, unfinished, base=False)
        unfinished.rename(self._log.parent)

    def start(self) -> None:
        if self.server.pid is None:
            # Without its append-only file the server would come up, empty, as if nothing had ever been.
            if not self._log.exists():
                raise EngineError(
                    f"The data directory is damaged: {self._log} is missing. Restore the instance from a backup."
                )
            self._accounts.prepare()
            with self._applying:
                self._launch(self.layers())
        self._wait_until_up()
        self.open_port()
        self.started()

    def start_reading(self, snapshot: str) -> None:
        """Start the server of a private place on nothing but a snapshot in its data directory, and keep nothing."""
        self._accounts.prepare()
        layers = self.layers()
        owned = {**layers.owned, "appendonly": "no", "dbfilename": snapshot}
        group = {name: value for name, value in layers.group.items() if name == "databases"}
        self._launch(replace(layers, group=group, owned=owned))
        self._wait_until_up()

    def start_bare(self) -> None:
        self.stop()
        self._launch(replace(self.layers(), flavor={}, logs={}, group={}))
        self._wait_until_up()

    def _launch(self, layers: Layers) -> None:
        self.starting_with(layers)
        file = self.host.write_file(self.host.etc / "server.conf", configuration.text(layers))
        self.server.start([find_program(self.host.bundle), file])

    def _wait_until_up(self) -> None:
        began = time.monotonic()
        deadline = began + _SILENCE_S
        while (health := self.health()) not in {Health.UP, Health.BLOCKED}:
            if self.server.pid is None:
                raise EngineError(f"The database server ended while starting:\n{self.server.log_tail()}")
            if health is Health.STARTING:
                # It is reading its data back, which takes as long as there is much of it.
                deadline = time.monotonic() + _SILENCE_S
            elif time.monotonic() > deadline:
                raise EngineError(
                    f"The database server did not answer for {_SILENCE_S} s:\n{self.server.log_tail()}"
                )
            time.sleep(until_next_look_s(began))

    def stop(self) -> None:
        """Whatever was acknowledged is in the append-only file, which the server syncs before it ends.

        While a script runs the signal is not looked at, and a script that has written cannot be ended; SHUTDOWN
        NOSAVE is obeyed even then (Redis manual, EVAL). It leaves out a snapshot only, and we have none.
        """
        deadline = time.monotonic() + _STOP_S
        self.server.send(signal.SIGTERM)
        while not self.server.wait(1) and time.monotonic() < deadline:
            with contextlib.suppress(EngineError, EngineNotReady, OSError):
                self._probe.call("SHUTDOWN", "NOSAVE")
        self.server.stop(signal.SIGTERM, 0)
        self.client.close()
        self._probe.close()

    def health(self) -> Health:
        """By the fields of INFO (Redis manual).

        `loading` is 1 while data is read back; after a failed append the server refuses every write (MISCONF)
        until one succeeds; beyond `maxclients` it hangs up on newcomers.
        """
        if self.server.pid is None:
            return Health.DOWN
        try:
            info = self._probe.info("persistence", "clients")
        except Refused as refusal:
            # Others are BUSY (a script that does not end) and "max number of clients reached".
            return Health.STARTING if refusal.reply.startswith("LOADING") else Health.BLOCKED
        except (EngineNotReady, OSError):
            return Health.DOWN
        if info["loading"] == "1":
            return Health.STARTING
        full = int(info["connected_clients"]) >= int(info["maxclients"])
        return Health.BLOCKED if full or info["aof_last_write_status"] != "ok" else Health.UP

    def server_version(self) -> str:
        """Valkey's own version; as redis_version it tells the Redis it is compatible with."""
        server = self.client.info("server")
        return server.get("valkey_version") or server["redis_version"]

    def check_size(self, memory_mb: int) -> None:
        """A server that may not evict refuses every write once it holds more than `maxmemory`."""
        if self.server.pid is None:
            return
        settings = configuration.layers(
            replace(self.host, memory_mb=memory_mb), socket=self._socket, aclfile=self._aclfile, tls=False
        ).settable
        if settings["maxmemory-policy"] != "noeviction":
            return
        most = configuration.bytes_of(settings["maxmemory"])
        used = int(self.client.info("memory")["used_memory"])
        if most and used > most:
            raise EngineError(
                f"The server holds {used / 2**20:.0f} MB and at the new size it may hold {most / 2**20:.0f} MB: delete "
                "some of it, have it evict keys (maxmemory-policy), or choose a larger flavor.",
                code="does-not-fit",
            )

    def used_bytes(self) -> int:
        return sum(_sizes(self.host.data))

    def layers(self) -> Layers:
        return configuration.layers(
            self.host,
            socket=self._socket,
            aclfile=self._aclfile,
            tls=self.serves_tls,
        )

    def list_users(self) -> list[User]:
        return sorted((User(UserId(name)) for name in self._accounts.names()), key=lambda user: str(user.id))

    def get_user(self, user: UserId) -> User:
        if user.host != ANY_HOST or user.name not in self._accounts.names():
            raise UserNotFound(name=user.name, host=user.host)
        return User(user)

    def create_users(self, users: Sequence[NewUser]) -> None:
        taken = self._accounts.names()
        for user in users:
            _check(user.id.name, user.id.host)
            if user.databases:
                raise Invalid(
                    f"User {user.id.name!r}: this datastore has no databases to let users into; "
                    "leave `databases` out."
                )
            if user.id.name in taken:
                raise UserExists(name=user.id.name, host=user.id.host)
            taken.add(user.id.name)
        if users:
            self._accounts.add([(user.id.name, user.password) for user in users])

    def update_user(self, user: UserId, change: UserChange) -> None:
        """Also ends the user's sessions."""
        self.get_user(user)
        _check(change.name if change.name is not None else user.name, change.host or ANY_HOST)
        if change.name is not None and change.name != user.name and change.name in self._accounts.names():
            raise UserExists(name=change.name, host=ANY_HOST)
        self._accounts.alter(user.name, new_name=change.name, password=change.password)

    def delete_user(self, user: UserId) -> None:
        self.get_user(user)
        self._accounts.remove(user.name)

    def enable_root(self, password: str) -> None:
        self._accounts.enable_root(password)

    def disable_root(self) -> None:
        self._accounts.disable_root()

    def rotate_password(self) -> None:
        def prove(password: str) -> None:
            with contextlib.closing(Client(self._socket, ADMIN, lambda: password, timeout_s=10)) as proof:
                proof.call("PING")

        self._accounts.rotate_own(prove)


def _check(name: str, host: str) -> None:
    if host != ANY_HOST:
        raise Invalid(f"User {name!r}: users of this datastore have no host; leave `host` out.")
    if name in RESERVED:
        raise Invalid(f"User name {name!r} is reserved: choose another.")


def _sizes(directory: os.PathLike[str] | str) -> Iterator[int]:
    """Bytes of each file below a directory; files come and go while the server runs."""
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    yield from _sizes(entry)
                else:
                    try:
                        yield entry.stat(follow_symlinks=False).st_size
                    except FileNotFoundError:
                        continue
    except FileNotFoundError:
        return
