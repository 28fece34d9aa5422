"""The data volume of a machine: a block device of its own, formatted if it is blank, never otherwise.

It is found by its serial number, which virtio cuts at 20 characters (VIRTIO_BLK_ID_BYTES), and its file system has
the instance's id for a UUID, so that another instance's volume is not taken for ours.
"""

from __future__ import annotations

import fcntl
import logging
import os
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from argosy.domain.errors import PlatformError

log = logging.getLogger(__name__)

_SERIAL_LENGTH = 20
_MIB = 2**20
_LOOK_AT = 4 * _MIB  # bytes at either end, where partition tables, RAID and LVM keep what tells of them
_EXT4_IOC_RESIZE_FS = 0x40086610  # linux/fs/ext4/ext4.h
_BLKGETSIZE64 = 0x80081272
_NOTHING_FOUND = 2  # blkid(8)
_PAUSE_S = 0.2


def find(serial: str, *, timeout_s: float = 60, block: Path = Path("/sys/block")) -> Path:
    """The device of that serial number, once the kernel knows it. Raises PlatformError when it does not come."""
    deadline = time.monotonic() + timeout_s
    while True:
        for entry in sorted(block.iterdir()):
            if serial[:_SERIAL_LENGTH] in _serials(entry):
                return Path("/dev") / entry.name
        if time.monotonic() > deadline:
            raise PlatformError(
                f"The data volume {serial} is not attached to this machine: "
                f"it has {', '.join(sorted(entry.name for entry in block.iterdir())) or 'no disks'}."
            )
        time.sleep(_PAUSE_S)


def mount(device: Path, point: Path, uuid: str, begun: Path) -> None:
    """Mount the device at a directory, its file system as large as itself; formatted first if it is blank.

    `begun` is a file that says that it was blank and is being formatted: a machine that died in the middle of that
    formats it again. Raises PlatformError when what is on the device is not this instance's, with nothing changed.
    """
    if os.path.ismount(point):
        return
    found = _file_system(device)
    if found != ("ext4", uuid) and (_is_blank(device, found) or _was_begun(begun, uuid)):
        _format(device, uuid, begun)
    elif found != ("ext4", uuid):
        what = "something" if found is None else f"a file system ({found[0]}) of another"
        raise PlatformError(
            f"The data volume {device} holds {what}, and is not touched: it must be blank, or this instance's own."
        )
    begun.unlink(missing_ok=True)
    point.mkdir(mode=0o755, parents=True, exist_ok=True)
    _run(["mount", "-t", "ext4", "-o", "nosuid,nodev,noatime", device, point])
    grow(device, point)


def grow(device: Path, point: Path) -> None:
    """Let the mounted file system fill its device; one that does already is left alone."""
    size, (blocks, block) = size_of(device), _blocks(device)
    if (blocks + 1) * block > size:
        return
    root = os.open(point, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.ioctl(root, _EXT4_IOC_RESIZE_FS, struct.pack("=Q", size // block))
    except OSError as error:
        raise PlatformError(
            f"The file system of {device} cannot be made larger: {error.strerror}."
        ) from error
    finally:
        os.close(root)
    log.info("file system grown", extra={"device": str(device), "size_bytes": size})


def size_of(device: Path) -> int:
    """Bytes, as the kernel knows them now."""
    with device.open("rb") as file:
        if not device.is_block_device():
            return file.seek(0, os.SEEK_END)
        told = fcntl.ioctl(file, _BLKGETSIZE64, b"\0" * 8)
    return int(struct.unpack("=Q", told)[0])


def file_system_size(device: Path) -> int:
    """Bytes of the device that its ext4 file system makes use of."""
    blocks, block = _blocks(device)
    return blocks * block


def _blocks(device: Path) -> tuple[int, int]:
    """How many blocks the file system has, and the size of one, by its superblock (kernel, ext4 superblock)."""
    with device.open("rb") as file:
        file.seek(1024)
        block = file.read(1024)
    low, scale, high = (struct.unpack_from("<I", block, at)[0] for at in (0x4, 0x18, 0x150))
    features = struct.unpack_from("<I", block, 0x60)[0]
    has_high = bool(features & 0x80)  # INCOMPAT_64BIT
    return low | (high << 32 if has_high else 0), 1024 << scale


def _serials(entry: Path) -> Iterator[str]:
    for place in ("serial", "device/serial", "device/vpd_pg80"):
        try:
            told = (entry / place).read_bytes()
        except OSError:
            continue
        # What a SCSI disk tells has a head of four bytes (SPC-5, unit serial number page).
        text = told[4:] if place.endswith("vpd_pg80") else told
        yield text.decode("ascii", "replace").strip("\0 \n")[:_SERIAL_LENGTH]


def _file_system(device: Path) -> tuple[str, str] | None:
    """Its type and UUID, by what is on the device now; None for no file system, partition table or the like."""
    done = subprocess.run(
        ["blkid", "-p", "-o", "export", str(device)], capture_output=True, text=True, check=False, timeout=60
    )
    if done.returncode == _NOTHING_FOUND:
        return None
    told = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    return told.get("TYPE") or told.get("PTTYPE") or "unknown", told.get("UUID", "")


def _is_blank(device: Path, found: tuple[str, str] | None) -> bool:
    if found is not None:
        return False
    with device.open("rb") as file:
        head = file.read(_LOOK_AT)
        file.seek(-min(_LOOK_AT, size_of(device)), os.SEEK_END)
        return not any(head) and not any(file.read(_LOOK_AT))


def _was_begun(begun: Path, uuid: str) -> bool:
    try:
        return begun.read_text() == uuid
    except FileNotFoundError:
        return False


def _format(device: Path, uuid: str, begun: Path) -> None:
    new = begun.with_suffix(".new")
    with new.open("w") as file:
        file.write(uuid)
        file.flush()
        os.fsync(file.fileno())
    new.replace(begun)
    # Nothing is reserved for root, whose agent keeps little there; a blank device needs no discarding.
    _run(["mkfs.ext4", "-q", "-F", "-m", "0", "-L", "argosy", "-U", uuid, "-E", "nodiscard", device])
    log.info("volume formatted", extra={"device": str(device), "uuid": uuid})


def _run(argv: list[str | Path]) -> None:
    words = [str(word) for word in argv]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise PlatformError(f"{words[0]} failed ({done.returncode}): {done.stderr.strip()[-500:]}")
