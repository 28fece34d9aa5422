"""The agent's code with a change in it, in the place where a machine has its code: as of another release."""

from __future__ import annotations

import io
import shutil
import tarfile
from pathlib import Path
from tempfile import TemporaryDirectory

from argosy.rpc import agent_code

OF_ANOTHER_RELEASE = "# of another release\n"
THAT_DOES_NOT_RUN = "raise SystemExit('broken')\n"


def install(code: Path, change: str = "") -> str:
    """Beside what is there; returns its digest."""
    with TemporaryDirectory() as place:
        with tarfile.open(fileobj=io.BytesIO(agent_code.pack())) as packed:
            packed.extractall(place, filter="data")
        with (Path(place) / "argosy/agent/layout.py").open("a") as module:
            module.write(change)
        digest = agent_code.digest_of(Path(place) / "argosy")
        shutil.copytree(place, code / digest, dirs_exist_ok=True)
    return digest


def point(code: Path, link: str, digest: str) -> None:
    """`current` or `previous`, to code that is installed."""
    (code / link).unlink(missing_ok=True)
    (code / link).symlink_to(digest)
