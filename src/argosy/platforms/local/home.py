"""The folder everything local lives in, and one instance's place in it.

::

    <home>/instances/<id>/      address       the instance's, reserved while this file is there
                                guest.json    what its agent is told
                                agent.json    the running agent's pid
                                rpc/  etc/  etc/tls/  logs/  sockets/
                                volume.img    its volume; volume/ is where that is mounted, or a plain directory
                                volume.size   bytes it may hold, where the image has room to grow into
    <home>/run/<digest>         a link to sockets/, since the path of a Unix socket may have 107 bytes

A link and not a directory, so that what a crash leaves behind still tells whose it is. An instance's
directory is open to its own account alone, and the database server may write in sockets/ and volume/ only:
the agent, which may be root, never opens a file the server could have swapped for a link.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from argosy.domain.errors import PlatformError
from argosy.platforms.local.accounts import Account, separate

_SOCKET_PATH_MAX = 107  # unix(7): sun_path has 108 bytes, the last a NUL
_SOCKET_NAME_MAX = 24
_DIGEST = 12
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class Place:
    """Where one instance's files are."""

    instance_id: str
    root: Path
    run: Path

    @property
    def address(self) -> Path:
        return self.root / "address"

    @property
    def guest(self) -> Path:
        return self.root / "guest.json"

    @property
    def pid_file(self) -> Path:
        return self.root / "agent.json"

    @property
    def rpc(self) -> Path:
        return self.root / "rpc"

    @property
    def etc(self) -> Path:
        return self.root / "etc"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def sockets(self) -> Path:
        return self.root / "sockets"

    @property
    def image(self) -> Path:
        return self.root / "volume.img"

    @property
    def size(self) -> Path:
        return self.root / "volume.size"

    @property
    def volume(self) -> Path:
        return self.root / "volume"

    def reserved(self) -> str | None:
        """The address the instance has, if any."""
        try:
            return self.address.read_text().strip() or None
        except OSError:
            return None

    @contextmanager
    def held(self) -> Iterator[int]:
        """Keep every other thread and process off the instance; not to be nested.

        Yields the descriptor of the lock. A program that is handed it keeps the instance held until it
        ends, even if we are killed meanwhile, so nobody repeats our work while it is still being done.
        The directory is made when it is not there, and goes when nothing is left in it.
        """
        lock = self._take()
        try:
            yield lock
        finally:
            with contextlib.suppress(OSError):
                self.root.rmdir()
            os.close(lock)

    def _take(self) -> int:
        while True:
            with contextlib.suppress(FileExistsError):
                self.root.mkdir(mode=0o700)
            try:
                lock = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY)
            except FileNotFoundError:
                continue
            fcntl.flock(lock, fcntl.LOCK_EX)
            # Whoever held it may have removed the directory, and somebody else made another.
            if self._is(lock):
                return lock
            os.close(lock)

    def _is(self, lock: int) -> bool:
        try:
            return os.path.samestat(os.fstat(lock), self.root.stat())
        except FileNotFoundError:
            return False


class Home:
    """The folder, checked and laid out. Raises PlatformError, saying what to do, when it cannot serve."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        longest = _SOCKET_PATH_MAX - len("/run/") - _DIGEST - 1 - _SOCKET_NAME_MAX
        if len(os.fsencode(self.root)) > longest:
            raise PlatformError(
                f"The path {self.root} has {len(os.fsencode(self.root))} bytes and {longest} is the most: sockets of "
                "database servers lie below it, whose paths the system limits. Choose a shorter home."
            )
        if separate():
            self._check_parents()
        self.instances = self.root / "instances"
        self.run = self.root / "run"
        try:
            self.root.mkdir(mode=0o755, parents=True, exist_ok=True)
            for directory in (self.instances, self.run):
                directory.mkdir(mode=0o711, exist_ok=True)
                directory.chmod(0o711)
            # Others may pass through, not list: the accounts of database servers have no group in common.
            self.root.chmod(self.root.stat().st_mode | 0o011)
        except OSError as error:
            raise PlatformError(f"The home {self.root} cannot be used: {error}.") from error

    def _check_parents(self) -> None:
        for parent in reversed(self.root.parents):
            if parent.exists() and not parent.stat().st_mode & 0o001:
                raise PlatformError(
                    f"Database servers run under accounts of their own, and these cannot reach {self.root}: {parent} is "
                    f"closed to others. Choose a home elsewhere, such as /var/lib/argosy, or chmod o+x {parent}."
                )

    @property
    def digest(self) -> str:
        """Tells this home from others on the machine."""
        return _digest(str(self.root))[:8]

    def place(self, instance_id: str) -> Place:
        if not _ID.fullmatch(instance_id):
            raise PlatformError(f"{instance_id!r} cannot be an instance's id: it names files.")
        return Place(instance_id, self.instances / instance_id, self.run / _digest(instance_id)[:_DIGEST])

    def instance_ids(self) -> set[str]:
        """Instances of which anything is on disk."""
        found = {entry.name for entry in self.instances.iterdir()}
        for link in self.run.iterdir():
            with contextlib.suppress(OSError):
                found.add(link.readlink().parent.name)
        return {name for name in found if _ID.fullmatch(name)}

    @contextmanager
    def locked(self, name: str) -> Iterator[int]:
        """Wait for a lock of the whole home, among threads and processes."""
        lock = os.open(self.root / f".{name}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield lock
        finally:
            os.close(lock)


def make_directory(path: Path, mode: int, owner: Account) -> None:
    """Make a directory with exactly this mode and owner; one that is there is put right."""
    path.mkdir(mode=0o700, exist_ok=True)
    os.chown(path, owner.uid, owner.gid)
    path.chmod(mode)


def write_file(path: Path, text: str, mode: int, owner: Account) -> None:
    """Write a file whole or not at all; never open to anybody else on its way."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        os.fchown(file.fileno(), owner.uid, owner.gid)
        os.fchmod(file.fileno(), mode)
        file.write(text)
    temporary.replace(path)


def _digest(text: str) -> str:
    return hashlib.blake2s(os.fsencode(text)).hexdigest()
