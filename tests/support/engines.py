"""A database server for a test, and what the shared engine suite asks of each kind of server.

Each kind has a module beside this one, named like its engine, whose `ADAPTER` speaks to the server as
its users would, with their driver and never through our engine.
"""

from __future__ import annotations

import fcntl
import importlib
import os
import shutil
import signal
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self, cast

from argosy.domain.datastore import Datastore, Version
from argosy.engines import engine_for
from argosy.engines.base import Configurable, Engine
from argosy.engines.host import Account, Host, TlsFiles
from tests.support import files
from tests.support.certificates import TestAuthority
from tests.support.images import image
from tests.support.scratch import new_place

# Of every run of tests on this machine.
_CLAIMS = Path("/var/tmp") / f"argosy-engine-tests-{os.geteuid()}" / "claims"
_FIRST_UID = 1900000000  # a number without a line in /etc/passwd, as the local platform gives each instance


class Refused(Exception):
    """The server did not let the user in, or not do this; it answered, or hung up."""


class Session(Protocol):
    """A user's own connection. Every method raises Refused when the server refuses or has hung up."""

    @property
    def encrypted(self) -> bool:
        """Whether the connection is under TLS, as the server or the socket says."""

    def write(self, key: str, value: str) -> None:
        """Store a value where `read` finds it; returns when the server has acknowledged it."""

    def read(self) -> dict[str, str]:
        """All that `write` stored, by any user, in this database (or server, where there are none)."""

    def close(self) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Adapter(Protocol):
    """How the shared suite speaks to one kind of server.

    `hostile_names` are names a user may legally give databases and users, chosen to break careless
    quoting; pairs that differ in case only are among them where the engine tells them apart.
    `hostile_root` has, by a few words each, what an administrator may do to shut the agent out: the
    agent must manage the server again at the latest after it was stopped and started.
    """

    @property
    def hostile_names(self) -> Sequence[str]: ...

    @property
    def hostile_root(self) -> Mapping[str, Callable[[Host, str], None]]:
        """Each is called with the place and root's password."""

    def connect(self, host: Host, user: str, password: str, database: str | None = None) -> Session:
        """Connect over TCP, under TLS with the certificate verified against the place's CA when it has TLS.

        Raises Refused. Without a database: wherever a user without any would begin.
        """

    def connect_plainly(self, host: Host, user: str, password: str, database: str | None = None) -> Session:
        """Connect over TCP without TLS. Raises Refused."""

    def cache_mb(self, host: Host) -> float:
        """The server's main memory setting (buffer pool, maxmemory) in MiB, as the running server has it."""


def tried(datastore: Datastore, *besides: str) -> list[Version]:
    """Versions that a datastore's own long suites run on: all in `make test-long`, else the default and those named."""
    everyday = {datastore.default_version, *besides}
    every = "ARGOSY_TEST_LONG" in os.environ
    return [version for version in datastore.versions if every or version.name in everyday]


def adapter_for(engine: str) -> Adapter:
    return cast("Adapter", importlib.import_module(f"tests.support.{engine}").ADAPTER)


