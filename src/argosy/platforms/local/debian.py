"""Debian packages of any suite by the host's own apt, which notices nothing.

A suite gets a private apt directory (lists, cache, configuration, an empty record of what is installed), so
this works as an ordinary user, on any distribution that has apt, beside a package manager at work. Only the
mirror's address, its proxy and its credentials come from the host's configuration. apt checks the lists'
signatures against Debian's keyring and each package against the lists.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from urllib.parse import unquote

from argosy.domain.datastore import DebianSource
from argosy.domain.errors import ImageUnavailable

_KEYRINGS = (
    Path("/usr/share/keyrings/debian-archive-keyring.gpg"),
    Path("/usr/share/keyrings/debian-archive-keyring.pgp"),
)
_RELEASES = {
    "bullseye", "bookworm", "trixie", "forky", "sid",
    "oldoldstable", "oldstable", "stable", "testing", "unstable",
}  # fmt: skip
_WITHOUT_SECURITY = {"sid", "unstable"}  # fixes go straight into the suite
_LISTS_GOOD_FOR_S = 600

# Dependencies that serve installing or administrating a host, or scripts of the package which are never run.
_NEVER_NEEDED = (
    "adduser", "base-passwd", "debconf", "debianutils", "dpkg", "init-system-helpers", "libdebconfclient0",
    "login.defs", "lsb-base", "passwd", "readline-common", "sensible-utils", "sysvinit-utils", "tar", "ucf",
    "usrmerge",
    "dbus*", "libpam-modules*", "libpam-systemd", "libsemanage*", "libsepol*", "libsystemd-shared", "mount",
    "systemd", "systemd-*", "util-linux", "libfdisk1", "libmount1",
    "gawk", "libgdbm*", "libmpfr6", "libperl*", "lib*-perl", "libsigsegv2", "perl*",
    "iproute2", "libbpf1", "libmnl0", "libxtables12", "liblsof0", "libproc2-0", "lsof", "netbase", "procps",
    "psmisc", "rsync",
    "gcc-*-base", "libc-bin", "libc-gconv-modules-extra", "libc-l10n", "locales", "libaudit-common", "tzdata*",
    "mariadb-common", "mysql-common", "postgresql-client-common*", "postgresql-common*", "ssl-cert",
)  # fmt: skip


@dataclass(frozen=True)
class Mirror:
    """Addresses of a Debian archive and of its security updates, without a slash at the end."""

    main: str
    security: str


@dataclass(frozen=True)
class Package:
    """One package as the suite's signed list describes it."""

    name: str
    version: str
    size: int
    sha256: str


def host_mirror() -> Mirror:
    """The Debian mirror that the host's apt is configured with. Raises ImageUnavailable when there is none."""
    # What `update` would fetch, apt knows even when nothing was ever fetched; origins it knows afterwards.
    would_fetch = _apt(["--print-uris", "update"])
    return choose_mirror(would_fetch, _apt(["indextargets", "--format", "$(REPO_URI)|$(ORIGIN)"]))


def choose_mirror(would_fetch: str, origins: str) -> Mirror:
    """Pick Debian's own archives among those apt would fetch from.

    `would_fetch` is what `apt-get --print-uris update` prints; `origins` has a line `address|origin` for each
    archive already fetched.
    """
    known = dict(line.split("|", 1) for line in origins.splitlines() if "|" in line)
    releases: dict[str, set[str]] = {}
    for line in would_fetch.splitlines():
        release = re.match(r"'(\S+?)/+dists/(\S+)/InRelease'", line)
        if release:
            releases.setdefault(unquote(release[1]), set()).add(release[2])
    debian = {
        address: names
        for address, names in releases.items()
        if known.get(f"{address}/", "Debian") == "Debian"
        and any(re.split(r"[-/]", name)[0] in _RELEASES for name in names)
    }
    main = [address for address, names in debian.items() if names & _RELEASES]
    if not main:
        raise ImageUnavailable(
            "the host's apt knows no Debian mirror: give Argosy the address of one (setting debian_mirror)."
        )
    # Vendors name the suites of their own archives after Debian's too, but have no updates suite.
    main.sort(key=lambda address: not any(name.endswith("-updates") for name in debian[address]))
    security = [
        address
        for address, names in debian.items()
        if any(name.endswith(("-security", "/updates")) for name in names)
    ]
    return Mirror(main[0], security[0] if security else f"{main[0]}-security")


