"""A bundle: software of Debian packages under a directory of its own, which runs on any distribution.

Packages are unpacked, never installed: no script of theirs runs. Files land in `usr/` of the bundle (the
merged layout, whatever the package has), documentation and translations stay out. Then programs are told
to start by the bundle's own loader and to look for libraries in the bundle, so they run and start each
other by their paths alone, with no wrapper and nothing in the environment.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import IO

from argosy.domain.errors import ImageUnavailable
from argosy.platforms.local import elf

_WORKERS = 2
_MERGED = {"bin", "sbin", "lib", "lib32", "lib64", "libx32"}
_UNWANTED = {
    ("usr", "include"),
    ("usr", "games"),
    ("usr", "lib", "systemd"),
    ("usr", "lib", "sysusers.d"),
    ("usr", "lib", "tmpfiles.d"),
    ("usr", "share", "bash-completion"),
    ("usr", "share", "bug"),
    ("usr", "share", "doc"),
    ("usr", "share", "doc-base"),
    ("usr", "share", "info"),
    ("usr", "share", "lintian"),
    ("usr", "share", "locale"),
    ("usr", "share", "man"),
}


def build(packages: Sequence[Path], bundle: Path, home: Path) -> list[str]:
    """Unpack packages into `bundle`, to be moved to `home` before use.

    Returns the modules left out because a library they need is not among the packages, relative to the bundle.
    Everything is readable, and programs executable, by all.
    """
    bundle.mkdir(mode=0o755)
    bundle.chmod(0o755)
    with ThreadPoolExecutor(_WORKERS) as workers:
        binaries = [
            path for found in workers.map(lambda deb: _unpack(deb, bundle), packages) for path in found
        ]
    return _relocate(bundle, home, binaries)


def _place(path: PurePosixPath) -> PurePosixPath | None:
    """Where a package's file goes, relative to the bundle; None when it stays out."""
    parts = [part for part in path.parts if part not in ("/", ".")]
    if ".." in parts:
        raise ImageUnavailable(f"a package holds the path {path}, which leads out of the bundle.")
    if parts and parts[0] in _MERGED:
        parts.insert(0, "usr")
    if not parts or parts[0] != "usr" or any(tuple(parts[: len(bad)]) == bad for bad in _UNWANTED):
        return None
    return PurePosixPath(*parts)


