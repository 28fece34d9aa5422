"""Which revision of which configuration group an instance is to run with, and does."""

from __future__ import annotations

from argosy.domain import configuration
from argosy.domain.configuration import Wanted
from argosy.domain.errors import ArgosyError, Kind, NotFound
from argosy.taskmanager.parts import parts
from argosy.taskmanager.steps.again import step


@step(name="configurations.wanted")
def wanted(instance_id: str) -> Wanted:
    """The newest revision of the group it follows now. The values stay out of the recorded result."""
    with parts().store.read() as tx:
        return configuration.wanted(tx.instances.get(instance_id))


def values(wanted: Wanted | None) -> dict[str, str]:
    """The values of a revision, for use within a step; those of a group that was deleted meanwhile are none."""
    if wanted is None or wanted.group_id is None:
        return {}
    with parts().store.read() as tx:
        try:
            return tx.configurations.revision(wanted.group_id, wanted.revision).values
        except NotFound:
            return {}


@step(name="configurations.applied")
def applied(instance_id: str, done: Wanted) -> bool:
    """Write down what was applied; whether that is still what is wanted."""
    with parts().store.write() as tx:
        before = tx.instances.get(instance_id)
        if tx.instances.applied(instance_id, done.group_id, done.revision):
            had = before.configuration_revision
            if had is not None and done.group_id is None:
                tx.events.add(
                    before.project_id,
                    instance_id,
                    "configuration.detached",
                    "Runs without a configuration group.",
                    "taskmanager",
                )
            elif done.group_id is not None and had != done.revision:
                tx.events.add(
                    before.project_id,
                    instance_id,
                    "configuration.applied",
                    f"Revision {done.revision} of configuration group {before.configuration_name} is applied.",
                    "taskmanager",
                )
        return configuration.wanted(tx.instances.get(instance_id)) == done


@step(name="configurations.not_applied")
def not_applied(instance_id: str, tried: Wanted, error: ArgosyError) -> None:
    """Write down why it was not. What failed for want of an answer is tried again; what was refused is not."""
    with parts().store.write() as tx:
        tx.instances.not_applied(
            instance_id,
            tried.group_id,
            tried.revision,
            error.sentence,
            refused=error.kind is not Kind.UNAVAILABLE,
        )
