"""One PostgreSQL server: its life from the template to the last stop."""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from contextlib import suppress
from pathlib import Path

from argosy.domain.errors import EngineError
from argosy.engines.base import Engine, Health, MindsRoom
from argosy.engines.host import Host
from argosy.engines.postgresql import configuration, log_archive, replay, reserve, template
from argosy.engines.postgresql.access import PostgresAccess
from argosy.engines.postgresql.backups import PostgresBackUps
from argosy.engines.postgresql.carrying import PostgresAccounts
from argosy.engines.postgresql.checks import PostgresChecks
from argosy.engines.postgresql.databases import PostgresDatabases
from argosy.engines.postgresql.dumps import PostgresDumps
from argosy.engines.postgresql.guard import PostgresGuard
from argosy.engines.postgresql.log_archive import PostgresLogArchive
from argosy.engines.postgresql.logs import PostgresLogs
from argosy.engines.postgresql.programs import Programs
from argosy.engines.postgresql.repair import restore_administrator
from argosy.engines.postgresql.root import PostgresRoot
from argosy.engines.postgresql.session import Sessions
from argosy.engines.postgresql.upgrade import PostgresUpgrades
from argosy.engines.postgresql.users import PostgresUsers
from argosy.engines.postgresql.watch import Unanswered, Watch
from argosy.engines.process import ServerProcess, until_next_look_s

_START_S = 600.0  # replaying the log after a crash may take minutes
_STOP_S = 120.0


class _Died(Exception):
    """The server ended while it was waited for."""


class _LockedOut(Exception):
    """The server runs, but someone took the agent's account or database away."""


