"""The life of one MariaDB server."""

from __future__ import annotations

import os
import signal
import threading
import time

from argosy.domain.errors import ArgosyError, EngineError, EngineNotReady
from argosy.engines.base import (
    Access,
    Databases,
    Engine,
    Health,
    MindsRoom,
    RootAccess,
    RotatesPassword,
    Users,
)
from argosy.engines.host import Host
from argosy.engines.mariadb import configuration, data_directory, history
from argosy.engines.mariadb.access import MariaDbAccess
from argosy.engines.mariadb.backups import MariaDbBackUps
from argosy.engines.mariadb.carrying import MariaDbAccounts
from argosy.engines.mariadb.checks import MariaDbChecks
from argosy.engines.mariadb.databases import MariaDbDatabases
from argosy.engines.mariadb.dumps import MariaDbDumps
from argosy.engines.mariadb.guard import MariaDbGuard
from argosy.engines.mariadb.log_archive import MariaDbLogArchive
from argosy.engines.mariadb.logs import MariaDbLogs
from argosy.engines.mariadb.management import (
    AccountLost,
    ConnectionsTaken,
    Management,
    NotListening,
    Session,
)
from argosy.engines.mariadb.root import MariaDbRoot
from argosy.engines.mariadb.users import MariaDbUsers
from argosy.engines.process import ServerProcess, until_next_look_s

# InnoDB grows its files by an extent, which is a megabyte; with less nothing is written any more.
_LEAST_FREE_BYTES = 2**20


class MariaDbEngine(
    MariaDbDumps,
    MariaDbDatabases,
    MariaDbUsers,
    MariaDbAccess,
    MariaDbRoot,
    MariaDbLogs,
    MariaDbGuard,
    MariaDbBackUps,
    MariaDbLogArchive,
    MariaDbAccounts,
    MariaDbChecks,
    Engine,
    Databases,
    Users,
    Access,
    RootAccess,
    RotatesPassword,
    MindsRoom,
):
    """One MariaDB server in one data directory; see `management.py` for the agent's way in."""

    start_timeout_s = 1800.0  # reading back a long redo log takes as long as it takes
    stop_timeout_s = 300.0

    def __init__(self, host: Host, server: ServerProcess) -> None:
        self.host = host
        self.server = server
        self.management = Management(host)
        self._starting = threading.Lock()
        self._applying = threading.RLock()

    def build_template(self) -> None:
        data_directory.build_template(self.host)

    def initialise(self) -> None:
        data_directory.initialise(self.host)

    def start(self) -> None:
        with self._starting:
            try:
                self._start()
            except AccountLost:
                # The server ran, and root had taken our account and our connection: only a start gives them back.
                self._stop()
                self._start()
            self.started()
        threading.Thread(target=data_directory.settle, args=[self.host], daemon=True).start()

    def stop(self) -> None:
        with self._starting:
            self._stop()

    def health(self) -> Health:
        if self.server.pid is None:
            return Health.DOWN
        try:
            with self.management.glance(timeout_s=1) as session:
                served = _takes_connections(session) and not _waits_for_room(session)
        except NotListening:
            return Health.STARTING
        except ConnectionsTaken:
            return Health.BLOCKED
        except EngineNotReady:
            return Health.DOWN
        except ArgosyError:
            # It answers, and refuses us: see AccountLost.
            return Health.BLOCKED
        return Health.UP if served and self._has_room() else Health.BLOCKED

    def server_version(self) -> str:
        with self.management.session() as session:
            ((version,),) = session.run("SELECT VERSION()")
        return str(version).partition("-")[0]

    def used_bytes(self) -> int:
        return data_directory.used_bytes(self.host)

    def rotate_password(self) -> None:
        self.management.rotate()

    def mind_room(self) -> None:
        history.tidy(self.host)
        self.give_room()

    def _start(self) -> None:
        if self.server.pid is None:
            self.management.close()
            self.management.prepare()
            data_directory.put_system_tables_back(self.host)
            history.open_log(self.host)
            for place in (configuration.temporary, configuration.exchange):
                self.host.make_directory(place(self.host))
            # Of an earlier server, that was killed; a new one takes seconds to find out that nobody listens.
            configuration.socket(self.host).unlink(missing_ok=True)
            with self._applying, self.doors() as doors:
                layers = self.layers()
                self.host.write_file(configuration.file(self.host), configuration.text(layers))
                self.starting_with(layers)
                self.server.start(
                    [
                        self.host.bundle / "usr/sbin/mariadbd",
                        f"--defaults-file={configuration.file(self.host)}",
                    ],
                    doors=doors,
                )
        self._wait_until_it_answers()

    def _wait_until_it_answers(self) -> None:
        began = time.monotonic()
        deadline = began + self.start_timeout_s
        while True:
            try:
                with self.management.session() as session:
                    session.run("SELECT 1")
            except EngineNotReady as error:
                ended = self.server.wait(until_next_look_s(began))
                if ended:
                    raise EngineError(f"MariaDB ended while starting:\n{self.server.log_tail()}") from error
                if time.monotonic() > deadline:
                    raise EngineError(
                        f"MariaDB does not answer after {self.start_timeout_s:.0f} s: {error}\n{self.server.log_tail()}"
                    ) from error
            else:
                return

    def _stop(self) -> None:
        self.management.close()
        self.server.stop(signal.SIGTERM, self.stop_timeout_s)

    def _has_room(self) -> bool:
        volume = os.statvfs(self.host.data)
        return volume.f_bavail * volume.f_frsize >= _LEAST_FREE_BYTES


def _waits_for_room(session: Session) -> bool:
    """Whether a session waits for room, as it does for up to a minute after there is, and all commits with it.

    The words are the server's (mysys/errors.c, EE_DISK_FULL, and manual, Running Out of Disk Space).
    """
    ((waiting,),) = session.run(
        "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE STATE = 'Waiting for someone to free space'"
    )
    return int(str(waiting)) > 0


def _takes_connections(session: Session) -> bool:
    ((connected, limit),) = session.run(
        "SELECT VARIABLE_VALUE, @@GLOBAL.max_connections FROM information_schema.GLOBAL_STATUS"
        " WHERE VARIABLE_NAME = 'THREADS_CONNECTED'"
    )
    return int(str(connected)) < int(str(limit))
