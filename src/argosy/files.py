"""Small files that matter, such as keys: written whole or not at all, and never readable by others on their way."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def write_file(path: Path, text: str, mode: int) -> None:
    """Write a file, or replace it; it is on disk when this returns."""
    temporary = _beside(path)
    _write_new(temporary, text, mode)
    temporary.replace(path)


def write_once(path: Path, text: str, mode: int) -> None:
    """Write a file unless it is there. Of two that write it at once the first wins, and both find what it wrote."""
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


def _write_new(path: Path, text: str, mode: int) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as file:
        os.fchmod(file.fileno(), mode)  # whatever the umask
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def _beside(path: Path) -> Path:
    """A name for a file on its way to `path` that nobody else picks, be it another thread."""
    return path.with_name(f".{path.name}.{secrets.token_hex(6)}")
