"""The rivals of create and of what follows it: what somebody who knows the engine does without Argosy, as scripts.

Copy the same pristine data directory, write a configuration, start the server, let the administrator in
(which is the floor of any create), then make a database and a user, who asks a first question over TLS
(which is what a create of Argosy's ends in). Same programs, same sizes, same durability; certificates lie ready.
What Argosy also makes is left out: an agent, a volume of its own size, limits, an own system account.

A running server is restarted, made larger and moved to another version the shortest way its manual knows,
with everything laid ready before its clients are sent away.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import hiredis
import psycopg
import pymysql

from bench import clients
from bench.clients import Door, NotYet

# The account of the servers: they refuse root.
ACCOUNT = (65534, 65534) if os.geteuid() == 0 else None
MEMORY_MB = 512  # of the flavor the creates of Argosy's ask for


@dataclass(frozen=True)
class Image:
    """A version's programs and its pristine data directory."""

    version: str
    bundle: Path
    template: Path


@dataclass(frozen=True)
class Certificate:
    """PEM files lying ready for the server at an address."""

    certificate: Path
    key: Path


@dataclass(frozen=True)
class Times:
    """Seconds from the script's first line: data directory copied, administrator answered, user answered."""

    copied: float
    administrator: float
    user: float


class Script:
    """One server started by hand. A subclass knows one kind of server."""

    stop_by = signal.SIGTERM

    def __init__(
        self,
        image: Image,
        place: Path,
        door: Door,
        certificate: Certificate,
        pause_s: float = clients.PAUSE_S,
    ) -> None:
        self.image = image
        self.place = place
        self.data = place / "data"
        self.socket_directory = place / "s"
        self.door = door
        self.certificate = certificate
        self.pause_s = pause_s
        self.password = secrets.token_urlsafe(16)
        self.memory_mb = MEMORY_MB
        self._server: subprocess.Popen[bytes] | None = None

    def command(self) -> Sequence[str | Path]:
        """Write the configuration; the words that start the server."""
        raise NotImplementedError

    def ask_as_administrator(self) -> None:
        """Raises NotYet."""
        raise NotImplementedError

    def make_user(self) -> None:
        raise NotImplementedError

    def ask_as_user(self) -> None:
        """Raises NotYet."""
        raise NotImplementedError

    def resize(self, memory_mb: int) -> None:
        """Have the running server use that much memory, its clients let go only when it must."""
        raise NotImplementedError

    def upgrade(self, image: Image) -> None:
        """Move the running server's data to another version."""
        raise NotImplementedError

    def restart(self) -> None:
        """Returns when it has been started, not when it answers."""
        self.stop()
        self._server = self._start(self.command())

    def stop(self) -> None:
        if self._server is not None:
            self._stop(self._server)
            self._server = None

    def copy(self, image: Image, data: Path) -> None:
        """A pristine data directory."""
        subprocess.run(["cp", "-a", "--reflink=auto", "--sparse=always", image.template, data], check=True)
        data.chmod(0o700)
        if ACCOUNT is not None:
            subprocess.run(["chown", "-R", f"{ACCOUNT[0]}:{ACCOUNT[1]}", data], check=True)

    def run(self, program: Path, *arguments: str | Path) -> None:
        """Run a program of the software as the server's account. Raises RuntimeError with what it said."""
        uid, gid = ACCOUNT or (None, None)
        done = subprocess.run(
            [program, *arguments],
            env={"PATH": f"{program.parent}:/usr/bin:/bin", "LC_ALL": "C.UTF-8", "TZ": "UTC"},
            cwd=self.socket_directory,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            user=uid,
            group=gid,
            extra_groups=None if ACCOUNT is None else [],
        )
        if done.returncode != 0:
            raise RuntimeError(f"{program.name} failed: {done.stdout[-1000:]} {done.stderr[-1000:]}")

    def file(self, path: Path, text: str) -> Path:
        """Write a file that only the server's account can read."""
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(text)
        if ACCOUNT is not None:
            os.chown(path, *ACCOUNT)
        return path

    @contextmanager
    def running(self) -> Iterator[Times]:
        """The server, started; stopped and removed at the end."""
        self.place.mkdir(mode=0o755)
        try:
            began = time.time()
            self.copy(self.image, self.data)
            copied = time.time()
            self.socket_directory.mkdir(mode=0o700)
            if ACCOUNT is not None:
                os.chown(self.socket_directory, *ACCOUNT)
            server = self._server = self._start(self.command())
            what = f"the {self.image.version} started by hand"
            administrator = clients.first_answer(
                self._alive(server, self.ask_as_administrator), what, pause_s=self.pause_s
            )
            self.make_user()
            user = clients.first_answer(self.ask_as_user, what, pause_s=self.pause_s)
            yield Times(copied - began, administrator - began, user - began)
        finally:
            self.stop()
            shutil.rmtree(self.place)

    def _start(self, command: Sequence[str | Path]) -> subprocess.Popen[bytes]:
        uid, gid = ACCOUNT or (None, None)
        with (self.place / "log").open("wb") as log:
            return subprocess.Popen(
                [str(word) for word in command],
                env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "TZ": "UTC"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                start_new_session=True,
                user=uid,
                group=gid,
                extra_groups=None if ACCOUNT is None else [],
            )

    def _alive(self, server: subprocess.Popen[bytes], ask: clients.Asking) -> clients.Asking:
        def asked() -> None:
            if server.poll() is not None:
                log = (self.place / "log").read_text(errors="replace")
                raise RuntimeError(f"the server started by hand ended: {log[-1000:]}")
            ask()

        return asked

    def _stop(self, server: subprocess.Popen[bytes]) -> None:
        server.send_signal(self.stop_by)
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


