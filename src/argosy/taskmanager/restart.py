"""Restart an instance's database server."""

from __future__ import annotations

from collections.abc import Iterator

from argosy.domain.operations import RestartInstance
from argosy.taskmanager.steps import guest, instances
from argosy.taskmanager.workflow import workflow


@workflow(RestartInstance, "restarting the database server")
def restart_instance(asked: RestartInstance) -> Iterator[None]:
    """Stop it cleanly and start it. If it does not come up, the fault says why and its guest goes on trying."""
    yield
    guest.restart(asked, instances.server_of(asked.instance_id))
