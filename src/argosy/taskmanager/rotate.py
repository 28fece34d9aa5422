"""Give the agent's account in an instance's database server another password."""

from __future__ import annotations

from collections.abc import Iterator

from argosy.domain.operations import RotatePassword
from argosy.taskmanager.steps import guest, instances
from argosy.taskmanager.workflow import workflow


@workflow(RotatePassword, "giving the management account another password")
def rotate_password(asked: RotatePassword) -> Iterator[None]:
    """The guest makes it and keeps it; nobody else ever has it. The old one holds until the new one has worked."""
    yield
    guest.rotate_password(asked, instances.server_of(asked.instance_id))
