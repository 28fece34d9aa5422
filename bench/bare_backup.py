"""The rivals of backup and restore: each engine's own tool, piped through `zstd -T0` into a file and out of it.

They run against the same server of Argosy's, with the same account of the server, on the same disk. What they leave out:
encryption, checksums, the way to a store over TLS, facts to check a restore by, and who the users are.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from argosy.agent.__main__ import host_of
from argosy.domain.guest import GuestConfig
from argosy.engines import engine_for
from argosy.engines.host import Account, Host
from argosy.engines.mariadb.programs import client_options
from argosy.engines.postgresql.programs import Programs
from argosy.engines.postgresql.session import ADMIN as POSTGRESQL_ADMIN
from argosy.engines.valkey.accounts import ADMIN as VALKEY_ADMIN


class BareTool:
    """The tool of an instance's engine. `file` is where the stream goes; what is unpacked goes beside it."""

    def __init__(self, config: Path, file: Path) -> None:
        of = GuestConfig.read(config)
        self._datastore = of.engine
        self._host: Host = host_of(of)
        self._engine: Any = engine_for(of.engine, self._host)
        self.file = file

    def back_up(self) -> None:
        """Raises CalledProcessError."""
        with self._writing() as (command, more, account):
            self._pipe(command, ["zstd", "-q", "-f", "-T0", "-o", self.file], more, account)

    def restore(self) -> None:
        """Unpack what was backed up, and have it made ready where the tool does that."""
        directory = self.file.with_name("restored")
        directory.mkdir(mode=0o777)
        try:
            unpacking: dict[str, list[str | Path]] = {
                "postgresql": ["tar", "-x", "-C", directory],
                "mariadb": [self._program("mbstream"), "-x", "-C", directory],
                "valkey": ["dd", f"of={directory / 'dump.rdb'}", "bs=1M", "status=none"],
            }
            unpack = unpacking[self._datastore]
            self._pipe(["zstd", "-q", "-d", "-c", self.file], unpack)
            if self._datastore == "mariadb":
                prepare: list[str | Path] = [self._program("mariadb-backup"), "--no-defaults", "--prepare"]
                # As much memory as ours has for it.
                memory = f"--use-memory={max(32, min(1024, self._host.memory_mb // 3))}M"
                self._run([*prepare, memory, f"--target-dir={directory}"])
            subprocess.run(["sync", "--file-system", directory], check=True)
        finally:
            shutil.rmtree(directory)

    @contextmanager
    def _writing(self) -> Iterator[tuple[Sequence[str | Path], Mapping[str, str], Account]]:
        host, own = self._host, Account.own()
        if self._datastore == "postgresql":
            tool = Programs(host.bundle, host.version).postgres.with_name("pg_basebackup")
            address: list[str | Path] = [
                "-h",
                host.run,
                "-p",
                str(host.port),
                "-U",
                POSTGRESQL_ADMIN,
                "--no-password",
            ]
            yield [tool, *address, "-D", "-", "-F", "tar", "-X", "fetch", "-c", "fast", "--no-sync"], {}, own
        elif self._datastore == "mariadb":
            with client_options(host, self._engine.management, "bench") as options:
                yield (
                    [
                        self._program("mariadb-backup"),
                        f"--defaults-file={options}",
                        "--backup",
                        "--stream=mbstream",
                        f"--datadir={host.data}",
                        f"--target-dir={options.parent / 'target'}",
                    ],
                    {},
                    host.account,
                )
        else:
            password = (host.etc / f"{VALKEY_ADMIN}.password").read_text().strip()
            socket: list[str | Path] = ["-s", host.run / "server.sock", "--user", VALKEY_ADMIN]
            yield (
                [self._program("valkey-cli"), *socket, "--rdb", "-"],
                {"REDISCLI_AUTH": password},
                host.account,
            )

    def _program(self, name: str) -> Path:
        return self._host.bundle / "usr/bin" / name

    def _run(self, command: Sequence[str | Path]) -> None:
        subprocess.run(
            [str(word) for word in command],
            env=self._host.environment(),
            capture_output=True,
            check=True,
        )

    def _pipe(
        self,
        first: Sequence[str | Path],
        second: Sequence[str | Path],
        more: Mapping[str, str] | None = None,
        account: Account | None = None,
    ) -> None:
        drop = account if account is not None and account != Account.own() else None
        with contextlib.ExitStack() as stack:
            said = stack.enter_context(self.file.with_name("said").open("wb"))
            writer = stack.enter_context(
                subprocess.Popen(
                    [str(word) for word in first],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=said,
                    env=self._host.environment(more),
                    user=None if drop is None else drop.uid,
                    group=None if drop is None else drop.gid,
                    extra_groups=None if drop is None else [],
                    cwd="/",
                )
            )
            subprocess.run(
                [str(word) for word in second],
                stdin=writer.stdout,
                check=True,
                stdout=subprocess.DEVNULL,
                env=self._host.environment(),
            )
        if writer.returncode:
            raise subprocess.CalledProcessError(
                writer.returncode, str(first[0]), stderr=self.file.with_name("said").read_bytes()[-2000:]
            )
