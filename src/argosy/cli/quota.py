"""`argosy quota`: how much a project may have, and how often it may ask."""

from __future__ import annotations

from typing import Annotated

import typer

from argosy.cli.call import Call, command

PANEL = "What can be had"
_UNITS = {"ram": " MB", "volumes": " GB"}
Limit = Annotated[int | None, typer.Option(metavar="N", min=-1, show_default=False)]


def add_to(app: typer.Typer) -> None:
    group = typer.Typer(help="How much a project may have, and how often it may ask.", no_args_is_help=True)
    app.add_typer(group, name="quota", rich_help_panel=PANEL)
    command(group, "show", examples=("argosy quota show",))(show)
    command(
        group,
        "set",
        administers=True,
        examples=("argosy quota set shop --instances 20 --volumes 100", "argosy quota set shop --ram -1"),
    )(set_)
    command(group, "rates", examples=("argosy quota rates",))(rates)


def show(
    call: Call,
    project: Annotated[
        str | None,
        typer.Argument(
            metavar="[PROJECT]", help="Of another project, for administrators.", show_default=False
        ),
    ] = None,
) -> int:
    """What a project has, and may have."""
    if project is not None:
        call.administers = True
    project_id = None if project is None else str(call.argosy.accounts.find("projects", project)["id"])
    call.out.table(
        call.argosy.quotas.of(project_id),
        {
            "Resource": lambda each: each.resource,
            "In use": lambda each: _amount(each.resource, each.in_use),
            "Reserved": lambda each: _amount(each.resource, each.reserved) if each.reserved else "",
            "Limit": lambda each: "none" if each.limit < 0 else _amount(each.resource, each.limit),
        },
        name=lambda each: f"{each.resource} {each.limit}",
        right=("In use", "Reserved", "Limit"),
        nothing="Nothing is limited.",
    )
    return 0


def set_(
    call: Call,
    project: Annotated[str, typer.Argument(metavar="PROJECT", help="A name, or an id.")],
    instances: Limit = None,
    ram: Annotated[int | None, typer.Option(metavar="MB", min=-1, show_default=False)] = None,
    volumes: Annotated[int | None, typer.Option(metavar="GB", min=-1, show_default=False)] = None,
    backups: Limit = None,
) -> int:
    """Give a project limits of its own; -1 is none. What it has already stays, above the limit too."""
    asked = {"instances": instances, "ram": ram, "volumes": volumes, "backups": backups}
    limits = {resource: limit for resource, limit in asked.items() if limit is not None}
    if not limits:
        raise typer.BadParameter("say at least one of --instances, --ram, --volumes, --backups.")
    found = call.argosy.accounts.find("projects", project)
    call.argosy.quotas.set(str(found["id"]), limits)
    told = ", ".join(
        f"{'any' if limit < 0 else _amount(resource, limit)} {resource}" for resource, limit in limits.items()
    )
    call.out.result(limits, f"{found['name']} may have {told}.", name=str(found["id"]))
    return 0


def rates(call: Call) -> int:
    """How often the project may ask, where that is limited."""
    call.out.table(
        call.argosy.quotas.rates(),
        {
            "Requests": lambda each: f"{each.verb} {each.uri}",
            "Limit": lambda each: f"{each.limit} in a {each.unit.lower()}",
            "Left": lambda each: each.remaining,
        },
        name=lambda each: f"{each.verb} {each.uri} {each.remaining}",
        right=("Left",),
        nothing="The project may ask as often as it likes.",
    )
    return 0


def _amount(resource: str, amount: int) -> str:
    return f"{amount}{_UNITS.get(resource, '')}"
