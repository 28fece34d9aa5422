"""What the cloud tells a machine at its boot: the user data on its config drive, a small ISO 9660 file system.

Whoever may read the drive may read the bootstrap identity on it. That is good for one enrolment, and the drive is made
root's own all the same.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import time
from pathlib import Path

from argosy.domain.errors import Failed
from argosy.rpc.enrolment import FORMAT, Bootstrap

_USER_DATA = "openstack/latest/user_data"
_LABEL = "config-2"
# ECMA-119: the first volume descriptor is sector 16, and the volume's name is at 40 in it.
_NAME_AT, _NAME_SIZE = 16 * 2048 + 40, 32
# sys/mount.h, see mount(2)
_READ_ONLY, _NOSUID, _NODEV, _NOEXEC = 1, 2, 4, 8
_MNT_DETACH = 2
_WAIT_S, _POLL_S = 30.0, 0.2


class NoConfigDrive(Failed):
    """The machine has none, or it does not tell what a guest needs."""

    code = "no-config-drive"


def read(directory: Path | None, run: Path) -> Bootstrap:
    """From a directory, or without one from the drive itself, which is mounted below `run` for a moment.

    Raises NoConfigDrive.
    """
    if directory is not None:
        return _bootstrap(directory)
    device = _wait_for_device()
    point = run / "config-drive"
    point.mkdir(mode=0o700, parents=True, exist_ok=True)
    libc = ctypes.CDLL(None, use_errno=True)
    flags = ctypes.c_ulong(_READ_ONLY | _NOSUID | _NODEV | _NOEXEC)
    if libc.mount(os.fsencode(device), os.fsencode(point), b"iso9660", flags, None) != 0:
        raise NoConfigDrive(
            f"The config drive {device} cannot be mounted: {os.strerror(ctypes.get_errno())}."
        )
    try:
        return _bootstrap(point)
    finally:
        libc.umount2(os.fsencode(point), _MNT_DETACH)
        with contextlib.suppress(OSError):
            point.rmdir()


def close_to_others() -> None:
    """Let root alone read the drive, at each boot: device files are made anew."""
    device = _find_device()
    if device is not None:
        with contextlib.suppress(OSError):
            os.chown(device, 0, 0)
            device.chmod(0o600)


def _bootstrap(directory: Path) -> Bootstrap:
    try:
        text = (directory / _USER_DATA).read_bytes()
    except OSError as error:
        raise NoConfigDrive(
            f"The config drive has no {_USER_DATA} ({error.strerror}): this machine was not made by Argosy."
        ) from error
    try:
        found = Bootstrap.model_validate_json(text)
    except ValueError:
        # The error's own text would repeat what was read, a key too.
        raise NoConfigDrive("The user data of this machine is not Argosy's.") from None
    if found.argosy != FORMAT:
        raise NoConfigDrive(
            f"The user data is of format {found.argosy}, and this agent knows {FORMAT}: build the image anew."
        )
    return found


def _wait_for_device() -> Path:
    deadline = time.monotonic() + _WAIT_S
    while (device := _find_device()) is None:
        if time.monotonic() > deadline:
            raise NoConfigDrive("This machine has no config drive: boot it with one.")
        time.sleep(_POLL_S)
    return device


def _find_device() -> Path | None:
    """By its label; a drive that udev has not seen yet, by what is written on it."""
    named = Path("/dev/disk/by-label") / _LABEL
    if named.exists():
        return named.resolve()
    for device in sorted(Path("/dev").glob("sr[0-9]")):
        with contextlib.suppress(OSError), device.open("rb") as drive:
            drive.seek(_NAME_AT)
            if drive.read(_NAME_SIZE).strip().lower() == _LABEL.encode():
                return device
    return None
