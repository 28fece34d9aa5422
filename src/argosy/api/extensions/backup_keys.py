"""/mgmt/backup-keys: the keys of the ring that backups' own keys are wrapped by; for administrators."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any

from argosy.api.call import Asked
from argosy.api.route import faults, resource
from argosy.api.v1 import shapes, views
from argosy.domain.errors import Conflict, NotFound
from argosy.domain.operations import RotateBackupKeys
from argosy.storage.keys import made_at

router = resource("backup keys")
_KEYS = "/mgmt/backup-keys"


@router.get(_KEYS, response_model=shapes.BackupKeys, responses=faults())
def list_keys(call: Asked) -> dict[str, Any]:
    """Oldest first; also those that are missing, although something is wrapped by them. Never the keys themselves."""
    call.allow_management("mgmt:backup_key:index")
    with call.parts.store.read() as tx:
        uses = tx.wrapped_keys.uses()
    ring = call.parts.keys
    present, active = ring.ids(), ring.active
    return {
        "backup_keys": [
            {
                "id": one,
                "created": _date(made_at(one)),
                "active": one == active,
                "present": one in present,
                "backups": uses.get((one, "backup"), 0),
                "log_archives": uses.get((one, "log"), 0),
            }
            for one in sorted({*present, *(used for used, _ in uses)})
        ]
    }


@router.post(_KEYS, status_code=202, response_model=shapes.ShownOperation, responses=faults())
def rotate(call: Asked) -> dict[str, Any]:
    """Make another key and wrap all backups' keys by it. No backup is read or written."""
    call.allow_management("mgmt:backup_key:rotate")
    request = RotateBackupKeys(operation_id=str(uuid.uuid4()))
    return {"operation": views.operation_view(call.begin_alone(request))}


@router.delete(_KEYS + "/{key_id}", status_code=204, responses=faults(404, 409))
def delete(call: Asked, key_id: str) -> None:
    """Take a key away for ever. Refused while anything is wrapped by it, and for the active one."""
    call.allow_management("mgmt:backup_key:delete")
    ring = call.parts.keys
    if key_id not in ring.ids():
        raise NotFound(f"There is no key {key_id!r} in the ring.")
    if key_id == ring.active:
        raise Conflict("This is the key that wraps now: rotate first.", code="key-in-use")
    with call.parts.store.read() as tx:
        used = sum(count for (one, _), count in tx.wrapped_keys.uses().items() if one == key_id)
    if used:
        raise Conflict(
            f"{used} backups or log archives could not be opened without this key: rotate, which wraps theirs anew, "
            "or delete them.",
            code="key-in-use",
        )
    ring.remove(key_id)


def _date(at: datetime | None) -> str | None:
    return None if at is None else views.date(at.astimezone(UTC))
