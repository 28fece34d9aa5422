"""The virtual environment of a machine's agent: what the agent imports, compiled, and nothing else."""

from __future__ import annotations

import importlib.metadata
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from argosy.domain.errors import ImageUnavailable
from argosy.platforms.openstack.image.packages import Pinned
from argosy.platforms.openstack.image.tools import run

PLACE = Path("opt/argosy/venv")
PACKAGES = PLACE / "lib/python3.11/site-packages"
REQUIREMENTS = ("cryptography", "hiredis", "psycopg[binary]", "pydantic", "pymysql", "uvicorn", "zstandard")
# Wheels for Debian 12: its Python, and libraries up to its glibc 2.36.
_TARGET = [
    "--only-binary=:all:", "--implementation=cp", "--python-version=3.11", "--abi=cp311", "--abi=abi3", "--abi=none",
    *(f"--platform={each}_x86_64" for each in ("manylinux_2_34", "manylinux_2_28", "manylinux_2_17", "manylinux2014")),
]  # fmt: skip


def lay(root: Path, pinned: Sequence[Pinned], work: Path) -> list[Pinned]:
    """Make the environment below `root`; returns the wheels it is made of.

    Without `pinned` they are of the versions that this Argosy itself runs with, which are those it was tested with.
    """
    place = root / PACKAGES
    report = work / "wheels.json"
    wanted = work / "requirements.txt"
    arguments = ["--requirement", str(wanted)]
    if pinned:
        wanted.write_text(
            "".join(f"{each.name}=={each.version} --hash=sha256:{each.sha256}\n" for each in pinned)
        )
        arguments += ["--no-deps", "--require-hashes"]
    else:
        own = work / "constraints.txt"
        wanted.write_text("".join(f"{requirement}\n" for requirement in REQUIREMENTS))
        own.write_text(
            "".join(
                f"{each.name}=={each.version}\n"
                for each in importlib.metadata.distributions()
                if each.name != "argosy"
            )
        )
        arguments += ["--constraint", str(own)]
    run(
        [
            sys.executable, "-m", "pip", "install", "--quiet", "--no-compile", "--no-input", "--disable-pip-version-check",
            "--ignore-installed", *_TARGET, "--target", str(place), "--report", str(report), *arguments,
        ],
        env=_of_pip(),
    )  # fmt: skip
    installed = json.loads(report.read_text(encoding="utf-8"))["install"]
    # Programs of the packages: nobody runs them here.
    shutil.rmtree(place / "bin", ignore_errors=True)
    # pip's own books, which tell how it was asked.
    for name in ("RECORD", "REQUESTED", "INSTALLER", "direct_url.json"):
        for path in place.glob(f"*.dist-info/{name}"):
            path.unlink()
    programs = root / PLACE / "bin"
    programs.mkdir()
    for name in ("python", "python3"):
        (programs / name).symlink_to("/usr/bin/python3.11")
    (root / PLACE / "pyvenv.cfg").write_text(
        "home = /usr/bin\ninclude-system-site-packages = false\nversion = 3.11\n"
    )
    return sorted((_pinned(each) for each in installed), key=lambda one: one.name.lower())


def compile_all(root: Path) -> None:
    """Compile the standard library, the environment and the agent by the machine's own Python.

    What is compiled is never held against its source again: neither changes on a machine.
    """
    places = ["/usr/lib/python3.11", f"/{PLACE}", "/opt/argosy/agent"]
    run(
        ["chroot", str(root), "/usr/bin/python3.11", "-m", "compileall", "-q", "-f", "-x", "lib2to3/tests|/test/",
         "--invalidation-mode", "unchecked-hash", *places],
        env={"PYTHONHASHSEED": "0"},
    )  # fmt: skip


def _pinned(installed: dict[str, dict[str, dict[str, dict[str, str]]]]) -> Pinned:
    metadata = installed["metadata"]
    hashes = installed["download_info"]["archive_info"].get("hashes", {})
    if "sha256" not in hashes:
        raise ImageUnavailable(f"pip does not tell the checksum of the wheel of {metadata['name']}.")
    return Pinned("wheel", str(metadata["name"]), str(metadata["version"]), hashes["sha256"])


def _of_pip() -> dict[str, str]:
    """Where pip looks is the host's affair."""
    import os

    return {
        name: value
        for name, value in os.environ.items()
        if name.startswith(("PIP_", "HTTP", "http", "NO_PROXY", "no_proxy", "SSL_"))
    } | {"HOME": os.environ.get("HOME", "/root")}
