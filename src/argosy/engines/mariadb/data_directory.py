"""The data directory: the template that instances of a version are copied from, and the copy."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from argosy.domain.errors import EngineError
from argosy.engines.host import Account, Host
from argosy.engines.mariadb import configuration

# Only what the server's own views need. The agent's account is made at every start, root's when asked for.
_SEAL = """\
DELETE FROM mysql.global_priv WHERE User <> 'mariadb.sys';
DELETE FROM mysql.proxies_priv;
"""
# All of them Aria's, whose tables are files that may be copied.
_SYSTEM_TABLES = (
    "global_priv", "db", "tables_priv", "columns_priv", "procs_priv", "proxies_priv", "roles_mapping",
    "user", "plugin", "servers", "func", "proc", "event",
)  # fmt: skip


def build_template(host: Host) -> None:
    """See Engine.build_template. Any number of agents may want the same template at once: one makes it."""
    if is_made(host.template):
        return
    host.template.parent.mkdir(parents=True, exist_ok=True)
    directory = os.open(host.template.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        if not is_made(host.template):
            with beside(host, host.template) as place:
                _install(host, place / "data")
                # Nobody's to write: an instance's server, under its own account, must not reach the next one's.
                _hand_over(place / "data", Account.own())
                (place / "data").rename(host.template)
    finally:
        os.close(directory)


def initialise(host: Host) -> None:
    """See Engine.initialise."""
    if is_made(host.data):
        return
    with beside(host, host.data) as place:
        if is_made(host.template):
            host.run_program(
                ["cp", "-a", "--reflink=auto", "--sparse=always", host.template, place / "data"],
                timeout_s=600,
                as_agent=True,
            )
            _hand_over(place / "data", host.account)
        else:
            _install(host, place / "data")
            _hand_over(place / "data", host.account)
        _unsettled(host).touch(mode=0o600)
        (place / "data").rename(host.data)


def put_system_tables_back(host: Host) -> None:
    """Before a start: empty ones in the place of those a user's root has dropped, or no server would start.

    The accounts and grants that were in them are lost; databases and their tables are not.
    """
    system = host.data / "mysql"
    for table in _SYSTEM_TABLES:
        if not (system / f"{table}.frm").exists() and host.template.is_dir():
            host.make_directory(system)
            for file in (host.template / "mysql").glob(f"{table}.*"):
                copy = system / file.name
                shutil.copyfile(file, copy)
                copy.chmod(0o660)
                os.chown(copy, host.account.uid, host.account.gid)


def settle(host: Host) -> None:
    """Bring the copied files to the disk, so that the instance survives a loss of power; once is enough.

    Apart from `initialise` because a create need not wait for it: what the server acknowledges from its first
    second on it brings to the disk itself, except for the pages it never touched.
    """
    if not _unsettled(host).exists():
        return
    for directory, _, files in os.walk(host.data):
        for path in [Path(directory), *(Path(directory, file) for file in files)]:
            _sync(path)
    _sync(host.data.parent)
    _unsettled(host).unlink(missing_ok=True)


def used_bytes(host: Host) -> int:
    """What the data directory and the binary logs take of the volume; neither holes nor temporary tables count."""
    return sum(
        _allocated(Path(directory, name))
        for place in (host.data, configuration.binlogs(host))
        for directory, _, files in os.walk(place)
        for name in files
        if not name.startswith("ibtmp")
    )


def _allocated(path: Path) -> int:
    try:
        return path.lstat().st_blocks * 512
    except FileNotFoundError:
        return 0


def is_made(directory: Path) -> bool:
    """Whether it has InnoDB's own table space, without which there is no data directory."""
    return (directory / "ibdata1").is_file()


def _unsettled(host: Host) -> Path:
    return host.etc / "unsettled"


@contextmanager
def beside(host: Host, target: Path) -> Iterator[Path]:
    """A directory of the engine's account beside the target, to make it in; gone afterwards, crash or not."""
    place = target.with_name(f".{target.name}.new")
    shutil.rmtree(place, ignore_errors=True)
    host.make_directory(place)
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _install(host: Host, directory: Path) -> None:
    seal = host.write_file(directory.parent / "seal.sql", _SEAL)
    host.run_program(
        [
            host.bundle / "usr/bin/mariadb-install-db",
            "--no-defaults",
            f"--basedir={host.bundle / 'usr'}",
            f"--datadir={directory}",
            f"--lc-messages-dir={configuration.share(host)}",
            f"--plugin-dir={configuration.plugins(host)}",
            f"--tmpdir={directory.parent}",
            f"--extra-file={seal}",
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
            "--skip-name-resolve",
            "--cross-bootstrap",
            # Small, to be copied; the server makes it the configured size when it starts.
            "--innodb-log-file-size=8M",
        ],
        timeout_s=300,
    )
    if not is_made(directory):
        raise EngineError("mariadb-install-db ended without a word and made no data directory.")


def _hand_over(directory: Path, account: Account) -> None:
    """Make it that account's alone; the installer leaves a file or two that others may read."""
    for place, _, files in os.walk(directory):
        for path in [Path(place), *(Path(place, name) for name in files)]:
            path.chmod(path.stat().st_mode & 0o770)
            os.chown(path, account.uid, account.gid)
    directory.chmod(0o700)


def _sync(path: Path) -> None:
    """The server makes and removes files meanwhile (and syncs its own); so does whoever deletes the instance."""
    with contextlib.suppress(FileNotFoundError):
        if path.is_symlink():
            return
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
