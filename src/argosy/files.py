"""Files that matter, such as keys: written whole or not at all, and never readable by others on their way."""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path


def write_file(path: Path, text: str, mode: int) -> None:
    """Write a file, or replace it; it is on disk when this returns."""
    temporary = _beside(path)
    _write_new(temporary, text, mode)
    temporary.replace(path)


def write_once(path: Path, text: str, mode: int) -> None:
    """Write a file unless it is there. Of two that write it at once the first wins, and both find what it wrote."""
    if path.exists():
        return  # also where nothing may be written
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = _beside(path)
    _write_new(temporary, text, mode)
    try:
        # link, not rename: it does not replace what is there.
        os.link(temporary, path)
    except FileExistsError:
        pass
    finally:
        temporary.unlink()


def keep_database(path: Path) -> None:
    """Make a SQLite database nobody else's from its first byte, and one that was open to others too.

    SQLite gives its other files the mode of this one. It is not opened when it is there: closing it again would take
    the locks of the whole process with it (https://sqlite.org/howtocorrupt.html, 2.2).
    """
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    for file in (path, *(path.with_name(path.name + end) for end in ("-wal", "-shm"))):
        with suppress(FileNotFoundError, PermissionError):  # another's is another's to close
            if file.stat().st_mode & 0o077:
                file.chmod(0o600)


def _write_new(path: Path, text: str, mode: int) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as file:
        os.fchmod(file.fileno(), mode)  # whatever the umask
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _beside(path: Path) -> Path:
    """A name for a file on its way to `path` that nobody else picks, be it another thread."""
    return path.with_name(f".{path.name}.{secrets.token_hex(6)}")
