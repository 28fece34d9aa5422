"""`argosy parameters`: what can be set in a database server, and what is in force in one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from argosy.cli.call import Call, command
from argosy.cli.instances import PANEL, Name

if TYPE_CHECKING:
    from argosy.client.models import Parameter

Datastore = Annotated[str, typer.Argument(metavar="DATASTORE")]
Version = Annotated[str, typer.Argument(metavar="VERSION")]
_WIDE = 60


def add_to(app: typer.Typer) -> None:
    group = typer.Typer(
        help="What can be set in a database server, and what is in force in one.", no_args_is_help=True
    )
    app.add_typer(group, name="parameters", rich_help_panel=PANEL)
    command(
        group,
        "list",
        examples=(
            "argosy parameters list postgresql 17",
            "argosy parameters list mariadb 11.8 --match buffer",
        ),
    )(list_)
    command(group, "show", examples=("argosy parameters show postgresql 17 work_mem",))(show)
    command(
        group,
        "effective",
        examples=("argosy parameters effective shop", "argosy parameters effective shop --source group"),
    )(effective)
    command(group, "defaults", examples=("argosy parameters defaults shop",))(defaults)


def list_(
    call: Call,
    datastore: Datastore,
    version: Version,
    match: Annotated[
        str | None, typer.Option("--match", metavar="TEXT", help="Those with this in their name.")
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Also those that Argosy sets itself, and nobody else.")
    ] = False,
) -> int:
    """The parameters a configuration group of a version may set, as a server of that version told."""
    there = [
        each
        for each in call.argosy.parameters.all(datastore, version)
        if (everything or each.owned is None) and (match or "").lower() in each.name.lower()
    ]
    call.out.table(
        there,
        {
            "Name": lambda each: each.name,
            "Type": lambda each: each.type,
            "Values": lambda each: _cut(_values(each)),
            "Default": lambda each: _cut(each.default or ""),
            "Restart": lambda each: "needed" if each.restart_required else "",
            "": lambda each: "Argosy's" if each.owned else "",
        },
        name=lambda each: str(each.name),
        nothing=f"None. If {datastore} {version} was never fetched: argosy images pull {datastore} {version}",
        optional=("", "Default", "Type"),
    )
    return 0


def show(
    call: Call,
    datastore: Datastore,
    version: Version,
    parameter: Annotated[str, typer.Argument(metavar="PARAMETER", help="Its name, in any case.")],
) -> int:
    """One parameter: what it does, which values it takes, and whether a restart is needed."""
    each = call.argosy.parameters.get(datastore, version, parameter)
    call.out.fields(
        each,
        {
            "Name": each.name,
            "Does": each.description,
            "Type": each.type,
            "Values": _values(each),
            "Units": each.units,
            "Default": each.default,
            "Restart": "needed for a new value" if each.restart_required else "not needed",
            "Argosy's": each.owned and f"cannot be set: {each.owned}",
        },
        name=each.name,
    )
    return 0


def effective(
    call: Call,
    name: Name,
    source: Annotated[
        str | None,
        typer.Option(
            "--source",
            metavar="SOURCE",
            help="Only those from default, flavor, log, group, argosy or server (set in it by a statement).",
        ),
    ] = None,
    match: Annotated[
        str | None, typer.Option("--match", metavar="TEXT", help="Those with this in their name.")
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Also what is as the server has it by default.")
    ] = False,
) -> int:
    """Which values an instance's server runs with, where each is from, and what waits for a restart."""
    instance = call.argosy.instances.find(name)
    there = [
        each
        for each in call.argosy.parameters.effective(instance.id)
        if (
            each.source == source
            if source
            else everything or match or each.source != "default" or each.pending
        )
        and (match or "").lower() in each.name.lower()
    ]
    call.out.table(
        there,
        {
            "Name": lambda each: each.name,
            "Value": lambda each: _cut(each.value),
            "From": lambda each: each.source,
            "After a restart": lambda each: each.pending if each.pending is not None else "",
        },
        name=lambda each: str(each.name),
        nothing=f"None of {instance.name}'s parameters is so.",
    )
    return 0


def defaults(call: Call, name: Name) -> int:
    """What Argosy sets for an instance of this size; its configuration group comes on top of that."""
    instance = call.argosy.instances.find(name)
    settings = call.argosy.parameters.defaults(instance.id)
    call.out.table(
        [{"name": each, "value": settings[each]} for each in sorted(settings)],
        {"Name": lambda each: each["name"], "Value": lambda each: _cut(each["value"])},
        name=lambda each: str(each["name"]),
        nothing="Nothing.",
    )
    return 0


def _values(each: Parameter) -> str:
    """What may be set, in a few words."""
    unit = f" {each.unit}" if each.unit else ""
    if each.allowed:
        words = ", ".join(each.allowed)
        return f"any of {words}" if each.several else words
    if each.min is None and each.max is None:
        return ""
    if each.max is None:
        return f"{each.min}{unit} or more"
    return f"{each.max}{unit} or less" if each.min is None else f"{each.min} to {each.max}{unit}"


def _cut(text: str) -> str:
    return text if len(text) <= _WIDE else f"{text[:_WIDE]}…"