class Guest:
    """One instance's place on this machine and the engine that drives it, as an agent would hold them.

    The directories are laid out as the local platform does: the agent's own, with those the server
    writes to handed to the server's account. Everything is gone after `remove`, whatever happened.
    """

    def __init__(
        self, datastore: Datastore, version: Version, authority: TestAuthority | None, memory_mb: int = 512
    ) -> None:
        bundle, template = image(datastore.name, version.name)
        self.datastore = datastore
        self.adapter = adapter_for(datastore.engine)
        self._number, self._claim = _claim_address()
        self.home = new_place("e")
        account = Account.own()
        if account.uid == 0:
            account = Account(_FIRST_UID + self._number, _FIRST_UID + self._number)
        self.host = Host(
            instance_id=str(uuid.uuid4()),
            version=version.name,
            bundle=bundle,
            template=template,
            data=self.home / "volume" / "data",
            etc=self.home / "etc",
            run=self.home / "run",
            logs=self.home / "logs",
            address=_address(self._number),
            port=datastore.port,
            memory_mb=memory_mb,
            vcpus=1,
            tls=None,
            account=account,
        )
        for path in (self.host.data.parent, self.host.etc):
            path.mkdir(mode=0o711)
            path.chmod(0o711)
        for path in (self.host.run, self.host.logs):
            self.host.make_directory(path)
        if authority is not None:
            self.host = replace(self.host, tls=self._tls(authority))
        self.engine = engine_for(self.datastore.engine, self.host)
        self._agents: list[
            Engine
        ] = []  # their servers are this process's children, to be waited for in the end

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.remove()

    def new_agent(self) -> Engine:
        """What a restarted agent has: an engine that remembers nothing."""
        self._agents.append(self.engine)
        self.engine = engine_for(self.datastore.engine, self.host)
        return self.engine

    def resize(self, memory_mb: int) -> Engine:
        """Give the place another size; the engine is a new one, its server must be stopped."""
        self.host = replace(self.host, memory_mb=memory_mb)
        return self.new_agent()

    def connect(self, user: str, password: str, database: str | None = None) -> Session:
        return self.adapter.connect(self.host, user, password, database)

    def sync_every_write(self) -> None:
        """Have the server acknowledge no write before it is on disk, where it does not do so by itself.

        With their default (`appendfsync everysec`) Valkey and Redis put an append off, for two seconds at most, while
        an earlier sync has not ended (aof.c, flushAppendOnlyFile): see the guarantees of the datastore.
        """
        if self.datastore.engine == "valkey":
            assert isinstance(self.engine, Configurable)
            self.engine.apply_parameters({"appendfsync": "always"})

    def kill_server(self) -> None:
        """Kill the server's main process as the kernel would, without a word to the engine."""
        pid = self.engine.server.pid
        assert pid is not None, "no server runs"
        os.kill(pid, signal.SIGKILL)
        # It ends when what it has asked of the disk is done.
        assert self.engine.server.wait(60), "the killed server is still there"

    def freeze_server(self) -> None:
        """Stop every process of the server from running, as a host out of breath would."""

        def stands_still() -> bool:
            # Again, for what the main process forked before it was reached itself.
            self._send_all(signal.SIGSTOP)
            return all(map(_is_stopped, self._processes()))

        # A thread that another processor is at goes on for a moment.
        self.wait_until(stands_still, "all of it stands still")

    def thaw_server(self) -> None:
        self._send_all(signal.SIGCONT)

    def wait_until(self, condition: Callable[[], bool], what: str, timeout_s: float = 30) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, f"in vain: {what}"
            time.sleep(0.01)

    def with_another_authority(self) -> Host:
        """The place as a client sees it that trusts someone else's certificates."""
        assert self.host.tls is not None
        other = self.home / "other-ca.crt"
        other.write_text(TestAuthority().certificate)
        return replace(self.host, tls=replace(self.host.tls, ca=other))

    def everything_written(self) -> str:
        """The text of every file of the instance outside its data: logs, configuration, pid files."""
        written = [
            data
            for file, data in files.read(self.host.logs, self.host.etc, self.host.run)
            if file.suffix != ".key"
        ]
        written += [
            file.read_bytes()
            for file in files.below(self.host.data)
            if file.suffix in {".log", ".err", ".csv"}
        ]
        return b"\n".join(written).decode(errors="replace")

    def remove(self) -> None:
        try:
            self.thaw_server()
            self.engine.server.kill()
            for agent in self._agents:
                agent.server.wait(10)
        finally:
            shutil.rmtree(self.home, ignore_errors=True)
            os.close(self._claim)

    def _send_all(self, number: signal.Signals) -> None:
        for pid in self._processes():
            with suppress(ProcessLookupError):  # a backend may end meanwhile
                os.kill(pid, number)

    def _processes(self) -> list[int]:
        """The server and what it forked."""
        server = self.engine.server.pid
        if server is None:
            return []
        children = Path(f"/proc/{server}/task/{server}/children").read_text().split()
        return [server, *map(int, children)]

    def _tls(self, authority: TestAuthority) -> TlsFiles:
        issued = authority.issue(self.host.address)
        return TlsFiles(
            certificate=self.host.write_file(self.host.etc / "server.crt", issued.certificate),
            key=self.host.write_file(self.host.etc / "server.key", issued.key),
            ca=self.host.write_file(self.host.etc / "ca.crt", authority.certificate),
        )


def _is_stopped(pid: int) -> bool:
    """Every thread of it, by the third field of /proc/PID/stat (proc(5)); also when there is none any more."""
    with suppress(FileNotFoundError, ProcessLookupError):
        threads = Path(f"/proc/{pid}/task").glob("*/stat")
        return all(stat.read_text().rpartition(")")[2].split()[0] in "TZX" for stat in threads)
    return True


def _address(number: int) -> str:
    return f"127.77.{200 + number // 250}.{number % 250 + 1}"


def _claim_address() -> tuple[int, int]:
    """A number whose address and account no other test uses now, and the descriptor that holds the claim.

    A lock on a file rather than a worker's own range: several runs may share a machine.
    """
    _CLAIMS.mkdir(mode=0o711, parents=True, exist_ok=True)
    for number in range(16 * 250):
        descriptor = os.open(_CLAIMS / str(number), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
        else:
            return number, descriptor
    raise RuntimeError("every test address is taken")
