"""A directory as the disk of a machine: one file system, no partition table, so that it grows by itself."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

from argosy.domain.errors import OutOfSpace
from argosy.platforms.openstack.image import boot
from argosy.platforms.openstack.image.tools import run

# The same on every machine: nothing on a machine tells disks of several apart by them.
_UUID = "a6e0a1d6-3a0c-4d0e-9a55-0d5e2f4b7c12"
_HASH_SEED = "a6e0a1d6-3a0c-4d0e-9a55-0d5e2f4b7c13"
# extlinux reads neither 64bit nor metadata_csum.
_FEATURES = "^64bit,^metadata_csum"
_SPARE = 1.25  # for the file system's own books, and for a machine whose disk is no larger than the image


def tree_digest(root: Path) -> str:
    """SHA-256 over every file below a directory: name, kind, mode, owner, date and content."""
    total = hashlib.sha256()
    for directory, names, files in os.walk(root):
        names.sort()
        for name in sorted([*names, *files]):
            path = Path(directory, name)
            found = path.lstat()
            shown = f"{path.relative_to(root)}\0{found.st_mode:o}\0{found.st_uid}:{found.st_gid}\0{int(found.st_mtime)}\0"
            total.update(shown.encode())
            if stat.S_ISLNK(found.st_mode):
                total.update(os.fsencode(path.readlink()))
            elif stat.S_ISREG(found.st_mode):
                with path.open("rb") as content:
                    total.update(hashlib.file_digest(content, "sha256").digest())
    return total.hexdigest()


def make(root: Path, output: Path, *, size_gb: int, kind: str, work: Path) -> None:
    """Write the image. Raises OutOfSpace when the files do not fit into its size."""
    used = sum(path.lstat().st_blocks * 512 for path in root.rglob("*"))
    if used * _SPARE > size_gb * 2**30:
        least = int(used * _SPARE / 2**30) + 1
        raise OutOfSpace(f"The files take {used / 2**30:.1f} GB: give --size-gb {least} or more.")
    raw = work / "disk.raw"
    with raw.open("wb") as file:
        file.truncate(size_gb * 2**30)
    run([
        "mke2fs", "-q", "-t", "ext4", "-L", boot.LABEL, "-U", _UUID, "-O", _FEATURES, "-m", "1",
        "-E", f"lazy_itable_init=1,nodiscard,hash_seed={_HASH_SEED}", "-d", str(root), str(raw),
    ])  # fmt: skip
    mounted = work / "mounted"
    mounted.mkdir()
    run(["mount", "-o", "loop", str(raw), str(mounted)])
    try:
        boot.install_loader(mounted)
    finally:
        run(["umount", str(mounted)])
    partial = output.with_name(f".{output.name}.partial")
    try:
        run(["qemu-img", "convert", "-f", "raw", "-O", kind, str(raw), str(partial)])
        partial.replace(output)
    finally:
        partial.unlink(missing_ok=True)
        raw.unlink()