def checksum(file: Path) -> str:
    """SHA-256, hex."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def mirror_at(address: str) -> Mirror:
    """A mirror named by the operator; its security archive stands beside it, as everywhere."""
    address = address.rstrip("/")
    return Mirror(address, f"{address}-security")


def keyring() -> Path:
    """Debian's keys, as the host has them."""
    for path in _KEYRINGS:
        if path.exists():
            return path
    raise ImageUnavailable(
        f"the keys that sign Debian's packages are missing ({_KEYRINGS[0]}): install the package "
        "debian-archive-keyring, which Debian and Ubuntu both have."
    )


class Suite:
    """One suite of Debian, seen through a private apt in `home`. Used by one process at a time: see `taken`."""

    def __init__(
        self, home: Path, name: str, mirror: Mirror, keys: Path, *, updates: bool = False, old: bool = False
    ) -> None:
        """`updates` adds what waits for the next point release; `old` takes lists past the day they are good for."""
        self.name = name
        self._home = home
        self._mirror = mirror
        self._keys = keys
        self._updates = updates
        self._old = old

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Wait until no other process or thread uses the suite's directory, and keep it."""
        self._home.mkdir(mode=0o755, parents=True, exist_ok=True)
        with (self._home / "lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def update(self) -> None:
        """Fetch the suite's lists unless they were fetched a moment ago, for another bundle."""
        stamp = self._home / "updated"
        if self._configure():
            stamp.unlink(missing_ok=True)
        try:
            if 0 <= time.time() - stamp.stat().st_mtime < _LISTS_GOOD_FOR_S:
                return
        except FileNotFoundError:
            pass
        self._apt(["-qq", "-o", "APT::Update::Error-Mode=any", "update"])
        stamp.touch()

    def closure(self, source: DebianSource) -> list[Package]:
        """The packages named and everything they need on an empty host, less what nobody needs at run time."""
        wanted = [
            package
            for package in self.needed(source.packages)
            if package.name not in source.skip
            and not any(fnmatchcase(package.name, pattern) for pattern in _NEVER_NEEDED)
        ]
        if not wanted:
            raise ImageUnavailable(f"apt named no package to fetch for {', '.join(source.packages)}.")
        return wanted

    def needed(self, names: Sequence[str]) -> list[Package]:
        """The packages named, by apt's patterns too, and everything they need on an empty host."""
        found = []
        for line in self._apt(["-qq", "--print-uris", "install", *names]).splitlines():
            fields = re.fullmatch(r"'\S+' ([^_\s]+)_([^_\s]+)_\S+ (\d+) SHA256:(\w+)", line.strip())
            if fields is not None:
                name, version, size, sha256 = fields.groups()
                found.append(Package(name, unquote(version), int(size), sha256))
        return found

    def download(self, packages: Sequence[Package], into: Path) -> list[Path]:
        """Fetch the packages and hold each against the checksum of the signed list."""
        self._apt(
            ["-qq", "download", *(f"{package.name}={package.version}" for package in packages)],
            cwd=into,
            timeout_s=1800,
        )
        files = sorted(into.glob("*.deb"))
        expected = {package.sha256 for package in packages}
        for file in files:
            if checksum(file) not in expected:
                raise ImageUnavailable(
                    f"{file.name} is not what the suite's list says: its checksum differs."
                )
        if len(files) != len(packages):
            raise ImageUnavailable(f"apt fetched {len(files)} of {len(packages)} packages.")
        return files

    def _configure(self) -> bool:
        """Write the private configuration; True when it differs from before."""
        for directory in ("state/lists/partial", "cache/archives/partial"):
            (self._home / directory).mkdir(parents=True, exist_ok=True)
        (self._home / "status").touch()
        options = f"[signed-by={self._keys} target=Packages lang=none pdiffs=no]"
        sources = f"deb {options} {self._mirror.main} {self.name} main\n"
        if self.name not in _WITHOUT_SECURITY:
            sources += f"deb {options} {self._mirror.security} {self.name}-security main\n"
        if self._updates:
            sources += f"deb {options} {self._mirror.main} {self.name}-updates main\n"
        conf = f"""
Dir::State "{self._home}/state";
Dir::State::status "{self._home}/status";
Dir::Cache "{self._home}/cache";
Dir::Cache::pkgcache "pkgcache.bin";
Dir::Etc::sourcelist "{self._home}/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Dir::Etc::trusted "/dev/null";
Dir::Etc::trustedparts "/dev/null";
#clear APT::Default-Release;
#clear APT::Update;
#clear DPkg;
APT::Install-Recommends "false";
APT::Install-Suggests "false";
Acquire::AllowInsecureRepositories "false";
Acquire::ForceHash "SHA256";
Acquire::Retries "2";
Acquire::http::Timeout "30";
Acquire::https::Timeout "30";
"""
        if self._old:
            conf += 'Acquire::Check-Valid-Until "false";\n'
        changed = [
            _write_changed(self._home / "sources.list", sources),
            _write_changed(self._home / "apt.conf", conf),
        ]
        return any(changed)

    def _apt(self, arguments: Sequence[str], *, cwd: Path | None = None, timeout_s: float = 300) -> str:
        try:
            return _apt(["-c", str(self._home / "apt.conf"), *arguments], cwd=cwd, timeout_s=timeout_s)
        except _AptFailed as failed:
            raise ImageUnavailable(self.explain(failed.said)) from None

    def explain(self, said: str) -> str:
        """What apt said, as a sentence that tells what to do."""
        missing = re.findall(r"E: (?:Unable to locate package|Package) '?([^\s']+)", said)
        if missing:
            return f"Debian {self.name} has no package {', '.join(missing)}."
        if "NO_PUBKEY" in said or "not signed" in said:
            return (
                f"the lists of Debian {self.name} cannot be trusted, since {self._keys} lacks the key that signs "
                "them: upgrade the package debian-archive-keyring."
            )
        if "No space left" in said or "enough free space" in said:
            return f"no space is left on the device of {self._home}: free some and ask again."
        errors = [line[2:].strip() for line in said.splitlines() if line.startswith(("E:", "W:"))]
        words = " ".join(dict.fromkeys(errors)) or said.strip() or "it gave no reason"
        if re.search(r"Could not (resolve|connect)|Failed to fetch|Temporary failure|timed out", said):
            return f"the Debian mirror cannot be reached: {words[:600]}"
        return f"apt failed: {words[:600]}"


class _AptFailed(ImageUnavailable):
    def __init__(self, said: str) -> None:
        super().__init__(f"apt failed: {said.strip()[-600:]}")
        self.said = said


def _apt(arguments: Sequence[str], *, cwd: Path | None = None, timeout_s: float = 60) -> str:
    try:
        done = subprocess.run(
            ["apt-get", *arguments],
            cwd=cwd or "/",
            env={**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
        )
    except FileNotFoundError:
        raise ImageUnavailable("this host has no apt-get.") from None
    except subprocess.TimeoutExpired:
        raise ImageUnavailable(f"apt-get did not finish in {timeout_s:.0f} s.") from None
    if done.returncode != 0:
        raise _AptFailed(done.stderr or done.stdout)
    return done.stdout


def _write_changed(path: Path, text: str) -> bool:
    try:
        if path.read_text() == text:
            return False
    except FileNotFoundError:
        pass
    path.touch(mode=0o600)  # a mirror's address may hold credentials
    path.write_text(text)
    return True
