"""Have an instance run with the values of its configuration group."""

from __future__ import annotations

from collections.abc import Iterator

from argosy.domain.errors import ArgosyError
from argosy.domain.operations import ApplyConfiguration
from argosy.taskmanager.steps import configurations, guest, instances
from argosy.taskmanager.workflow import workflow

# The group may be changed meanwhile, or another be attached; after so many turns the sweep goes on.
TURNS = 20


@workflow(ApplyConfiguration, "applying the configuration group")
def apply_configuration(asked: ApplyConfiguration) -> Iterator[None]:
    """Give the server the newest values of the group that its instance follows now, or take all of them away.

    What can change in a running server changes at once; the rest waits for a restart, and the status says so.
    When the server refuses a value its guest puts everything back, it goes on serving, and the refusal is kept.
    """
    yield
    address = instances.server_of(asked.instance_id)
    for turn in range(TURNS):
        wanted = configurations.wanted(asked.instance_id)
        try:
            guest.apply_parameters(asked, address, wanted, turn)
        except ArgosyError as error:
            configurations.not_applied(asked.instance_id, wanted, error)
            raise
        if configurations.applied(asked.instance_id, wanted):
            return
