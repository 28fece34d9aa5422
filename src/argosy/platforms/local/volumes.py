"""Volumes: a file system of exactly the asked size in a file of its own, or a plain directory.

A real one is a sparse ext4 image mounted through a loop device. The kernel frees the device by itself with
the last use of it (autoclear), so a crash leaves none behind. Which kind an instance has is told by its
files alone: a volume with an image is real, whatever the configuration says today.

A real one grows while it is in use: the image, its loop device, the file system. The kernel lets nobody grow a mounted
ext4 who has not CAP_SYS_RESOURCE, as root of many containers has not. There an image is made with room to grow
into, of which all but the volume's size is kept from everybody, and growing is to keep less
(docs/decisions/0013-volumes-grow-in-place.md).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import functools
import logging
import os
import re
import shutil
import struct
import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from argosy.domain.errors import OutOfSpace, PlatformError
from argosy.platforms.local.accounts import Account, account_of
from argosy.platforms.local.addresses import AddressPool
from argosy.platforms.local.home import Home, Place, make_directory

Kind = Literal["real", "directory", "auto"]

_GIB = 1 << 30
# An image with room to grow is so large, or so many times its volume: that costs a few megabytes.
_ROOM, _TIMES = 128 * _GIB, 16
_CAP_SYS_RESOURCE = 24
_SYSFS = Path("/sys/fs/ext4")
_TOOLS = ("mkfs.ext4",)
_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
# linux/loop.h
_LOOP_SET_CAPACITY = 0x4C07
_LOOP_CONFIGURE = 0x4C0A
_LOOP_CTL_GET_FREE = 0x4C82
_LO_FLAGS_AUTOCLEAR = 4
_LO_FLAGS_DIRECT_IO = 16
# fs/ext4/ext4.h: _IOW('f', 16, __u64), the new number of blocks. It is what resize2fs asks for on a mounted one.
_EXT4_IOC_RESIZE_FS = 0x40086610
# sys/mount.h, see mount(2)
_MS_NOSUID, _MS_NODEV, _MS_NOATIME = 2, 4, 1024
_MNT_DETACH = 2

# For an image with room to grow: a journal for its volume's size, and fewer inodes for the gigabytes not used yet.
_SMALL_TABLES = ("-J", "size=32", "-i", "65536")

_libc = ctypes.CDLL(None, use_errno=True)

_log = logging.getLogger(__name__)


class LocalVolumes:
    """Volumes of one home. Methods may be called from any thread."""

    def __init__(self, home: Home, addresses: AddressPool, kind: Kind = "auto") -> None:
        self._home = home
        self._addresses = addresses
        self._kind = kind
        self._probing = threading.Lock()

    def create(self, instance_id: str, size_gb: int) -> None:
        """Make a volume; one that is there is left alone.

        Images are sparse, so what was promised may exceed what there is. The rule: a volume is refused
        (OutOfSpace) when it alone would not fit into what is free now.
        """
        place = self._home.place(instance_id)
        why_not = self._why_not_real
        if why_not and self._kind == "real":
            raise PlatformError(f"Volumes with a size of their own cannot be made here: {why_not}.")
        with place.held() as lock:
            account = account_of(self._addresses.reserve(place))
            if place.image.exists() or place.volume.exists():
                return
            self._check_fits(size_gb)
            if why_not is None and self._makes_room:
                place.size.write_text(str(size_gb * _GIB))
                _format(place.image, max(_ROOM, size_gb * _GIB * _TIMES), account, lock, *_SMALL_TABLES)
            elif why_not is None:
                _format(place.image, size_gb * _GIB, account, lock)
            else:
                make_directory(place.volume, 0o700, account)

    def attach(self, instance_id: str) -> None:
        place = self._home.place(instance_id)
        with place.held():
            if not self.attach_held(place):
                raise PlatformError(f"Instance {instance_id} has no volume on this machine.")

    def grow(self, instance_id: str, size_gb: int) -> None:
        """First the image, then its loop device, then the file system in it: each is left alone when it is done.

        What an image takes is counted as in `create`: it is refused when it alone would not fit. A plain directory
        has no size that could be changed.
        """
        place = self._home.place(instance_id)
        with place.held():
            if not (place.image.exists() or place.volume.exists()):
                raise PlatformError(f"Instance {instance_id} has no volume on this machine.")
            if not place.image.exists():
                self._check_fits(size_gb, has=_allocated(place.volume))
                return
            size = size_gb * _GIB
            if _size(place) < size:
                self._check_fits(size_gb, has=place.image.stat().st_blocks * 512)
                _enlarge(place, size)
            self.attach_held(place)
            if not place.size.exists():
                _grow_device(place.image)
                _grow_file_system(place.volume, place.image)

    def serial(self, instance_id: str) -> str:  # noqa: ARG002 - it is mounted from outside
        return ""

    def attach_held(self, place: Place) -> bool:
        """Attach, for a caller that holds the place and its instance's address; False when there is no volume."""
        address = place.reserved()
        if address is None or not (place.image.exists() or place.volume.exists()):
            return False
        if place.image.exists():
            _mount(place.image, place.volume, discards=place.size.exists())
            if place.size.exists():
                _keep_all_but(_size(place), place.volume)
        _hand_over(place.volume, account_of(address))
        return True

    def detach(self, instance_id: str) -> None:
        """Unmount the volume, as before the machine is given back; nothing in it is lost."""
        place = self._home.place(instance_id)
        if place.root.exists():
            with place.held():
                self.detach_held(place)

    def detach_held(self, place: Place) -> None:
        _unmount(place.volume)
        _wait_until_released(place.image)
        if place.image.exists():
            with contextlib.suppress(FileNotFoundError):
                place.volume.rmdir()

    def delete(self, instance_id: str) -> None:
        place = self._home.place(instance_id)
        if not place.root.exists():
            return
        with place.held():
            self.detach_held(place)
            partial(place.image).unlink(missing_ok=True)
            if place.volume.exists():
                shutil.rmtree(place.volume)
            place.image.unlink(missing_ok=True)
            place.size.unlink(missing_ok=True)

    def limit(self, place: Place) -> str:
        """What bounds the volume's size, for `show`."""
        if place.image.exists():
            return f"file system of its own, {_size(place) / _GIB:g} GB"
        if place.volume.exists():
            return f"not enforced: {self._why_not_real or 'it was made as a plain directory'}"
        return "not enforced: there is no volume"

    def mounted_ids(self) -> set[str]:
        """Instances whose volume is mounted."""
        return {
            point.parent.name
            for point in _mount_points()
            if point.name == "volume" and point.parent.parent == self._home.instances
        }

    def _check_fits(self, size_gb: int, has: int = 0) -> None:
        """Whether what the volume may still take, above the bytes it `has`, is free."""
        free = shutil.disk_usage(self._home.instances).free
        if size_gb * _GIB - has > free:
            holds = f", beside the {has / _GIB:.1f} GB it holds" if has else ""
            raise OutOfSpace(
                f"A volume of {size_gb} GB does not fit: {self._home.root} has {free / _GIB:.1f} GB free{holds}. "
                "Ask for a smaller volume, or make room."
            )

    @functools.cached_property
    def _makes_room(self) -> bool:
        """Whether images are made with room to grow: where the kernel would not let us grow them otherwise."""
        return not _may_resize() and os.access(_SYSFS, os.W_OK)

    @property
    def _why_not_real(self) -> str | None:
        with self._probing:
            return self._probed

    @functools.cached_property
    def _probed(self) -> str | None:
        """Why images cannot be mounted here, None when they can: found out by mounting one."""
        if self._kind == "directory":
            return "volumes are configured to be plain directories"
        if os.geteuid() != 0:
            return "mounting a file system needs root"
        missing = [tool for tool in _TOOLS if shutil.which(tool, path=_PATH) is None]
        if missing:
            return f"this machine has no {', '.join(missing)}"
        image, point = self._home.root / ".probe.img", self._home.root / ".probe"
        with self._home.locked("probe") as lock:
            try:
                _unmount(point)
                _format(image, 4 << 20, Account(0, 0), lock)
                _mount(image, point)
                _unmount(point)
            except (PlatformError, OSError) as error:
                return str(error).rstrip(".")
            finally:
                image.unlink(missing_ok=True)
                with contextlib.suppress(OSError):
                    point.rmdir()
        return None


