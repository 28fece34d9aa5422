"""Looking through directories that others write in: what goes while it is looked at is as good as not there."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

# The file systems of instances: what is in them is looked at where they are mounted.
_VOLUMES = "volume.img"


def below(*places: Path) -> Iterator[Path]:
    """Every regular file of these places but whole volumes, at any depth. Links are not followed."""
    for place in places:
        for directory, _, names in os.walk(place):
            found = (Path(directory, name) for name in names if name != _VOLUMES)
            yield from (file for file in found if not file.is_symlink() and file.is_file())


def read(*places: Path) -> Iterator[tuple[Path, bytes]]:
    """The same, with what is in them."""
    for file in below(*places):
        with suppress(FileNotFoundError):
            yield file, file.read_bytes()
