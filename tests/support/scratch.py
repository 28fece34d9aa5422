"""Where tests make the homes of servers: directories that every account can reach, on a file system of the disk."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

# tools/test.sh names one of their own for what has many files; short, since the paths of Unix sockets are.
_OWN = os.environ.get("ARGOSY_TEST_SCRATCH")


def new_home(kind: str = "t") -> Path:
    """Empty, and open to all: database servers run under accounts of their own."""
    return _made(Path("/var/tmp") / f"argosy-{kind}-{secrets.token_hex(4)}")


def new_place(kind: str) -> Path:
    """The same for what makes and removes thousands of files itself.

    The homes of an Argosy do better on the disk itself: each of its volumes is a file system of its own already.
    """
    name = f"{kind}-{secrets.token_hex(4)}"
    return _made(Path(_OWN) / name if _OWN else Path("/var/tmp") / f"argosy-{name}")


def _made(place: Path) -> Path:
    place.mkdir(mode=0o755)
    place.chmod(0o755)
    return place
