"""The keys that backups' own keys are wrapped by, for administrators."""

from __future__ import annotations

from urllib.parse import quote

from argosy.client.models import BackupKey, Operation
from argosy.client.session import Session

_KEYS = "/mgmt/backup-keys"


class BackupKeys:
    def __init__(self, session: Session) -> None:
        self._session = session

    def all(self) -> list[BackupKey]:
        """Oldest first."""
        return [BackupKey.read(shown) for shown in self._session.get(_KEYS)["backup_keys"]]

    def rotate(self) -> Operation:
        """Begin to wrap by another key, made for it."""
        return Operation.read(self._session.post(_KEYS, {})["operation"])

    def delete(self, key_id: str) -> None:
        """One that wraps nothing any more."""
        self._session.delete(f"{_KEYS}/{quote(key_id, safe='')}")
