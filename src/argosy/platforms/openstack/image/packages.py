"""What an image is made of, exactly: Debian packages and wheels by version and checksum, and how they are had."""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path

from argosy.domain.errors import ImageUnavailable, Invalid
from argosy.platforms.local import debian
from argosy.platforms.openstack.image.tools import Say

SUITE = "bookworm"
# What a machine needs beside Debian's essential packages. No apt: a machine is replaced, not upgraded in place.
SYSTEM = (
    "busybox-static",
    "ca-certificates",
    "e2fsprogs",
    "iproute2",
    "kmod",
    "netbase",
    "python3",
    "systemd",
    "systemd-sysv",
    "systemd-timesyncd",
    "tzdata",
    "udev",
    "usr-is-merged",
)
FOR_SSH = ("openssh-server",)
# Unpacked, not installed: it would bring initramfs-tools and all of Perl, which have nothing to do here.
KERNEL = "linux-image-cloud-amd64"
# apt counts itself among them.
_ESSENTIAL = "?and(?essential,?not(?exact-name(apt)))"
_KERNEL_ITSELF = re.compile(r"linux-image-\d.*-cloud-amd64")

_KINDS = ("debian", "kernel", "wheel")
_HEADING = "# argosy image package list"


@dataclass(frozen=True)
class Pinned:
    """One package: `kind` is debian, kernel or wheel; `sha256` is that of the file it comes in."""

    kind: str
    name: str
    version: str
    sha256: str


@dataclass(frozen=True)
class PackageList:
    """Everything that is fetched for an image, and the day that its files are dated with."""

    day: date
    packages: tuple[Pinned, ...] = field(default=())

    def of(self, kind: str) -> list[Pinned]:
        return [package for package in self.packages if package.kind == kind]

    def text(self) -> str:
        lines = [f"{_HEADING} 1", f"day {self.day.isoformat()}"]
        lines += [f"{each.kind} {each.name} {each.version} {each.sha256}" for each in self.packages]
        return "\n".join(lines) + "\n"

    @classmethod
    def read(cls, path: Path) -> PackageList:
        """Raises Invalid, naming the line that cannot be understood."""
        lines = path.read_text(encoding="utf-8").splitlines()
        if not lines or not lines[0].startswith(_HEADING):
            raise Invalid(
                f"{path} is no package list of an image: its first line must be {_HEADING!r} and 1."
            )
        day: date | None = None
        packages = []
        for number, line in enumerate(lines, 1):
            match line.split():
                case [] | ["#", *_]:
                    continue
                case ["day", said]:
                    day = _day(said, f"{path}, line {number}")
                case [kind, name, version, sha256] if kind in _KINDS and re.fullmatch("[0-9a-f]{64}", sha256):
                    packages.append(Pinned(kind, name, version, sha256))
                case _:
                    raise Invalid(
                        f"{path}, line {number}: expected KIND NAME VERSION SHA256 with one of {', '.join(_KINDS)}, "
                        f"found {line!r}."
                    )
        if day is None:
            raise Invalid(f"{path} has no line with the day.")
        return cls(day, tuple(packages))


def _day(said: str, where: str) -> date:
    try:
        return date.fromisoformat(said)
    except ValueError:
        raise Invalid(f"{where}: the day must be like 2026-11-01, not {said!r}.") from None


def snapshot(timestamp: str) -> debian.Mirror:
    """Debian as it was at a moment, such as 20251101T000000Z, by its snapshot service."""
    if not re.fullmatch(r"\d{8}T\d{6}Z", timestamp):
        raise Invalid(f"The snapshot must be a moment like 20251101T000000Z, not {timestamp!r}.")
    archive = "http://snapshot.debian.org/archive"
    return debian.Mirror(f"{archive}/debian/{timestamp}", f"{archive}/debian-security/{timestamp}")


def moment(timestamp: str) -> date:
    return datetime.strptime(timestamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).date()


class Source:
    """Debian packages of one mirror, kept by checksum in `cache` so that they are fetched once."""

    def __init__(self, cache: Path, mirror: debian.Mirror, *, old: bool = False) -> None:
        """`old` says that the mirror's lists may be past the day they are good for, as those of a snapshot are."""
        place = hashlib.sha256(mirror.main.encode()).hexdigest()[:12]
        self._files = cache / "packages"
        self._suite = debian.Suite(
            cache / "apt" / f"{SUITE}-{place}", SUITE, mirror, debian.keyring(), updates=True, old=old
        )

    def resolve(self, names: Iterable[str]) -> list[Pinned]:
        """The newest versions of these, of the essential packages, of what all of them need, and of the kernel."""
        with self._suite.taken():
            self._suite.update()
            system = self._suite.needed([_ESSENTIAL, *sorted(names)])
            kernel = [
                package for package in self._suite.needed([KERNEL]) if _KERNEL_ITSELF.fullmatch(package.name)
            ]
        if len(kernel) != 1:
            raise ImageUnavailable(f"Debian {SUITE} has no kernel behind {KERNEL}.")
        found = [("debian", package) for package in system] + [("kernel", kernel[0])]
        return [
            Pinned(kind, each.name, each.version, each.sha256)
            for kind, each in sorted(found, key=lambda one: (one[0], one[1].name))
        ]

    def fetch(self, packages: Sequence[Pinned], say: Say) -> list[Path]:
        """The files of these, in their order. Raises ImageUnavailable for one that the mirror does not have (any more)."""
        self._files.mkdir(parents=True, exist_ok=True)
        missing = [package for package in packages if not self._file(package).exists()]
        if missing:
            say(f"fetching {len(missing)} packages")
            partial = self._files / ".partial"
            with self._suite.taken():
                self._suite.update()
                shutil.rmtree(partial, ignore_errors=True)
                partial.mkdir()
                wanted = [debian.Package(each.name, each.version, 0, each.sha256) for each in missing]
                for file in self._suite.download(wanted, partial):
                    file.rename(self._files / f"{debian.checksum(file)}.deb")
                partial.rmdir()
        return [self._file(package) for package in packages]

    def _file(self, package: Pinned) -> Path:
        return self._files / f"{package.sha256}.deb"


def lay_archive(files: Sequence[Path], place: Path) -> str:
    """Make an archive of these packages and no others; returns the line that names it to apt."""
    place.mkdir(mode=0o755)
    entries = []
    for file in files:
        shutil.copyfile(file, place / file.name)
        control = subprocess.run(
            ["dpkg-deb", "--field", str(file)], check=True, capture_output=True, text=True
        ).stdout.strip()
        entries.append(
            f"{control}\nFilename: ./{file.name}\nSize: {file.stat().st_size}\nSHA256: {debian.checksum(file)}\n"
        )
    index = place / "Packages"
    index.write_text("\n".join(entries), encoding="utf-8")
    # mmdebstrap looks for the essential packages of the suite it is told.
    (place / "Release").write_text(
        f"Codename: {SUITE}\nSHA256:\n {debian.checksum(index)} {index.stat().st_size} Packages\n"
    )
    return f"deb [trusted=yes] copy://{place} ./"
