"""How a machine comes up: kernel, initrd and boot loader."""

from __future__ import annotations

import gzip
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from argosy.platforms.openstack.image.tools import run

LABEL = "argosy-root"
# Disks by virtio or SCSI, the config drive as a CD of either kind of controller, the network, seeds, the power button.
_MODULES = (
    "ext4", "virtio_pci", "virtio_blk", "virtio_scsi", "sd_mod", "virtio_net", "virtio_rng", "ata_piix",
    "sr_mod", "isofs", "button", "evdev",
)  # fmt: skip
_OPTIONS = (
    f"root=LABEL={LABEL}", "rw", "console=ttyS0", "quiet", "loglevel=3", "net.ifnames=0", "systemd.show_status=false",
    "audit=0", "edd=off", "raid=noautodetect",
)  # fmt: skip
_INIT = """#!/bin/busybox sh
# Mounts the root file system, which is grown once the machine is up, and hands over to systemd.
b=/bin/busybox
$b mount -t proc proc /proc
$b mount -t sysfs sysfs /sys
$b mount -t devtmpfs dev /dev
for module in {modules}; do $b insmod /modules/$module; done 2> /dev/null
tries=0
until root=$($b findfs LABEL={label} 2> /dev/null); do
  tries=$((tries + 1))
  if [ $tries -gt 1500 ]; then
    echo "argosy: no disk has a file system labelled {label}; trying again by a new start"
    $b reboot -f
  fi
  $b usleep 20000
done
$b mount -t ext4 -o noatime,errors=remount-ro "$root" /newroot || $b reboot -f
for place in dev sys proc; do $b mount --move /$place /newroot/$place; done
exec $b switch_root /newroot /lib/systemd/systemd
"""
_LOADER = """SERIAL 0 115200
DEFAULT argosy
PROMPT 0
TIMEOUT 0
LABEL argosy
  KERNEL vmlinuz
  INITRD initrd
  APPEND {options}
"""


@dataclass(frozen=True)
class Boot:
    """The files that Nova can hand to a hypervisor directly, and what it tells the kernel."""

    kernel: Path
    initrd: Path
    options: str
    version: str


def lay(root: Path, package: Path, extra: list[str]) -> Boot:
    """Unpack the kernel of its package, and put all that a boot needs into /boot."""
    # Its /lib is a link here, which dpkg-deb itself would put a directory in the place of.
    contents = root.parent / "kernel.tar"
    with contents.open("wb") as file:
        subprocess.run(["dpkg-deb", "--fsys-tarfile", str(package)], check=True, stdout=file)
    run(["tar", "-C", str(root), "--keep-directory-symlink", "-xpf", str(contents)])
    contents.unlink()
    (version,) = (path.name for path in (root / "lib/modules").iterdir())
    boot = root / "boot"
    (boot / f"vmlinuz-{version}").rename(boot / "vmlinuz")
    for name in (f"System.map-{version}", f"config-{version}"):
        (boot / name).unlink()
    run(["depmod", "--basedir", str(root), version])
    options = " ".join([*_OPTIONS, *extra])
    (boot / "initrd").write_bytes(_initrd(root, version))
    (boot / "extlinux.conf").write_text(_LOADER.format(options=options))
    return Boot(boot / "vmlinuz", boot / "initrd", options, version)


def _initrd(root: Path, version: str) -> bytes:
    modules: dict[str, Path] = {}
    for name in _MODULES:
        needed = run(["modprobe", "-d", str(root), "-S", version, "--show-depends", name])
        for line in needed.splitlines():
            match line.split():
                case ["insmod", path, *_]:
                    modules.setdefault(Path(path).name, Path(path))
                case _:
                    continue
    init = _INIT.format(modules=" ".join(modules), label=LABEL).encode()
    entries: list[tuple[str, int, bytes]] = [
        *((name, 0o040755, b"") for name in ("bin", "dev", "modules", "newroot", "proc", "sys")),
        ("init", 0o100755, init),
        ("bin/busybox", 0o100755, (root / "bin/busybox").read_bytes()),
        *((f"modules/{name}", 0o100644, path.read_bytes()) for name, path in modules.items()),
    ]
    packed = b"".join(
        _member(number, *entry) for number, entry in enumerate([*entries, ("TRAILER!!!", 0, b"")], 1)
    )
    # extlinux cannot read a file with holes, which compression leaves none of.
    return gzip.compress(packed, 6, mtime=0)


def _member(number: int, name: str, mode: int, content: bytes) -> bytes:
    """One file of a cpio archive in the format the kernel reads ("newc", see its initramfs documentation)."""
    encoded = name.encode() + b"\0"
    fields = (number, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(encoded), 0)
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + encoded
    head += b"\0" * (-len(head) % 4)
    return head + content + b"\0" * (-len(content) % 4)


def install_loader(mounted: Path) -> None:
    """Put the boot loader into the first sectors of a mounted file system."""
    run(["extlinux", "--install", str(mounted / "boot")])


def copy_out(boot: Boot, beside: Path) -> tuple[Path, Path]:
    """The kernel and the initrd as files beside an image, for Nova to hand over."""
    kernel, initrd = beside.with_name(f"{beside.name}.kernel"), beside.with_name(f"{beside.name}.initrd")
    shutil.copyfile(boot.kernel, kernel)
    shutil.copyfile(boot.initrd, initrd)
    return kernel, initrd
