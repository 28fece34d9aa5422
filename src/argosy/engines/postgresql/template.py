"""The pristine data directory of a version, and its copies.

A copy costs a fraction of what initdb does. It is made under another name and renamed, so it is there
whole or not at all. It is not forced to disk before the server runs on it, which would cost more than
all the rest; `finish_sync` does that behind the server's back.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from argosy.domain.errors import EngineError
from argosy.engines.host import Account, Host
from argosy.engines.postgresql import system_identifier
from argosy.engines.postgresql.programs import Programs, under_a_name
from argosy.engines.postgresql.session import ADMIN, MAINTENANCE

# Libc's C.UTF-8 is the same on every machine; from 17 the server has it built in, which no upgrade of a
# system library can reorder.
_LOCALE = ("--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C")
_LOCALE_BEFORE_17 = ("--locale=C.UTF-8",)

# The maintenance database stays open to everyone, as tools expect, but is nobody's place to put things.
_TIDY = f"REVOKE TEMPORARY ON DATABASE {MAINTENANCE} FROM PUBLIC\n"


def build(host: Host, programs: Programs) -> None:
    """Make `host.template` with initdb; already there is left alone."""
    if (host.template / "PG_VERSION").exists():
        return
    making = host.template.with_name(f".{host.template.name}.new")
    shutil.rmtree(making, ignore_errors=True)
    host.make_directory(making)
    name = under_a_name(host.account)
    locale = _LOCALE if int(host.version) >= 17 else _LOCALE_BEFORE_17
    host.run_program(
        [*name, programs.initdb, "-D", making, "-U", ADMIN, "-E", "UTF8", "--auth-local=peer",
         "--auth-host=scram-sha-256", "--data-checksums", "--no-instructions", "--no-sync", *locale],
    )  # fmt: skip
    host.run_program([*name, programs.postgres, "--single", "-D", making, MAINTENANCE], stdin=_TIDY)
    for unused in ("postgresql.conf", "pg_hba.conf", "pg_ident.conf"):
        (making / unused).unlink()  # ours are outside the data directory; these would only mislead
    for segment in (making / "pg_wal").iterdir():
        if segment.is_file():
            _punch(segment)
    making.rename(host.template)


def clone(host: Host) -> None:
    """Make `host.data` from the template, with an identity of its own; a data directory is left alone.

    Raises EngineError when something else is in its place.
    """
    if (host.data / "PG_VERSION").exists():
        return
    making = host.data.with_name(f".{host.data.name}.new")
    shutil.rmtree(making, ignore_errors=True)
    try:
        _copy_directory(host.template, making, host.account)
        system_identifier.make_unique(making)
        _to_sync(host).touch()
        making.rename(host.data)
    except OSError as error:
        shutil.rmtree(making, ignore_errors=True)
        raise EngineError(f"The data directory {host.data} cannot be made: {error}.") from error


def finish_sync(host: Host) -> None:
    """Force a new data directory to disk; one that was is left alone. A crash in the middle loses nothing."""
    if _to_sync(host).exists():
        host.run_program(["sync", "--file-system", host.data], timeout_s=600, as_agent=True)
        _to_sync(host).unlink(missing_ok=True)


def _to_sync(host: Host) -> Path:
    return host.etc / "data-not-synced"


def _punch(segment: Path) -> None:
    """Free the zeros at the end of a log segment, so that copies need not carry them."""
    content = segment.read_bytes()
    with segment.open("r+b") as file:
        file.truncate(len(content.rstrip(b"\0")))
        file.truncate(len(content))


def _copy_directory(source: Path | str, target: Path | str, account: Account) -> None:
    """Copy a tree of plain files for another owner; shares blocks where the file system can.

    In one pass of system calls: starting `cp` and walking again for the owner takes twice as long.
    """
    os.mkdir(target, 0o700)  # noqa: PTH102  # strings all the way: a thousand paths are built here
    os.chown(target, account.uid, account.gid)
    with os.scandir(source) as entries:
        for entry in entries:
            path = f"{target}/{entry.name}"
            if entry.is_dir(follow_symlinks=False):
                _copy_directory(entry.path, path, account)
            else:
                _copy_file(entry.path, path, account)


def _copy_file(source: str, target: str, account: Account) -> None:
    original = os.open(source, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        copy = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.fchown(copy, account.uid, account.gid)
            size = os.fstat(original).st_size
            copied = 0
            for start, end in _extents(original, size):
                done = start
                while done < end and (count := _copy_range(original, copy, done, end - done)):
                    done += count
                    copied += count
            if copied < size:
                # The server counts on the space of a log segment it has made: allocate what is not copied.
                os.posix_fallocate(copy, 0, size)
        finally:
            os.close(copy)
    finally:
        os.close(original)


def _extents(file: int, size: int) -> Iterator[tuple[int, int]]:
    """Where a file has data; between these it reads as zeros. Copies of an image may have holes anywhere."""
    end = 0
    while end < size:
        try:
            start = os.lseek(file, end, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            return
        end = os.lseek(file, start, os.SEEK_HOLE)
        yield start, end


def _copy_range(original: int, copy: int, offset: int, count: int) -> int:
    """Copy within the kernel, from and to the same offset; returns how many bytes went."""
    try:
        return os.copy_file_range(original, copy, count, offset, offset)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        # Another file system, as a volume of its own is: nothing can be shared.
        os.lseek(copy, offset, os.SEEK_SET)
        return os.sendfile(copy, original, offset, count)
