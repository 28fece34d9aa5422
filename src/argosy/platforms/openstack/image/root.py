"""The root file system of a machine, laid in a directory."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from datetime import date
from importlib import resources
from pathlib import Path

from argosy.platforms.openstack.image.packages import SUITE, Pinned, lay_archive
from argosy.platforms.openstack.image.tools import run

_KEPT_BASES = 3
ACCOUNT = "argosy-db"
UID = GID = 970

_WITHOUT = (
    "/usr/share/man/*",
    "/usr/share/doc/*",
    "/usr/share/locale/*",
    "/usr/share/info/*",
    "/usr/share/bug/*",
)
_KEPT = ("/usr/share/doc/*/copyright",)

_ENABLED = (
    "argosy-agent.service",
    "argosy-clock.timer",
    "argosy-console.service",
    "argosy-dhcp@eth0.service",
    "argosy-dhcp@eth1.service",
    "argosy-grow-root.service",
    "argosy-power-button.service",
)
# Each unit and generator is a program that a boot waits for, and under emulation each costs a tenth of a second.
_MASKED = (
    # nobody can log in at a console
    "console-getty.service", "getty-static.service", "getty.target", "getty@tty1.service", "serial-getty@ttyS0.service",
    "systemd-ask-password-console.path", "systemd-ask-password-wall.path", "systemd-logind.service",
    "systemd-user-sessions.service", "systemd-update-utmp-runlevel.service", "systemd-update-utmp.service",
    # the root file system is mounted for writing by the initrd, and is all there is in fstab
    "systemd-fsck-root.service", "systemd-remount-fs.service", "systemd-repart.service", "remote-fs.target",
    # kernel file systems, modules and nodes that no database uses
    "dev-hugepages.mount", "dev-mqueue.mount", "kmod-static-nodes.service", "modprobe@configfs.service",
    "modprobe@dm_mod.service", "modprobe@drm.service", "modprobe@efi_pstore.service", "modprobe@fuse.service",
    "modprobe@loop.service", "proc-sys-fs-binfmt_misc.automount", "sys-fs-fuse-connections.mount",
    "sys-kernel-config.mount", "sys-kernel-debug.mount", "sys-kernel-tracing.mount", "systemd-binfmt.service",
    "systemd-modules-load.service", "systemd-pstore.service", "systemd-tmpfiles-setup-dev.service",
    # encrypted disks and measured boots
    "cryptsetup.target", "integritysetup.target", "remote-cryptsetup.target", "remote-veritysetup.target",
    "systemd-pcrphase-sysinit.service", "systemd-pcrphase.service", "veritysetup.target",
    # what is made at the first boot of an installation: an image has it, or does without
    "ldconfig.service", "systemd-boot-system-token.service", "systemd-firstboot.service",
    "systemd-hwdb-update.service", "systemd-journal-catalog-update.service", "systemd-machine-id-commit.service",
    "systemd-sysusers.service",
    # the journal is in memory, the network is our own, and seeds come from the hypervisor
    "systemd-initctl.socket", "systemd-journal-flush.service", "systemd-journald-audit.socket",
    "systemd-network-generator.service", "systemd-networkd.service", "systemd-networkd.socket",
    "systemd-random-seed.service",
    # packages are not upgraded in place
    "apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer", "e2scrub_all.timer", "e2scrub_reap.service",
)  # fmt: skip
# Where the files that start the agent go, by their kind.
_PLACES = {".service": "etc/systemd/system", ".rules": "etc/udev/rules.d"}
_UDEV_RULES = (
    "50-udev-default",
    "60-block",
    "60-persistent-storage",
    "80-drivers",
    "90-argosy-dhcp",
    "99-systemd",
)
_UDEV_SUBSYSTEMS = ("block", "net", "pci", "scsi", "virtio")


def install(root: Path, packages: Sequence[Pinned], fetch: Callable[[], Sequence[Path]], cache: Path) -> None:
    """Install these Debian packages, and no others, below `root`. What was installed before is taken from `cache`."""
    options = [
        *(f"--dpkgopt=path-exclude={each}" for each in _WITHOUT), *(f"--dpkgopt=path-include={each}" for each in _KEPT),
        "--dpkgopt=force-confold",
    ]  # fmt: skip
    key = hashlib.sha256("\n".join([*options, *map(str, packages)]).encode()).hexdigest()
    kept = cache / f"{key}.tar"
    if not kept.exists():
        cache.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".partial-", dir=cache) as place:
            _install(Path(place, "root"), packages, fetch(), options, Path(place))
            run(
                [
                    "tar",
                    "-C",
                    f"{place}/root",
                    "--numeric-owner",
                    "--xattrs",
                    "--xattrs-include=*",
                    "-cf",
                    f"{place}/tar",
                    ".",
                ]
            )
            Path(place, "tar").rename(kept)
        for old in sorted(cache.glob("*.tar"), key=lambda path: path.stat().st_mtime)[:-_KEPT_BASES]:
            old.unlink()
    root.mkdir(mode=0o755)
    run(["tar", "-C", str(root), "--numeric-owner", "--xattrs", "--xattrs-include=*", "-xpf", str(kept)])


def _install(
    root: Path, packages: Sequence[Pinned], files: Sequence[Path], options: Sequence[str], work: Path
) -> None:
    work.chmod(0o755)
    archive = lay_archive(files, work / "archive")
    names = ",".join(f"{each.name}={each.version}" for each in packages)
    run(
        [
            "mmdebstrap", "--quiet", "--mode=root", "--format=directory", "--variant=essential", f"--include={names}",
            "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr",
            "--dpkgopt=force-unsafe-io", *options, SUITE, str(root), archive,
        ],
        env={"TMPDIR": str(work), "PYTHONHASHSEED": "0", "SOURCE_DATE_EPOCH": "0"},
    )  # fmt: skip


def settle(root: Path, agent: Path, *, ssh_key: str | None) -> None:
    """Make it a machine of ours: accounts, units, network, and nothing that is not needed.

    What starts the agent is beside its code, in `agent`.
    """
    here = resources.files(__package__)
    _overlay(Path(str(here.joinpath("guest"))), root)
    for path in (agent / "machine_files").iterdir():
        _put(path, root / _PLACES.get(path.suffix, "opt/argosy/bin") / path.name)
    (root / "usr/sbin/policy-rc.d").unlink(missing_ok=True)
    _accounts(root)
    (root / "etc/fstab").write_text("")
    (root / "etc/hostname").write_text("argosy\n")
    (root / "etc/hosts").write_text("127.0.0.1 localhost\n::1 localhost\n")
    (root / "etc/machine-id").write_text("")
    resolver = root / "etc/resolv.conf"
    resolver.unlink(missing_ok=True)
    resolver.symlink_to("/run/argosy/resolv.conf")
    enabled = list(_ENABLED)
    if ssh_key is not None:
        _overlay(Path(str(here.joinpath("guest-ssh"))), root)
        home = root / "root/.ssh"
        home.mkdir(mode=0o700, exist_ok=True)
        home.chmod(0o700)
        (home / "authorized_keys").write_text(f"{ssh_key}\n")
        (home / "authorized_keys").chmod(0o600)
        for key in (root / "etc/ssh").glob("ssh_host_*"):
            key.unlink()
        enabled.append("ssh.socket")
    _units(root, enabled)
    _udev(root)


def clean(root: Path, day: date, epoch: int) -> None:
    """Remove what differs from build to build, and date what is newer than the image with its day."""
    for place in ("var/log", "var/cache", "var/lib/apt", "tmp", "run", "var/tmp"):
        for path in (root / place).glob("*"):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    # It names the archive that the packages came from, for an apt that is not there.
    shutil.rmtree(root / "etc/apt", ignore_errors=True)
    for name in ("passwd-", "group-", "shadow-", "gshadow-", "subuid-", "subgid-"):
        (root / "etc" / name).unlink(missing_ok=True)
    for name in ("status-old", "lock", "lock-frontend", "diversions-old", "statoverride-old"):
        (root / "var/lib/dpkg" / name).unlink(missing_ok=True)
    (root / "var/lib/systemd/random-seed").unlink(missing_ok=True)
    days = (day - date(1970, 1, 1)).days
    shadow = root / "etc/shadow"
    lines = [line.split(":") for line in shadow.read_text().splitlines()]
    # No account has a password, and none can be given one that was typed here.
    shadow.write_text("".join(":".join([fields[0], "*", str(days), *fields[3:]]) + "\n" for fields in lines))
    for directory, names, files in os.walk(root):
        for name in [*names, *files]:
            path = Path(directory, name)
            if path.lstat().st_mtime > epoch:
                os.utime(path, (epoch, epoch), follow_symlinks=False)
    os.utime(root, (epoch, epoch))


def _overlay(source: Path, root: Path) -> None:
    for path in sorted(source.rglob("*")):
        if path.is_dir() or "__pycache__" in path.parts:
            continue
        _put(path, root / path.relative_to(source))


def _put(path: Path, place: Path) -> None:
    place.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    shutil.copyfile(path, place)
    place.chmod(0o755 if path.read_bytes()[:2] == b"#!" else 0o644)


def _accounts(root: Path) -> None:
    lines = {
        "passwd": f"{ACCOUNT}:x:{UID}:{GID}:Database server:/var/lib/argosy:/usr/sbin/nologin",
        "group": f"{ACCOUNT}:x:{GID}:",
        "shadow": f"{ACCOUNT}:*:0:0:99999:7:::",
        "gshadow": f"{ACCOUNT}:!::",
    }
    for name, line in lines.items():
        path = root / "etc" / name
        if path.exists():
            path.write_text(f"{path.read_text().rstrip()}\n{line}\n")
    for place, mode in (("var/lib/argosy/volume", 0o755), ("etc/argosy/guest", 0o700)):
        (root / place).mkdir(parents=True)
        (root / place).chmod(mode)


def _units(root: Path, enabled: Sequence[str]) -> None:
    units = root / "etc/systemd/system"
    # Whatever packages switched on is off: what runs is named here.
    for wants in units.glob("*.wants"):
        shutil.rmtree(wants)
    for name in _MASKED:
        (units / name).unlink(missing_ok=True)
        (units / name).symlink_to("/dev/null")
    generators = root / "etc/systemd/system-generators"
    generators.mkdir(exist_ok=True)
    for path in sorted((root / "usr/lib/systemd/system-generators").iterdir()):
        (generators / path.name).symlink_to("/dev/null")
    run(["systemctl", f"--root={root}", "--quiet", "enable", *enabled, "fstrim.timer"])
    # With the first units there are: see argosy-agent.service.d/early.conf.
    early = units / "sysinit.target.wants"
    (early / "argosy-agent.service").symlink_to("/etc/systemd/system/argosy-agent.service")
    (units / "default.target").unlink(missing_ok=True)
    (units / "default.target").symlink_to("/usr/lib/systemd/system/multi-user.target")


def _udev(root: Path) -> None:
    rules = root / "etc/udev/rules.d"
    for path in sorted((root / "usr/lib/udev/rules.d").glob("*.rules")):
        if path.stem not in _UDEV_RULES:
            (rules / path.name).symlink_to("/dev/null")
    trigger = root / "etc/systemd/system/systemd-udev-trigger.service.d"
    trigger.mkdir()
    matches = " ".join(f"--subsystem-match={each}" for each in _UDEV_SUBSYSTEMS)
    (trigger / "argosy.conf").write_text(
        f"[Service]\nExecStart=\nExecStart=-udevadm trigger --type=devices --action=add {matches}\n"
    )