class PostgresEngine(
    PostgresDumps,
    PostgresDatabases,
    PostgresUsers,
    PostgresAccess,
    PostgresRoot,
    PostgresLogs,
    PostgresGuard,
    PostgresUpgrades,
    PostgresBackUps,
    PostgresAccounts,
    PostgresChecks,
    PostgresLogArchive,
    Engine,
    MindsRoom,
):
    """Drives one PostgreSQL server. The agent's account is `os_admin`, reachable by the Unix socket alone."""

    def __init__(self, host: Host, server: ServerProcess) -> None:
        self.host = host
        self.server = server
        self.sessions = Sessions(host)
        self.programs = Programs(host.bundle, host.version)
        self._applying = threading.RLock()
        self._watch = Watch(host)
        self._starting = threading.Lock()

    def build_template(self) -> None:
        template.build(self.host, self.programs)

    def initialise(self) -> None:
        template.clone(self.host)

    def start(self) -> None:
        with self._starting:
            if self.server.pid is None:
                self._start_with_or_without_refused_settings()
            try:
                self._wait_until_ready()
            except _LockedOut:
                self.stop()
                settings = configuration.command_line(self.layers())
                restore_administrator(self.host, self.programs, settings)
                self._launch()
                self._wait_until_restored()
            self.started()
            if not reserve.is_given_away(self.host):
                reserve.keep(self.host)
        threading.Thread(target=self._finish_sync, name="sync", daemon=True).start()

    def stop(self) -> None:
        """Fast shutdown: sessions are ended, everything is written out.

        A server that takes too long is killed, which loses nothing that was acknowledged.
        """
        self._watch.close()
        self.server.stop(signal.SIGINT, _STOP_S)
        self._end_leftovers()

    def health(self) -> Health:
        if self.server.pid is None:
            return Health.DOWN
        try:
            answer = self._watch.ask()
        except Unanswered as reason:
            if reason.starting:
                return Health.STARTING
            return Health.BLOCKED if reason.full or reason.locked_out else Health.DOWN
        blocked = answer.full or not answer.in_power or self._out_of_space()
        return Health.BLOCKED if blocked or reserve.is_given_away(self.host) else Health.UP

    def mind_room(self) -> None:
        """Once there is room, keep the reserve (again) and let everybody write again; make some before there is none."""
        log_archive.let_go(self.host)
        if reserve.has_room_again(self.host):
            with self._applying:
                configuration.write(self.host, self.layers())
                with self.sessions.open() as session:
                    session.execute("SELECT pg_reload_conf()")
        elif not reserve.is_given_away(self.host):
            reserve.keep(self.host)
        if configuration.OF_THE_VOLUME in self.pending_resize():
            self.apply_settings()

    def server_version(self) -> str:
        with self.sessions.open() as session:
            row = session.execute("SHOW server_version").fetchone()
        return str(row[0]).split()[0] if row else ""

    def used_bytes(self) -> int:
        return _allocated_bytes(str(self.host.data))

    def _start_with_or_without_refused_settings(self) -> None:
        """A root may ALTER SYSTEM so that the server cannot start: then it starts without, and keeps them aside."""
        self._launch()
        try:
            self._wait_until_ready()
        except _LockedOut:
            return
        except _Died:
            altered = self.host.data / "postgresql.auto.conf"
            refused = configuration.refused_settings(self.host.data)
            if not _says_anything(altered):
                raise EngineError(self._why_it_died()) from None
            why = self._why_it_died()
            altered.replace(refused)
            self._launch()
            try:
                self._wait_until_ready()
            except _LockedOut:
                return
            except _Died:
                refused.replace(altered)
                raise EngineError(why) from None

    def _launch(self) -> None:
        if not (self.host.data / "PG_VERSION").exists():
            raise EngineError(f"{self.host.data} holds no PostgreSQL data directory.")
        self._end_leftovers()
        # Nothing runs here, so the lock of a server that was killed is void; kept, it would stop the new
        # one whenever some other program has been given the same process id.
        for lock in (self.host.data / "postmaster.pid", self.host.run / f".s.PGSQL.{self.host.port}.lock"):
            lock.unlink(missing_ok=True)
        log_archive.starting(self.host)
        reserve.give_away(self.host)
        with self._applying:
            layers = self.layers()
            configuration.write(self.host, layers)
            configuration.take_back(self.host, layers.group)
            self.starting_with(layers)
            self._watch.close()
            settings = configuration.arguments(configuration.command_line(layers))
            self.server.start([self.programs.postgres, "-D", self.host.data, *settings])

    def _wait_until_ready(self) -> None:
        """Raises _Died, _LockedOut, or EngineError when it is not up in time (it is left to go on)."""
        began = time.monotonic()
        deadline = began + _START_S
        words = ""
        while time.monotonic() < deadline:
            if self.server.pid is None:
                raise _Died
            try:
                if self._says_ready():
                    if self._watch.ask().in_power:
                        return
                    raise _LockedOut
            except Unanswered as reason:
                if reason.full:
                    return
                if reason.locked_out:
                    raise _LockedOut from reason
                words = reason.words
            time.sleep(until_next_look_s(began))
        raise EngineError(f"The server is not ready after {_START_S:.0f} s; it said: {words}")

    def _says_ready(self) -> bool:
        """Only then is it asked: each question before would leave a line of alarm in the log."""
        return replay.status(self.host.data) in {"ready", "standby"}

    def _wait_until_restored(self) -> None:
        try:
            self._wait_until_ready()
        except _Died:
            raise EngineError(self._why_it_died()) from None
        except _LockedOut as refusal:
            raise EngineError(f"The server still refuses the agent: {refusal.__cause__}") from refusal

    def _why_it_died(self) -> str:
        return f"The server did not start. Its last words: {self.server.log_tail()}"

    def _end_leftovers(self) -> None:
        """Kill what a dead server left running: a busy backend does not notice at once, and keeps a new one out.

        Backends overwrite their environment with their title, so the mark in it is gone; they are known by
        the program they run and the directory they run in.
        """
        data = self.host.data.resolve()
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            with suppress(OSError):
                if (entry / "cwd").readlink() == data and _runs(entry, self.programs.postgres):
                    descriptor = os.pidfd_open(int(entry.name))
                    try:
                        os.kill(int(entry.name), signal.SIGKILL)
                        poll = select.poll()
                        poll.register(descriptor, select.POLLIN)
                        poll.poll(5000)
                    finally:
                        os.close(descriptor)

    def _out_of_space(self) -> bool:
        """Whether the next log segment could not be made, on which the server would give up altogether.

        PostgreSQL refuses statements that need space one by one and serves the others, but without space
        for its log it panics; this is the last warning before.
        """
        try:
            volume = os.statvfs(self.host.data)
        except OSError:
            return False
        return volume.f_bavail * volume.f_frsize < reserve.SEGMENT_BYTES

    def _finish_sync(self) -> None:
        with suppress(EngineError, OSError):  # the mark stays, and the next start tries again
            template.finish_sync(self.host)


def _says_anything(settings: Path) -> bool:
    try:
        lines = settings.read_text(errors="replace").splitlines()
    except OSError:
        return False
    return any(line.strip() and not line.lstrip().startswith("#") for line in lines)


def _runs(process: Path, program: Path) -> bool:
    return (process / "exe").readlink() == program.resolve()


def _allocated_bytes(directory: str) -> int:
    total = 0
    with suppress(FileNotFoundError), os.scandir(directory) as entries:
        for entry in entries:
            with suppress(FileNotFoundError):  # the server removes files while we look
                if entry.is_dir(follow_symlinks=False):
                    total += _allocated_bytes(entry.path)
                else:
                    total += entry.stat(follow_symlinks=False).st_blocks * 512
    return total
