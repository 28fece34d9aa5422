"""How full the volume is: told with every report, at once when it changes much, and as events when it gets low.

A volume with a file system of its own is measured as that is, logs and all. Of a plain directory only what is in it
is known, and how full it is then only who knows the instance's size can tell.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from argosy.domain.errors import OutOfSpace

# In parts of its size; what was told is taken back a little below, so that nothing is told to and fro.
LOW, ROOM_AGAIN = 0.9, 0.85
# With less the next thing a server wants to write may not fit: a segment of PostgreSQL's log has so much.
FULL_BYTES = 16 * 2**20
_MUCH = 0.01
_MB = 2**20


@dataclass(frozen=True)
class Usage:
    """Bytes; `size` None for a plain directory."""

    used: int
    size: int | None = None

    @property
    def free(self) -> int | None:
        return None if self.size is None else self.size - self.used

    @property
    def part(self) -> float:
        return self.used / self.size if self.size else 0.0


def usage(volume: Path) -> Usage:
    """What is used of a volume now. Raises OSError while it is not there."""
    if not os.path.ismount(volume):
        return Usage(_allocated(str(volume)))
    told = os.statvfs(volume)
    used = (told.f_blocks - told.f_bfree) * told.f_frsize
    # Not f_blocks: of an image with room to grow only a part is handed out.
    return Usage(used, used + told.f_bavail * told.f_frsize)


def out_of_room(error: BaseException) -> OutOfSpace | None:
    """What a user is told when it was the volume that had no room for what was to be written."""
    if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return OutOfSpace("The volume is full: make it larger (argosy resize), or delete something.")
    return None


class VolumeWatch:
    """`record` keeps an event until it is told, `soon` asks for a report. Looked at from one thread."""

    def __init__(self, volume: Path, *, record: Callable[[str, str], None], soon: Callable[[], None]) -> None:
        self._volume = volume
        self._record = record
        self._soon = soon
        self._told = ""
        self._last = 0.0

    def look(self) -> None:
        if not os.path.ismount(self._volume):
            return
        now = usage(self._volume)
        free = now.free or 0
        state = "full" if free < FULL_BYTES else "low" if now.part >= LOW else self._told
        if state == "full" != self._told:
            self._record(
                "volume.full",
                f"The volume is full, {free // _MB} of its {(now.size or 0) // _MB} MB are left: writes fail or wait "
                "until it is resized or something is deleted.",
            )
        elif state == "low" != self._told != "full":
            self._record(
                "volume.low",
                f"The volume is {now.part:.0%} full, {free // _MB} of its {(now.size or 0) // _MB} MB are left.",
            )
        if self._told and now.part < ROOM_AGAIN:
            self._record("volume.room", f"The volume has room again: {free // _MB} MB are left.")
            state = ""
        if state != self._told or abs(now.part - self._last) >= _MUCH:
            self._soon()
            self._last = now.part
        self._told = state


def _allocated(directory: str) -> int:
    total = 0
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                try:
                    if entry.is_dir(follow_symlinks=False):
                        total += _allocated(entry.path)
                    else:
                        total += entry.stat(follow_symlinks=False).st_blocks * 512
                except FileNotFoundError:
                    continue
    except FileNotFoundError:
        return total
    return total