def _unpack(package: Path, bundle: Path) -> list[Path]:
    """Unpack one package; returns its ELF files."""
    binaries = []
    with subprocess.Popen(
        ["dpkg-deb", "--fsys-tarfile", str(package)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as reader:
        assert reader.stdout is not None  # noqa: S101 - what PIPE promises, said to the type checker
        assert reader.stderr is not None  # noqa: S101 - the same
        try:
            with tarfile.open(fileobj=reader.stdout, mode="r|") as archive:
                for member in archive:
                    path = _unpack_member(archive, member, bundle)
                    if path is not None:
                        binaries.append(path)
            # The reader dies of a closed pipe if the padding behind the archive's end is not taken too.
            reader.stdout.read()
        except tarfile.TarError as error:
            raise ImageUnavailable(
                f"{package.name} cannot be unpacked: {error}; {reader.stderr.read().decode(errors='replace').strip()}"
            ) from error
        problem = reader.stderr.read().decode(errors="replace").strip()
    if reader.returncode != 0:
        raise ImageUnavailable(f"{package.name} cannot be unpacked: {problem}")
    return binaries


def _unpack_member(archive: tarfile.TarFile, member: tarfile.TarInfo, bundle: Path) -> Path | None:
    """Write one file; returns its path when it is an ELF file."""
    place = _place(PurePosixPath(member.name))
    if place is None:
        return None
    path = bundle / place
    if member.isdir():
        _make_directory(path)
        return None
    _make_directory(path.parent)
    path.unlink(missing_ok=True)
    if member.issym():
        target = _inside(PurePosixPath(member.name), member.linkname)
        if target is not None:
            path.symlink_to(os.path.relpath(target, place.parent))
    elif member.islnk():
        target = _place(PurePosixPath(member.linkname))
        if target is not None:
            path.hardlink_to(bundle / target)
    elif member.isfile():
        content = archive.extractfile(member)
        if content is not None and _write(content, path, executable=bool(member.mode & 0o111)):
            return path
    return None


def _inside(link: PurePosixPath, target: str) -> PurePosixPath | None:
    """Where a symbolic link leads within the bundle; None for one that leads elsewhere, such as /etc."""
    there = os.path.normpath(PurePosixPath("/") / link.parent / target)
    return _place(PurePosixPath(there))


def _make_directory(path: Path) -> None:
    """Readable by all whatever the umask, parents too."""
    if not path.is_dir():
        _make_directory(path.parent)
        path.mkdir(exist_ok=True)
        path.chmod(0o755)


def _write(content: IO[bytes], path: Path, *, executable: bool) -> bool:
    """Write a file, without the set-uid bits a package may ask for; True when it is an ELF file."""
    head = content.read(4)
    with path.open("xb") as file:
        os.fchmod(file.fileno(), 0o755 if executable else 0o644)
        file.write(head)
        shutil.copyfileobj(content, file, 1 << 20)
    return head == elf.MAGIC


def _relocate(bundle: Path, home: Path, binaries: Sequence[Path]) -> list[str]:
    loader = next((path for path in bundle.glob("usr/lib/*/ld*.so.*") if path.name.startswith("ld")), None)
    if loader is None:
        raise ImageUnavailable("the packages hold no dynamic loader (libc6 is missing).")
    libraries = loader.parent
    read = {path: found for path in binaries if (found := elf.read(path)) is not None}
    left_out = _prune(bundle, libraries, read)

    def at_home(path: Path) -> str:
        return str(home / path.relative_to(bundle))

    changes = []
    for path, found in read.items():
        # A library that says nothing about where to look is found its own libraries by the program's
        # DT_RPATH; one that does say would look on the host.
        if not found.is_program and not found.search:
            continue
        own = [f"{home}{directory}" if directory.startswith("/") else directory for directory in found.search]
        search = tuple(dict.fromkeys([*own, at_home(libraries)]))
        changes.append(elf.Change(path, search, Path(at_home(loader)) if found.is_program else None))
    elf.patch(changes)
    return left_out


def _prune(bundle: Path, libraries: Path, read: dict[Path, elf.Elf]) -> list[str]:
    """Remove libraries and modules that could never be loaded, until all that stay can be.

    A module whose library was skipped on purpose is worse than none: PostgreSQL, finding its JIT compiler
    but not the library behind it, fails the query instead of going on without. A program that could not
    start, on the other hand, means that too much was skipped, and raises ImageUnavailable.
    """
    left_out: list[str] = []
    while True:
        missing = {path: _missing(path, found, bundle, libraries) for path, found in read.items()}
        broken = [path for path, names in missing.items() if names]
        if not broken:
            return sorted(left_out)
        for path in broken:
            name = str(path.relative_to(bundle))
            if read[path].is_program:
                also = f", nor could these be loaded: {', '.join(left_out)}" if left_out else ""
                raise ImageUnavailable(
                    f"{name} needs {', '.join(missing[path])}, which the packages do not hold{also}: "
                    "the catalog skips too much."
                )
            path.unlink(missing_ok=True)
            left_out.append(name)
            del read[path]


def _missing(path: Path, found: elf.Elf, bundle: Path, libraries: Path) -> list[str]:
    """The libraries a file needs and the bundle does not have where it would look."""
    own = [
        Path(f"{bundle}{directory}")
        if directory.startswith("/")
        else Path(directory.replace("$ORIGIN", str(path.parent)).replace("${ORIGIN}", str(path.parent)))
        for directory in found.search
    ]
    return [
        name
        for name in found.needs
        if not any((directory / name).exists() for directory in [libraries, *own])
    ]
