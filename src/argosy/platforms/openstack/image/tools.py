"""What the host must have for an image to be built on it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

from argosy.domain.errors import Failed, ImageUnavailable, OutOfSpace

Say = Callable[[str], None]

# By the Debian packages they come in.
PROGRAMS = {
    "mmdebstrap": "mmdebstrap",
    "extlinux": "extlinux",
    "qemu-img": "qemu-utils",
    "mke2fs": "e2fsprogs",
    "modprobe": "kmod",
    "dpkg-deb": "dpkg",
    "chroot": "coreutils",
}
_ROOM_GB = 4


def check(*, install: bool, say: Say) -> None:
    """Raises Failed, ImageUnavailable or OutOfSpace with what is missing."""
    if os.geteuid() != 0:
        raise Failed("An image is built by root alone, since its files belong to several accounts: use sudo.")
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    missing = sorted(
        {package for program, package in PROGRAMS.items() if shutil.which(program, path=path) is None}
    )
    if missing and not install:
        raise ImageUnavailable(
            f"Building an image takes programs that are not here: apt-get install {' '.join(missing)}, or give "
            "--install-missing."
        )
    if missing:
        say(f"installing {', '.join(missing)}")
        quiet = ["-qq", "--no-install-recommends"]
        run(["apt-get", "-qq", "update"])
        run(["apt-get", "install", "-y", *quiet, *missing])
    work = work_place()
    free_gb = shutil.disk_usage(work).free / 2**30
    if free_gb < _ROOM_GB:
        raise OutOfSpace(
            f"{work} has {free_gb:.1f} GB free, and building an image takes {_ROOM_GB}: free some, or name another "
            "place by TMPDIR."
        )


def work_place() -> Path:
    """Where files that are needed for the build alone are put; /tmp is often in memory, and too small."""
    return Path(os.environ.get("TMPDIR") or "/var/tmp")  # noqa: S108 - below it goes a directory of our own


def run(argv: Sequence[str], *, env: dict[str, str] | None = None, timeout_s: float = 1800) -> str:
    """Run a program of the host; what it printed. Raises ImageUnavailable with the end of what it complained of."""
    done = subprocess.run(
        argv,
        env={
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "LC_ALL": "C.UTF-8",
            "DEBIAN_FRONTEND": "noninteractive",
            **(env or {}),
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        timeout=timeout_s,
    )
    if done.returncode != 0:
        if "No space left" in done.stderr + done.stdout:
            raise OutOfSpace(
                "No space is left for building the image: free some, or name another place by TMPDIR."
            )
        lines = (done.stderr.strip() or done.stdout.strip()).splitlines()
        errors = [line for line in lines if line.startswith(("E:", "dpkg:", "ERROR"))] or lines[-5:]
        said = " ".join(line[:400] for line in errors)[:1500]
        raise ImageUnavailable(f"{argv[0]} failed: {said or f'exit status {done.returncode}'}")
    return done.stdout