class PostgresScript(Script):
    stop_by = signal.SIGINT

    def command(self) -> Sequence[str | Path]:
        self.file(
            self.data / "postgresql.conf",
            _lines(
                {
                    "listen_addresses": f"'{self.door.address}'",
                    "port": self.door.port,
                    "unix_socket_directories": f"'{self.socket_directory}'",
                    "shared_buffers": f"{self.memory_mb // 4}MB",
                    "max_connections": self.memory_mb // 5,
                    "ssl": "on",
                    "ssl_cert_file": f"'{self.certificate.certificate}'",
                    "ssl_key_file": f"'{self.certificate.key}'",
                    "jit": "off",
                }
            ),
        )
        self.file(self.data / "pg_hba.conf", "local all all trust\nhostssl all all 0.0.0.0/0 scram-sha-256\n")
        self.file(self.data / "pg_ident.conf", "")
        return [_postgresql_programs(self.image) / "postgres", "-D", self.data]

    def resize(self, memory_mb: int) -> None:
        self.memory_mb = memory_mb
        self.restart()

    def upgrade(self, image: Image) -> None:
        """By pg_upgrade with hard links, the new cluster laid before; there is no way back from it."""
        before, new = self.image, self.place / "new"
        self.copy(image, new)
        self.file(new / "pg_hba.conf", "local all all trust\n")
        for name in ("postgresql.conf", "pg_ident.conf"):
            self.file(new / name, "")
        self.file(self.data / "pg_hba.conf", "local all all trust\n")
        self.stop()
        old = _postgresql_programs(before)
        programs = _postgresql_programs(image)
        self.run(
            programs / "pg_upgrade",
            *(
                "--old-bindir",
                old,
                "--new-bindir",
                programs,
                "--old-datadir",
                self.data,
                "--new-datadir",
                new,
            ),
            *("--username", "os_admin", "--socketdir", self.socket_directory, "--link"),
        )
        self.data.rename(self.place / "old")
        new.rename(self.data)
        self.image = image
        self._server = self._start(self.command())

    def _connect(self) -> psycopg.Connection[tuple[object, ...]]:
        return psycopg.connect(
            host=str(self.socket_directory),
            port=self.door.port,
            user="os_admin",
            dbname="postgres",
            autocommit=True,
        )

    def ask_as_administrator(self) -> None:
        try:
            with self._connect() as session:
                clients.psycopg_one(session, "SELECT 1")
        except psycopg.OperationalError as error:
            raise NotYet(str(error)) from error

    def make_user(self) -> None:
        with self._connect() as session:
            for statement in (
                f"CREATE ROLE {self.door.user} LOGIN PASSWORD '{self.door.password}'",
                f"CREATE DATABASE {self.door.database} OWNER {self.door.user}",
            ):
                session.execute(statement.encode())

    def ask_as_user(self) -> None:
        clients.ask_postgresql(self.door)


def _postgresql_programs(image: Image) -> Path:
    debian = image.bundle / "usr/lib/postgresql" / image.version / "bin"
    return debian if debian.exists() else image.bundle / "usr/bin"


