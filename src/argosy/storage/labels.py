"""The label of a backup: what the metadata database knows of it, beside its archive, so that others can take it over.

`label.json` is encrypted by the archive's data key and bound to its id: the store's owner learns nothing from it, and
whoever has the key ring can tell whose a backup is, and of what, when the metadata database is another's or lost.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from argosy.domain.backup import Backup
from argosy.domain.errors import BackupUnusable

NAME = "label.json"
FORMAT = "argosy-label/1"
_NONCE = 12


@dataclass(frozen=True)
class Label:
    """The fields of a Backup that are known before it is made."""

    id: str
    project_id: str
    name: str
    instance_id: str
    datastore: str
    version: str
    description: str | None = None
    instance_name: str | None = None
    parent_id: str | None = None
    volume_gb: int | None = None
    service: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, backup: Backup) -> Label:
        return cls(
            id=backup.id,
            project_id=backup.project_id,
            name=backup.name,
            instance_id=backup.instance_id,
            datastore=backup.datastore,
            version=backup.version,
            description=backup.description,
            instance_name=backup.instance_name,
            parent_id=backup.parent_id,
            volume_gb=backup.volume_gb,
            service=dict(backup.service),
        )

    @property
    def prefix(self) -> str:
        """Where in its container the archive lies."""
        return f"{self.instance_id}/{self.id}/"

    def sealed(self, key: bytes) -> bytes:
        """As it lies in the store."""
        nonce = os.urandom(_NONCE)
        sealed = nonce + AESGCM(key).encrypt(nonce, json.dumps(asdict(self)).encode(), _binding(self.id))
        return json.dumps(
            {"format": FORMAT, "id": self.id, "sealed": base64.b64encode(sealed).decode()}
        ).encode()

    @classmethod
    def opened(cls, content: bytes, key: bytes) -> Label:
        """Raises BackupUnusable."""
        try:
            outer = json.loads(content)
            sealed, backup_id = base64.b64decode(outer["sealed"], validate=True), str(outer["id"])
            if outer["format"] == FORMAT:
                within = AESGCM(key).decrypt(sealed[:_NONCE], sealed[_NONCE:], _binding(backup_id))
                return _checked(cls(**json.loads(within)))
        except (ValueError, KeyError, TypeError, InvalidTag) as error:
            raise BackupUnusable("The backup's label.json is damaged, or another's.") from error
        raise BackupUnusable(
            f"The backup's label has the format {outer['format']!r}, which this release does not read."
        )


def _checked(label: Label) -> Label:
    """A guest could write one itself. Raises TypeError."""
    texts = (label.id, label.project_id, label.name, label.instance_id, label.datastore, label.version)
    if not all(isinstance(text, str) for text in texts) or not isinstance(label.service, dict):
        raise TypeError("a label's fields must be text")
    if not all(isinstance(text, str | None) for text in (label.instance_name, label.parent_id)):
        raise TypeError("a label's fields must be text")
    if not isinstance(label.volume_gb, int | None):
        raise TypeError("a volume's size must be a number")
    return label


def _binding(backup_id: str) -> bytes:
    return f"{FORMAT} {backup_id}".encode()
