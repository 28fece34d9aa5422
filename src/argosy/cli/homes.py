"""The home directory of an Argosy on this machine, as far as its clients may look into it."""

from __future__ import annotations

import json
import os
import tomllib
from pathlib import Path
from typing import Any


def default_home() -> Path:
    """ARGOSY_HOME, else /var/lib/argosy for root and the user's data directory otherwise: as the server has it."""
    named = os.environ.get("ARGOSY_HOME")
    if named:
        return Path(named).absolute()
    if os.geteuid() == 0:
        return Path("/var/lib/argosy")
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share") / "argosy"


def is_missing(file: Path) -> bool:
    """Whether it is not there; a file that may not be looked at is not missing."""
    try:
        file.stat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


def images(home: Path) -> Path:
    """Where the software of the datastores is unpacked, if the home is on this machine."""
    named = os.environ.get("ARGOSY_LOCAL__IMAGES") or _settings(home).get("local", {}).get("images")
    return Path(named) if named else home / "images"


def has_keystone(home: Path) -> bool:
    """Whether a Keystone knows the users of this home."""
    return (os.environ.get("ARGOSY_IDENTITY") or _settings(home).get("identity")) == "keystone"


def _settings(home: Path) -> dict[str, Any]:
    try:
        return tomllib.loads((home / "argosy.toml").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def has_tls(image: Path) -> bool | None:
    """What an image's own manifest says of its server, None when it is not there."""
    try:
        tls = json.loads((image / "manifest.json").read_text(encoding="utf-8")).get("tls")
    except (OSError, ValueError):
        return None
    return tls if isinstance(tls, bool) else None