class MariaDbScript(Script):
    def command(self) -> Sequence[str | Path]:
        # The pristine directory has no administrator at all.
        first = self.file(
            self.place / "init.sql",
            f"CREATE USER root@localhost IDENTIFIED BY '{self.password}';\n"
            "GRANT ALL PRIVILEGES ON *.* TO root@localhost WITH GRANT OPTION;\n",
        )
        usr = self.image.bundle / "usr"
        share = usr / ("share/mariadb" if (usr / "share/mariadb").is_dir() else "share/mysql")
        settings = {
            "basedir": usr,
            "lc_messages_dir": share,
            "character_sets_dir": share / "charsets",
            "plugin_dir": usr / "lib/mysql/plugin",
            "datadir": self.data,
            "tmpdir": self.socket_directory,
            "socket": self.socket_directory / "s",
            "pid_file": self.socket_directory / "pid",
            "init_file": first,
            "bind_address": self.door.address,
            "port": self.door.port,
            "skip_name_resolve": "ON",
            "character_set_server": "utf8mb4",
            "innodb_buffer_pool_size": f"{self.memory_mb // 2}M",
            "innodb_log_file_size": f"{MEMORY_MB // 8}M",
            "ssl_cert": self.certificate.certificate,
            "ssl_key": self.certificate.key,
            "log_bin": self.data / "mysql-bin",
            "sync_binlog": 1,
        }
        configuration = self.file(self.place / "my.cnf", "[mariadbd]\n" + _lines(settings))
        return [usr / "sbin/mariadbd", f"--defaults-file={configuration}"]

    def resize(self, memory_mb: int) -> None:
        self.memory_mb = memory_mb
        with self._connect() as session, session.cursor() as cursor:
            cursor.execute(f"SET GLOBAL innodb_buffer_pool_size = {memory_mb // 2 * 2**20}")

    def upgrade(self, image: Image) -> None:
        """On the same files, which the older server leaves clean; the system tables while it serves already."""
        with self._connect() as session, session.cursor() as cursor:
            cursor.execute("SET GLOBAL innodb_fast_shutdown = 0")
        self.stop()
        self.image = image
        self._server = self._start(self.command())
        clients.first_answer(self.ask_as_administrator, f"the {image.version} started by hand")
        options = self.file(
            self.place / "upgrade.cnf",
            f"[client]\nsocket={self.socket_directory / 's'}\nuser=root\npassword={self.password}\n",
        )
        self.run(image.bundle / "usr/bin/mariadb-upgrade", f"--defaults-file={options}", "--silent")

    def _connect(self) -> pymysql.Connection:
        return pymysql.connect(
            unix_socket=str(self.socket_directory / "s"), user="root", password=self.password, autocommit=True
        )

    def ask_as_administrator(self) -> None:
        try:
            with self._connect() as session, session.cursor() as cursor:
                cursor.execute("SELECT 1")
        except pymysql.err.OperationalError as error:
            raise NotYet(str(error)) from error

    def make_user(self) -> None:
        with self._connect() as session, session.cursor() as cursor:
            cursor.execute(f"CREATE DATABASE {self.door.database}")
            cursor.execute(f"CREATE USER {self.door.user}@'%%' IDENTIFIED BY %s", (self.door.password,))
            cursor.execute(f"GRANT ALL PRIVILEGES ON {self.door.database}.* TO {self.door.user}@'%'")

    def ask_as_user(self) -> None:
        clients.ask_mariadb(self.door)


class ValkeyScript(Script):
    def command(self) -> Sequence[str | Path]:
        accounts = self.data / "users.acl"
        if not accounts.exists():
            self.file(accounts, f"user default on >{self.password} ~* &* +@all\n")
        configuration = self.file(
            self.place / "server.conf",
            _lines(
                {
                    "bind": self.door.address,
                    "port": 0,
                    "tls-port": self.door.port,
                    "tls-cert-file": self.certificate.certificate,
                    "tls-key-file": self.certificate.key,
                    "tls-ca-cert-file": self.door.ca,
                    "tls-auth-clients": "no",
                    "unixsocket": self.socket_directory / "s",
                    "aclfile": accounts,
                    "dir": self.data,
                    "maxmemory": f"{self.memory_mb * 3 // 4}mb",
                    "appendonly": "yes",
                    "save": '""',
                },
                between=" ",
            ),
        )
        programs = (self.image.bundle / "usr/bin" / name for name in ("valkey-server", "redis-server"))
        return [next(program for program in programs if program.exists()), configuration]

    def resize(self, memory_mb: int) -> None:
        self.memory_mb = memory_mb
        with self._connected() as connection:
            clients.valkey_one(connection, "CONFIG", "SET", "maxmemory", f"{memory_mb * 3 // 4}mb")

    def upgrade(self, image: Image) -> None:
        self.image = image
        self.restart()

    @contextmanager
    def _connected(self) -> Iterator[socket.socket]:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(5)
            connection.connect(str(self.socket_directory / "s"))
            clients.valkey_one(connection, "AUTH", self.password)
            yield connection

    def ask_as_administrator(self) -> None:
        try:
            with self._connected() as connection:
                clients.valkey_one(connection, "PING")
        except (OSError, hiredis.HiredisError) as error:
            raise NotYet(str(error)) from error

    def make_user(self) -> None:
        rules = ("on", f">{self.door.password}", "~*", "&*", "+@all")
        with self._connected() as connection:
            clients.valkey_one(connection, "ACL", "SETUSER", self.door.user, *rules)
            clients.valkey_one(connection, "ACL", "SAVE")

    def ask_as_user(self) -> None:
        clients.ask_valkey(self.door)


def _lines(settings: Mapping[str, object], between: str = " = ") -> str:
    return "".join(f"{name}{between}{value}\n" for name, value in settings.items())
