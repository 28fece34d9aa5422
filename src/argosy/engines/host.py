"""Where an engine finds itself: directories, addresses, size and the accounts it runs under."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from argosy.domain.errors import EngineError

_writing = threading.Lock()


@dataclass(frozen=True)
class TlsFiles:
    """PEM files of the server's certificate, readable by the engine's account alone."""

    certificate: Path
    key: Path
    ca: Path


@dataclass(frozen=True)
class Account:
    """The operating system account the server runs under; `uid == os.geteuid()` when nothing is to be dropped."""

    uid: int
    gid: int

    @classmethod
    def own(cls) -> Account:
        return cls(os.geteuid(), os.getegid())


@dataclass(frozen=True)
class Host:
    """One instance's place on its machine; handed to the engine, which never looks anything up.

    `data`, `template` and `logs` hold what their names say. `etc` has the server's configuration and is the
    agent's (the server reads, never writes it). `run` has sockets and pid files; its path is short, since a
    Unix socket's may have 107 bytes. `memory_mb` is what the flavor gives the server, MiB. A `private` server is
    reached by the Unix socket alone: it proves something and serves nobody. With a `unit` servers run in systemd scopes
    of that name, apart from the agent's own unit.
    """

    instance_id: str
    version: str
    bundle: Path
    template: Path
    data: Path
    etc: Path
    run: Path
    logs: Path
    address: str
    port: int
    memory_mb: int
    vcpus: int
    tls: TlsFiles | None
    account: Account
    private: bool = False
    unit: str = ""

    def make_directory(self, path: Path, mode: int = 0o700) -> Path:
        """Make a directory the server owns."""
        path.mkdir(mode=mode, parents=True, exist_ok=True)
        path.chmod(mode)
        os.chown(path, self.account.uid, self.account.gid)
        return path

    def write_file(self, path: Path, text: str, mode: int = 0o600, *, as_agent: bool = False) -> Path:
        """Write a file the server owns (or the agent), whole or not at all; never readable by others on its way."""
        account = Account.own() if as_agent else self.account
        temporary = path.with_name(f".{path.name}.new")
        with _writing:  # a call, a job and the keeper may have the same file to write
            temporary.unlink(missing_ok=True)
            with os.fdopen(
                os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w", encoding="utf-8"
            ) as file:
                os.fchown(file.fileno(), account.uid, account.gid)
                os.fchmod(file.fileno(), mode)
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        return path

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        """What a program of this instance sees: nothing of the agent's own, and whose it is (see `process.py`)."""
        return {
            "PATH": f"{self.bundle}/usr/bin:{self.bundle}/usr/sbin:/usr/bin:/bin",
            "HOME": str(self.run),
            "LC_ALL": "C.UTF-8",
            "TZ": "UTC",
            "ARGOSY_INSTANCE": self.instance_id,
            **(extra or {}),
        }

    def run_program(
        self,
        argv: Sequence[str | Path],
        *,
        timeout_s: float = 60,
        stdin: str | None = None,
        environment: Mapping[str, str] | None = None,
        as_agent: bool = False,
        directory: Path = Path("/"),
    ) -> str:
        """Run a short program under the engine's account and return what it printed.

        Raises EngineError with the end of its error output, or of its output; argv must hold no secret.
        """
        account = Account.own() if as_agent else self.account
        drop = account.uid != os.geteuid()
        try:
            done = subprocess.run(
                [str(word) for word in argv],
                input=stdin,
                stdin=subprocess.DEVNULL if stdin is None else None,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=timeout_s,
                cwd=directory,
                env=self.environment(environment),
                user=account.uid if drop else None,
                group=account.gid if drop else None,
                extra_groups=[] if drop else None,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise EngineError(f"{Path(str(argv[0])).name} did not finish in {timeout_s:.0f} s.") from error
        except OSError as error:
            raise EngineError(f"{argv[0]} cannot be run: {error.strerror or error}.") from error
        if done.returncode != 0:
            said = done.stderr.strip() or done.stdout.strip()
            raise EngineError(f"{Path(str(argv[0])).name} failed ({done.returncode}): {said[-1000:]}")
        return done.stdout
