"""The software of datastore versions, moved to where machines have it.

Programs of a bundle carry the path they run from: that of the image of the local platform they were taken from. Here they
are told the one on the machine.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from argosy.domain.datastore import Version
from argosy.domain.errors import ImageUnavailable
from argosy.domain.parameters import Catalogue
from argosy.platforms.base import ImagePhase
from argosy.platforms.local import elf
from argosy.platforms.local.images import LocalImages
from argosy.platforms.openstack.image.tools import Say

PLACE = PurePosixPath("/opt/argosy/software")
_PATIENCE_S = 3600


@dataclass(frozen=True)
class Software:
    """One version as the local platform has it; `manifest` says what it is made of."""

    version: Version
    bundle: Path
    template: Path
    manifest: dict[str, Any]
    parameters: Catalogue | None

    @property
    def place(self) -> PurePosixPath:
        """Where it is on the machine."""
        return PLACE / self.version.datastore / self.version.name

    @property
    def entry(self) -> dict[str, str]:
        """What `/etc/argosy/image.json` says of it."""
        return {
            "datastore": self.version.datastore,
            "version": self.version.name,
            "series": self.version.series,
            "bundle": str(self.place / "bundle"),
            "template": str(self.place / "template"),
        }


def ready(images: LocalImages, version: Version, say: Say) -> Software:
    """Have the local platform make the software ready, unless it is. Raises ImageUnavailable."""
    shown = f"{version.datastore} {version.name}"
    if images.state(version).phase is not ImagePhase.READY:
        say(f"making the software of {shown} ready, which takes a while the first time")
        images.begin(version)
        state = images.wait(version, _PATIENCE_S)
        if state.phase is not ImagePhase.READY:
            raise ImageUnavailable(state.detail)
    manifest = images.manifest(version)
    if not manifest["tls"]:
        raise ImageUnavailable(
            f"The software of {shown} here is that of a wheel, which cannot be moved to a machine: machines need "
            f"Debian's. Remove {images.bundle(version).parent} and build again where Debian's packages can be had."
        )
    return Software(
        version, images.bundle(version), images.template(version), manifest, images.parameters(version)
    )


def lay(software: Software, root: Path, account: tuple[int, int]) -> None:
    """Copy the software below the root of a machine's file system; the template belongs to the database's account."""
    place = root / software.place.relative_to("/")
    place.mkdir(parents=True)
    shutil.copytree(software.bundle, place / "bundle", symlinks=True)
    _move(place / "bundle", software.bundle, software.place / "bundle")
    shutil.copytree(software.template, place / "template", symlinks=True)
    for directory, _, files in os.walk(place / "template"):
        for path in (Path(directory), *(Path(directory, name) for name in files)):
            os.chown(path, *account, follow_symlinks=False)


def _move(bundle: Path, old: Path, new: PurePosixPath) -> None:
    """Have the programs of a copy run from `new` rather than from `old`."""
    loader = next(path for path in bundle.glob("usr/lib/*/ld*.so.*") if path.name.startswith("ld"))
    at_home = Path(new / PurePosixPath(loader.relative_to(bundle)))
    changes = []
    for path in _files(bundle):
        found = elf.read(path)
        if found is None or not (
            found.is_program or any(str(old) in directory for directory in found.search)
        ):
            continue
        search = tuple(directory.replace(str(old), str(new)) for directory in found.search)
        changes.append(elf.Change(path, search, at_home if found.is_program else None))
    elf.patch(changes)
    left = [path for path in _files(bundle) if os.fsencode(old) in path.read_bytes()]
    if left:
        names = ", ".join(str(path.relative_to(bundle)) for path in left[:5])
        raise ImageUnavailable(f"{names} would look for what they need in {old}, which no machine has.")


def _files(directory: Path) -> Iterator[Path]:
    for parent, _, names in os.walk(directory):
        for name in sorted(names):
            path = Path(parent, name)
            if path.is_file() and not path.is_symlink():
                yield path
