"""A place beside the instance's own, where data is made ready and a server proves itself out of everybody's reach.

Each kind of work has an area of its own: directories of the same name on the volume (which its user lays out), below
`etc` and below `logs`, and its first letter below `run`, where paths must be short.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from argosy.engines import choices
from argosy.engines.host import Account, Host


@dataclass(frozen=True)
class Software:
    """What another version runs from, within reach of this guest."""

    version: str
    bundle: Path
    template: Path


def make_directory(host: Host, path: Path) -> Path:
    """A new directory of the server's account, where that account could have put a link before: not through it."""
    remove(path)
    path.mkdir(mode=0o700)
    os.chown(path, host.account.uid, host.account.gid, follow_symlinks=False)
    return path


def beside(host: Host, area: str, name: str, *, data: Path, software: Software | None = None) -> Host:
    """A place in a staging area where a server runs out of everybody's reach."""
    version, bundle, template = host.version, host.bundle, host.template
    if software is not None:
        version, bundle, template = software.version, software.bundle, software.template
    return replace(
        host,
        version=version,
        bundle=bundle,
        template=template,
        data=data,
        etc=host.etc / area / name,
        run=host.run / area[0] / name,
        logs=host.logs / area / name,
        private=True,
    )


def lay(place: Host, *, parameters: bool) -> None:
    """The directories of such a place; with `parameters` its server gets the owner's choices."""
    own = Account.own()
    for path in (place.etc.parent, place.etc):
        path.mkdir(mode=0o750, exist_ok=True)
        os.chown(path, own.uid, place.account.gid)
    for path in (place.run.parent, place.run, place.logs.parent, place.logs):
        if not path.is_dir() or path.is_symlink():
            make_directory(place, path)
    if parameters:
        chosen = choices.read(replace(place, etc=place.etc.parent.parent))
        choices.write(place, replace(chosen, allowed_cidrs=()))


def clear(host: Host, area: str) -> None:
    """Remove the area but for what is on the volume."""
    for place in (host.etc / area, host.run / area[0], host.logs / area):
        remove(place)


def sync(directory: Path) -> None:
    """The names in a directory are on the disk."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove(path: Path) -> None:
    """Whatever it is; what is not there is left alone."""
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path, ignore_errors=True)
