"""The code of this release's agent, as a control plane gives it to machines that run another one."""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import argosy

CODE = "/v1/agent"
_ROOT = Path(argosy.__file__).parent
_PARTS = ("__init__.py", "py.typed", "marks.py", "files.py", "agent", "domain", "engines", "rpc", "storage")


@cache
def digest() -> str:
    """Says which code this process has: see `digest_of`."""
    return digest_of(_ROOT)


def digest_of(package: Path) -> str:
    """Says which code is in a directory `argosy`: SHA-256, hex, over the names and contents of its files."""
    total = hashlib.sha256()
    for name, content in _files(package):
        total.update(f"{name}\0{len(content)}\0".encode())
        total.update(content)
    return total.hexdigest()


@cache
@cache
def pack() -> bytes:
    """The files below `argosy/`, as a tar that is the same for the same code."""
    packed = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=packed, mode="wb", mtime=0) as zipped,
        tarfile.open(fileobj=zipped, mode="w") as tar,
    ):
        for name, content in _files(_ROOT):
            entry = tarfile.TarInfo(f"argosy/{name}")
            entry.size, entry.mode = len(content), 0o644
            tar.addfile(entry, io.BytesIO(content))
    return packed.getvalue()


def _files(package: Path) -> Iterator[tuple[str, bytes]]:
    for part in _PARTS:
        place = package / part
        for path in sorted(place.rglob("*")) if place.is_dir() else [place]:
            name = path.relative_to(package)
            # What other processes compile comes and goes meanwhile, at first under names of its own.
            if "__pycache__" not in name.parts and path.suffix != ".pyc" and path.is_file():
                yield str(name), path.read_bytes()