def partial(image: Path) -> Path:
    """Where an image is while it is being made; under its own name it is whole."""
    return image.with_name(f".{image.name}.new")


def _size(place: Place) -> int:
    """What the volume may hold, its file system's own tables included."""
    return int(place.size.read_text()) if place.size.exists() else place.image.stat().st_size


def _enlarge(place: Place, size: int) -> None:
    if not place.size.exists():
        os.truncate(place.image, size)
        return
    room = place.image.stat().st_size
    if size > room:
        raise PlatformError(
            f"The volume can grow to {room // _GIB} GB and no further: this machine's root may not grow a mounted "
            "file system (it has no CAP_SYS_RESOURCE)."
        )
    new = partial(place.size)
    new.write_text(str(size))
    new.replace(place.size)


def _may_resize() -> bool:
    effective = re.search(r"^CapEff:\s*(\w+)$", Path("/proc/self/status").read_text(), re.MULTILINE)
    return effective is not None and bool(int(effective[1], 16) >> _CAP_SYS_RESOURCE & 1)


def _keep_all_but(size: int, point: Path) -> None:
    """Let a mounted file system hand out so much and keep the rest, even from root (ext4(5), reserved_clusters).

    A twentieth of the size is kept too, which is what the tables of a file system of that size would take.
    """
    device = point.stat().st_dev
    name = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}").resolve().name
    mounted = os.statvfs(point)
    kept = mounted.f_blocks - size * 19 // 20 // mounted.f_frsize
    try:
        (_SYSFS / name / "reserved_clusters").write_text(str(kept))
    except OSError as error:
        raise PlatformError(f"The size of {point} cannot be set: {error.strerror}.") from error


