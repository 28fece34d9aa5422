"""/backups/{id}/verify: whether a backup can be restored, found out by doing it."""

from __future__ import annotations

import uuid
from typing import Any

from argosy.api.call import Asked
from argosy.api.route import faults, resource
from argosy.api.v1 import shapes
from argosy.api.v1.backups import find
from argosy.domain.errors import Busy
from argosy.domain.operations import VerifyBackup

router = resource("backups")


@router.post(
    "/backups/{backup_id}/verify",
    status_code=202,
    response_model=shapes.ShownVerification,
    responses=faults(404, 409, 422),
)
def verify_backup(call: Asked, backup_id: str) -> dict[str, Any]:
    """Begin to restore a backup into a server that is thrown away afterwards, and to have its data checked.

    What comes of it is shown on the backup. The operation fails when the backup is no good. One of a project at a time (422).
    """
    call.allow("backup:verify")
    with call.write() as tx:
        backup = find(tx, backup_id)
        backup.check_usable()
        backup.check_is_in(call.parts.backups.kind)
        going = [one for one in tx.operations.running() if one.kind == VerifyBackup.kind]
        if any(one.project_id == backup.project_id for one in going):
            raise Busy(
                "A backup of this project is being verified: wait until that ends.", code="verification-busy"
            )
        request = VerifyBackup(operation_id=str(uuid.uuid4()), backup_id=backup.id)
        if not tx.backups.claim((backup.id,), request.operation_id, request.kind):
            raise Busy(f"An operation holds backup {backup.id}: wait until that ends.", code="backup-busy")
        tx.operations.begin_alone(backup.project_id, request, requested_by=call.caller.user_name)
    return {"verification": {"operation_id": request.operation_id}}
