"""Encrypting what must wait in the database but may not be read there, such as a new user's password."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cryptography.fernet import Fernet

from argosy.files import write_once


class Seal:
    """Seals and opens JSON values with the installation's key, kept in a file apart from the database."""

    def __init__(self, key: bytes) -> None:
        self._fernet = Fernet(key)

    @classmethod
    def open_file(cls, path: Path) -> Seal:
        """The key of this file, made on first use; of two processes at once one makes it."""
        if not path.exists():
            write_once(path, Fernet.generate_key().decode(), 0o600)
        return cls(path.read_bytes())

    def close(self, value: Any) -> str:
        return self._fernet.encrypt(json.dumps(value).encode()).decode()

    def open(self, sealed: str) -> Any:
        return json.loads(self._fernet.decrypt(sealed.encode()))
