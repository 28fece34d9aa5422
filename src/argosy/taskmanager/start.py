"""Start an instance's database server that was stopped."""

from __future__ import annotations

from collections.abc import Iterator

from argosy.domain.operations import StartInstance
from argosy.taskmanager.steps import guest, instances
from argosy.taskmanager.workflow import workflow


@workflow(StartInstance, "starting the database server")
def start_instance(asked: StartInstance) -> Iterator[None]:
    """Start it, and keep it up. If it does not come up, the fault says why and its guest goes on trying."""
    yield
    guest.start(asked, instances.server_of(asked.instance_id))