def _format(image: Path, size: int, account: Account, lock: int, *more: str) -> None:
    new = partial(image)
    new.unlink(missing_ok=True)
    with open(new, "xb", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
        file.truncate(size)
    _run(
        # A fresh sparse file reads as zeros, so nothing has to be written or discarded to clear it. Nothing is
        # reserved for root either: the volume's one user gets all of it.
        ["mkfs.ext4", "-q", "-F", "-m", "0",
         *more, "-E", f"nodiscard,lazy_itable_init=1,lazy_journal_init=1,root_owner={account.uid}:{account.gid}",
         str(new)],
        lock,
    )  # fmt: skip
    new.replace(image)


def _mount(image: Path, point: Path, *, discards: bool = False) -> None:
    """With `discards` what is deleted in it is given back to the machine, as its image is larger than its size."""
    if point in _mount_points():
        return
    if not _wait_until_released(image):
        # As when it is mounted where only processes of another mount namespace see it.
        raise PlatformError(
            f"{image} is in use by {_loop_devices(image)[0]}, and a second mount would ruin it."
        )
    point.mkdir(mode=0o700, exist_ok=True)
    device, path = _open_loop_device(image)
    options = "noinit_itable,discard" if discards else "noinit_itable"
    try:
        # noinit_itable: else the kernel would fill the image by zeroing in the background what reads as zeros.
        _call("mount", path, point, "ext4", _MS_NOSUID | _MS_NODEV | _MS_NOATIME, options)
    finally:
        os.close(device)
    with contextlib.suppress(OSError):
        (point / "lost+found").rmdir()


def _open_loop_device(image: Path) -> tuple[int, str]:
    """A loop device on the image, which the kernel frees with its last use: ours of it, or of what we mount.

    It goes past the page cache of the file below, which would hold every page a second time. `mount -o loop`
    cannot ask for that, and changing it afterwards takes longer than the mount.
    """
    try:
        with Path("/dev/loop-control").open("rb") as control, image.open("r+b") as backing:
            while True:
                path = f"/dev/loop{fcntl.ioctl(control, _LOOP_CTL_GET_FREE)}"
                device = os.open(path, os.O_RDWR)
                try:
                    fcntl.ioctl(device, _LOOP_CONFIGURE, _loop_config(backing.fileno(), image))
                except OSError as error:
                    os.close(device)
                    if error.errno != errno.EBUSY:  # which says that somebody else got this one first
                        raise
                else:
                    return device, path
    except OSError as error:
        raise PlatformError(f"No loop device can be set up for {image}: {error.strerror}.") from error


def _loop_config(descriptor: int, image: Path) -> bytes:
    """`struct loop_config` of linux/loop.h (Linux 5.8): file, block size, `struct loop_info64`, reserved."""
    flags = _LO_FLAGS_AUTOCLEAR | _LO_FLAGS_DIRECT_IO
    name = os.fsencode(image)[:63]
    return struct.pack("=2I 40x 3I I 64s 64x 32x 16x 64x", descriptor, 0, 0, 0, 0, flags, name)


def _grow_device(image: Path) -> None:
    """Have the loop device on an image see its size anew."""
    for path in _loop_devices(image):
        try:
            with path.open("rb") as device:
                fcntl.ioctl(device, _LOOP_SET_CAPACITY)
        except OSError as error:
            raise PlatformError(f"{path} does not take the new size of {image}: {error.strerror}.") from error


def _grow_file_system(point: Path, image: Path) -> None:
    """Let the mounted file system fill its device, by the kernel alone: no program that would outlive us."""
    try:
        root = os.open(point, os.O_RDONLY | os.O_DIRECTORY)
        try:
            blocks = image.stat().st_size // os.fstatvfs(root).f_bsize
            fcntl.ioctl(root, _EXT4_IOC_RESIZE_FS, struct.pack("=Q", blocks))
        finally:
            os.close(root)
    except OSError as error:
        raise PlatformError(f"The file system in {image} cannot be made larger: {error.strerror}.") from error


def _allocated(directory: Path) -> int:
    """Bytes that the files below a directory take; they come and go meanwhile."""
    total = 0
    for path, _, names in os.walk(directory):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                total += Path(path, name).lstat().st_blocks * 512
    return total


def _unmount(point: Path, timeout_s: float = 10) -> None:
    """Unmount whatever is mounted there; what stays busy is taken out of sight, and ends with its last user."""
    deadline = time.monotonic() + timeout_s
    while point in _mount_points():
        try:
            _call("umount2", point, 0)
        except PlatformError as error:
            if point not in _mount_points():
                return
            if time.monotonic() < deadline:
                time.sleep(0.005)
                continue
            _log.warning("unmounting %s lazily: %s", point, error)
            _call("umount2", point, _MNT_DETACH)


def _wait_until_released(image: Path, timeout_s: float = 5) -> bool:
    """Give the kernel time to free the loop device, which it does behind the unmount's back."""
    deadline = time.monotonic() + timeout_s
    while _loop_devices(image):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


def _hand_over(volume: Path, account: Account) -> None:
    """Make everything in a volume the account's, if it is another's: a server made anew may have a new account."""
    found = volume.lstat()
    if (found.st_uid, found.st_gid) != (account.uid, account.gid):
        for directory, names, files in os.walk(volume):
            for name in names + files:
                os.lchown(Path(directory, name), account.uid, account.gid)
        # Last, since it is what tells that all is done.
        os.chown(volume, account.uid, account.gid)
    volume.chmod(0o700)


def _mount_points() -> list[Path]:
    """Everything mounted, as this process sees it; proc(5) writes spaces and the like as octal."""
    points = []
    for line in Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines():
        name = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), line.split(" ")[4])
        points.append(Path(name))
    return points


