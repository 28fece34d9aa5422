"""Room kept on the volume for a server that has run into its end.

PostgreSQL refuses, one by one, the statements that need room for tables. Without room for its log it gives up
altogether (PANIC), and cannot start again either, since recovery has to write too: then nobody could even read. So a
file is kept that may be given away. A server that starts with it given away is read-only for whoever does not ask for
more (`default_transaction_read_only`), or it would use up at once what it was given.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from argosy.engines.host import Host

SEGMENT_BYTES = 16 * 2**20
RESERVE_BYTES = 2 * SEGMENT_BYTES
# Below this, what is kept on the volume beside the data has to go.
LEAST_FREE_BYTES = 3 * SEGMENT_BYTES


def free_bytes(host: Host) -> int | None:
    """What is left on the volume; None when it has no file system of its own."""
    volume = host.data.parent
    if not os.path.ismount(volume):
        return None
    told = os.statvfs(volume)
    return told.f_bavail * told.f_frsize


def keep(host: Host) -> bool:
    """Lay the reserve where there is room for it; True when there is."""
    free, file = free_bytes(host), _file(host)
    if free is None or file.exists():
        return free is not None
    if free < RESERVE_BYTES + 2 * SEGMENT_BYTES:
        return False
    # Made new or not at all: the server, whose volume it is, could have put a link there.
    with contextlib.suppress(OSError):
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, RESERVE_BYTES)
        except OSError:
            file.unlink(missing_ok=True)
        finally:
            os.close(descriptor)
    return file.exists()


def give_away(host: Host) -> None:
    """Before a start: when there is no room for the server's log, give it the reserve and have it read-only."""
    free = free_bytes(host)
    if free is not None and free < SEGMENT_BYTES:
        host.write_file(_mark(host), "", as_agent=True)
        _file(host).unlink(missing_ok=True)


def is_given_away(host: Host) -> bool:
    return _mark(host).exists()


def has_room_again(host: Host) -> bool:
    """Whether what was given away can be kept anew, which is then done."""
    if not is_given_away(host) or not keep(host):
        return False
    _mark(host).unlink(missing_ok=True)
    return True


def _file(host: Host) -> Path:
    return host.data.parent / "reserve"


def _mark(host: Host) -> Path:
    """Beside the configuration, which it is about."""
    return host.etc / "read-only"
