"""`argosy operations` and `argosy events`: what was asked for, and what happened."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from argosy.cli.call import Call, command

if TYPE_CHECKING:
    from argosy.client.models import Operation

PANEL = "History"
Name = Annotated[
    str | None,
    typer.Argument(metavar="[NAME]", help="Of this instance only: its name or id.", show_default=False),
]
AtMost = Annotated[
    int, typer.Option("--limit", "-n", metavar="N", min=1, help="So many at most, newest first.")
]


def add_to(app: typer.Typer) -> None:
    command(app, "operations", panel=PANEL, examples=("argosy operations", "argosy operations shop -n 5"))(
        operations
    )
    command(app, "events", panel=PANEL, examples=("argosy events shop", "argosy events --json"))(events)


def operations(call: Call, name: Name = None, at_most: AtMost = 20) -> int:
    """What was asked for that takes time, how far it is, and why it failed."""
    from argosy.cli.output import ago

    names = _names(call)
    call.out.table(
        call.argosy.operations.recent(_instance_id(call, name), at_most),
        {
            "Instance": lambda each: _shown(names, each.instance_id),
            "Operation": lambda each: each.kind,
            "State": lambda each: each.state,
            "": _how_far,
            "By": lambda each: each.requested_by,
            "Asked": lambda each: ago(each.created),
            "Took": _took,
        },
        name=lambda each: str(each.id),
        optional=("By", "Took"),
        nothing="No operations yet.",
    )
    return 0


def events(call: Call, name: Name = None, at_most: AtMost = 20) -> int:
    """What happened to instances: when, what, by whom."""
    from argosy.cli.output import ago

    names = _names(call)
    call.out.table(
        call.argosy.events.recent(_instance_id(call, name), at_most),
        {
            "When": lambda each: ago(each.at),
            "Instance": lambda each: _shown(names, each.instance_id),
            "Event": lambda each: each.kind,
            "Message": lambda each: each.message,
            "By": lambda each: each.actor,
        },
        name=lambda each: str(each.id),
        optional=("By",),
        nothing="No events yet.",
    )
    return 0


def _instance_id(call: Call, name: str | None) -> str | None:
    """An id is taken as it is: history outlives its instance."""
    from argosy.client.instances import is_id

    if name is None or is_id(name):
        return name
    return call.argosy.instances.find(name).id


def _names(call: Call) -> dict[str, str]:
    if call.out.as_json or call.out.quiet:
        return {}
    return {each.id: each.name for each in call.argosy.instances.all()}


def _shown(names: dict[str, str], instance_id: str | None) -> str:
    """The name, and enough of the id of what has none any more."""
    if instance_id is None:
        return ""
    return names.get(instance_id) or f"{instance_id[:8]}… (gone)"


def _how_far(operation: Operation) -> str:
    if operation.state == "running":
        return f"{operation.step}/{operation.steps} {operation.doing}"
    return operation.error or (operation.doing if operation.state == "queued" else "")


def _took(operation: Operation) -> str:
    if operation.ended is None or operation.created is None:
        return ""
    from argosy.cli.output import span_of

    return span_of((operation.ended - operation.created).total_seconds())
