"""`argosy admin drift`: where the cloud and the metadata differ."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from argosy.cli.call import Call, command
from argosy.cli.instances import Timeout

if TYPE_CHECKING:
    from argosy.client.models import Finding


class What(StrEnum):
    LOOK = "look"


def add_to(group: typer.Typer) -> None:
    command(
        group,
        "drift",
        administers=True,
        examples=(
            "argosy admin drift",
            "argosy admin drift look",
            "argosy admin drift --instance shop --all",
        ),
    )(drift)


def drift(
    call: Call,
    what: Annotated[
        What | None, typer.Argument(metavar="[look]", help="Have the cloud looked at first, now.")
    ] = None,
    instance: Annotated[
        str | None, typer.Option("--instance", metavar="NAME", help="Of this instance only.")
    ] = None,
    gone: Annotated[
        bool, typer.Option("--all", help="Those too that were repaired, or are over otherwise.")
    ] = False,
    timeout: Timeout = None,
) -> int:
    """Where the cloud and what Argosy knows differ: servers deleted in the cloud, volumes detached, things of no instance."""
    from argosy.cli import progress
    from argosy.cli.output import ago

    instance_id = None if instance is None else call.argosy.managed_instances.find(instance).id
    if what is What.LOOK:
        looks = call.argosy.operations.watch(call.argosy.drift.look(), timeout)
        progress.watch(call, looks, "Looking at", "the cloud")
    call.out.table(
        call.argosy.drift.all(instance_id, gone=gone),
        {
            "Found": lambda each: ago(each.found),
            "Kind": lambda each: each.kind,
            "Instance": lambda each: each.instance_name or each.instance_id,
            "State": _state,
            "What": lambda each: each.message,
            "Resource": lambda each: each.resource,
        },
        name=lambda each: str(each.id),
        optional=("Resource",),
        nothing="The cloud has what it should have.",
    )
    return 0


def _state(finding: Finding) -> str:
    if finding.gone is None:
        return "open"
    return "repaired" if finding.repaired else "over"