def _loop_devices(image: Path) -> list[Path]:
    """The devices on an image; one on a deleted file of the same name is not."""
    found = []
    for device in Path("/sys/block").glob("loop*"):
        with contextlib.suppress(OSError):
            if (device / "loop/backing_file").read_text().rstrip("\n") == str(image):
                found.append(Path("/dev") / device.name)
    return found


def _call(name: str, *arguments: Path | str | int) -> None:
    """Make a system call that Python has no name for. Unlike a program it ends before our locks do, if we are killed."""
    words = [word if isinstance(word, int) else os.fsencode(word) for word in arguments]
    if (
        getattr(_libc, name)(*(ctypes.c_ulong(word) if isinstance(word, int) else word for word in words))
        != 0
    ):
        reason = os.strerror(ctypes.get_errno())
        raise PlatformError(f"{name} failed for {arguments[0]}: {reason}.")


def _run(argv: Sequence[str], lock: int) -> None:
    """Run a program that keeps the instance held until it ends, should we be killed."""
    try:
        done = subprocess.run(
            argv,
            env={"PATH": _PATH, "LC_ALL": "C"},
            cwd="/",
            pass_fds=[lock],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
    except OSError as error:
        raise PlatformError(f"{argv[0]} cannot be run: {os.strerror(error.errno or errno.EIO)}.") from error
    if done.returncode != 0:
        raise PlatformError(f"{argv[0]} failed ({done.returncode}): {done.stderr.strip()[-500:]}")
