"""The key ring: keys that the data keys of archives are wrapped by, in a directory that is the operator's to guard.

Each is a file of its own, `<id>.key`, 32 bytes in hex; the newest wraps new data keys. One that is no longer the newest is
kept until nothing is wrapped by it. Without this directory no archive can be opened: it is to be kept apart from them.
"""

from __future__ import annotations

import base64
import json
import os
import re
from datetime import UTC, datetime
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from argosy.domain.errors import BackupUnusable
from argosy.files import write_once

FORMAT = "argosy-key/1"
KEY_BYTES = 32
_NONCE = 12
_MADE = "%Y%m%dT%H%M%S.%fZ"
_ID = re.compile(r"[0-9TZ.]{1,40}")


class KeyRing:
    """Makes data keys and wraps them. Safe to share between threads and processes: files are only added, or removed whole."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    @classmethod
    def open(cls, directory: Path) -> KeyRing:
        """The ring in this directory, with a first key when it has none."""
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        ring = cls(directory)
        if not ring.ids():
            ring.rotate()
        return ring

    def ids(self) -> list[str]:
        """Oldest first."""
        return sorted(file.stem for file in self._directory.glob("*.key"))

    @property
    def active(self) -> str:
        """The id of the key that wraps from now on."""
        return self.ids()[-1]

    def rotate(self) -> str:
        """Make another key, which wraps from now on; returns its id."""
        made = datetime.now(UTC).strftime(_MADE)
        write_once(self._directory / f"{made}.key", os.urandom(KEY_BYTES).hex(), 0o600)
        return made

    def remove(self, key_id: str) -> None:
        """For ever: what is still wrapped by it is lost."""
        (self._directory / f"{key_id}.key").unlink(missing_ok=True)

    def new(self) -> tuple[bytes, str]:
        """A data key, and the same wrapped."""
        key = os.urandom(KEY_BYTES)
        return key, self._wrap(key)

    def unwrap(self, wrapped: str) -> bytes:
        """Raises BackupUnusable when the key that it was wrapped by is not to be had."""
        key_id, _, text = wrapped.partition(":")
        try:
            if not _ID.fullmatch(key_id):
                raise ValueError(key_id)  # noqa: TRY301 - it is one of several ways of not being a key
            wrapping = bytes.fromhex((self._directory / f"{key_id}.key").read_text())
            sealed = base64.b64decode(text, validate=True)
            return AESGCM(wrapping).decrypt(sealed[:_NONCE], sealed[_NONCE:], key_id.encode())
        except (OSError, ValueError, InvalidTag) as error:
            raise BackupUnusable(
                f"The key {key_id[:64]!r}, which this archive's key is wrapped by, is not in the key ring: an operator "
                "has to put it back."
            ) from error

    def wrapped_by(self, wrapped: str) -> str:
        """The id of the key it was wrapped by."""
        return wrapped.partition(":")[0]

    def rewrap(self, wrapped: str) -> str:
        """The same data key, wrapped by the active key. Raises BackupUnusable."""
        return wrapped if self.wrapped_by(wrapped) == self.active else self._wrap(self.unwrap(wrapped))

    def _wrap(self, key: bytes) -> str:
        key_id = self.active
        wrapping = bytes.fromhex((self._directory / f"{key_id}.key").read_text())
        nonce = os.urandom(_NONCE)
        sealed = nonce + AESGCM(wrapping).encrypt(nonce, key, key_id.encode())
        return f"{key_id}:{base64.b64encode(sealed).decode()}"


def made_at(key_id: str) -> datetime | None:
    """When a key of the ring was made, which its id tells; None when that is none of ours."""
    try:
        return datetime.strptime(key_id, _MADE).replace(tzinfo=UTC)
    except ValueError:
        return None


def document(wrapped: str) -> bytes:
    """What lies beside an archive as `key.json`, so that it can be opened by who has the key ring and nothing else of us."""
    return json.dumps({"format": FORMAT, "wrapped": wrapped}).encode()


def wrapped_in(content: bytes) -> str:
    """Of such a document. Raises BackupUnusable."""
    try:
        stored = json.loads(content)
        if stored["format"] == FORMAT:
            return str(stored["wrapped"])
    except (ValueError, KeyError, TypeError) as error:
        raise BackupUnusable("The archive's key.json is damaged.") from error
    raise BackupUnusable(
        f"The archive's key has the format {stored['format']!r}, which this release does not read."
    )
