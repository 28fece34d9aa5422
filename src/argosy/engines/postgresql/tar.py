"""Looking at a tar archive that streams by, and keeping small files of it.

pg_basebackup writes the POSIX format with plain sizes (source: astreamer_tar.c): a header of 512 bytes, then the file,
filled up to 512.
"""

from __future__ import annotations

import tarfile
from collections.abc import Callable

from argosy.domain.errors import EngineError

_BLOCK = tarfile.BLOCKSIZE
_LARGEST = 256 * 2**20


class Kept:
    """Looks at a tar archive that passes through `look`, in parts of any size, and keeps the files of these names.

    `begins` gets the name of each member when it comes by.
    """

    def __init__(self, *names: str, begins: Callable[[str], None] = lambda _: None) -> None:
        self._names = names
        self._begins = begins
        self._header = bytearray()
        self._left = 0  # of the file that passes
        self._filling = 0
        self._keeping: bytearray | None = None
        self.files: dict[str, bytearray] = {}

    def look(self, part: bytes) -> None:
        """Raises EngineError when it is no tar archive."""
        at = 0
        while at < len(part):
            if self._left:
                taken = part[at : at + self._left]
                if self._keeping is not None:
                    self._keeping += taken
                self._left -= len(taken)
                at += len(taken)
            elif self._filling:
                skipped = min(self._filling, len(part) - at)
                self._filling -= skipped
                at += skipped
            else:
                taken = part[at : at + _BLOCK - len(self._header)]
                self._header += taken
                at += len(taken)
                if len(self._header) == _BLOCK:
                    self._begin(bytes(self._header))
                    self._header.clear()

    def _begin(self, header: bytes) -> None:
        if not any(header):
            return  # the end of the archive: two empty blocks
        try:
            member = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
        except tarfile.HeaderError as error:
            raise EngineError(f"pg_basebackup does not write a tar archive: {error}.") from error
        self._left = member.size if member.isreg() else 0
        self._filling = -self._left % _BLOCK
        self._keeping = None
        self._begins(member.name)
        if member.name in self._names and self._left <= _LARGEST:
            self._keeping = self.files[member.name] = bytearray()
