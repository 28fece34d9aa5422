"""Another key for the ring that backups' keys are wrapped by."""

from __future__ import annotations

from collections.abc import Iterator

from argosy.domain.operations import RotateBackupKeys
from argosy.taskmanager.steps import backup_keys
from argosy.taskmanager.workflow import workflow


@workflow(RotateBackupKeys, "making a key", "wrapping the backups' keys by it")
def rotate_backup_keys(asked: RotateBackupKeys) -> Iterator[None]:  # noqa: ARG001 - it asks nothing else
    """No backup's data is touched. The older keys stay, until an administrator takes them away."""
    yield
    backup_keys.add()
    yield
    backup_keys.rewrap()
