"""Stop an instance's database server, and keep it stopped."""

from __future__ import annotations

from collections.abc import Iterator

from argosy.domain.operations import StopInstance
from argosy.taskmanager.steps import guest, instances
from argosy.taskmanager.workflow import workflow


@workflow(StopInstance, "stopping the database server")
def stop_instance(asked: StopInstance) -> Iterator[None]:
    """Stop it cleanly. Its guest remembers that it is to stay stopped, through boots of itself and of the machine."""
    yield
    guest.stop(asked, instances.server_of(asked.instance_id))
