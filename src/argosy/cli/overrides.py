"""`argosy admin parameters`: what an administrator says of a version's parameters instead of its server."""

from __future__ import annotations

from typing import Annotated

import typer

from argosy.cli.call import Call, command
from argosy.cli.parameters import Datastore, Version

Parameter = Annotated[str, typer.Argument(metavar="PARAMETER")]


def add_to(group: typer.Typer) -> None:
    parameters = typer.Typer(
        help="What a configuration group may set, where that is to differ from what the server told.",
        no_args_is_help=True,
    )
    group.add_typer(parameters, name="parameters")
    for name, function, examples in (
        ("set", set_, ("argosy admin parameters set postgresql 17 max_connections --max 200",)),
        ("hide", hide, ("argosy admin parameters hide mariadb 11.8 general_log",)),
    ):
        command(parameters, name, administers=True, examples=examples)(function)


def set_(
    call: Call,
    datastore: Datastore,
    version: Version,
    parameter: Parameter,
    kind: Annotated[
        str | None, typer.Option("--type", metavar="TYPE", help="integer, float, boolean or string.")
    ] = None,
    least: Annotated[int | None, typer.Option("--min", metavar="NUMBER")] = None,
    most: Annotated[int | None, typer.Option("--max", metavar="NUMBER")] = None,
    restart: Annotated[
        bool | None, typer.Option("--restart/--no-restart", help="Whether a new value needs a restart.")
    ] = None,
) -> int:
    """Narrow what a parameter takes, or add one that the server did not tell of, or bring a hidden one back."""
    call.argosy.managed_parameters.set(
        datastore, version, parameter, kind=kind, restart_required=restart, least=least, most=most
    )
    shown = call.argosy.parameters.get(datastore, version, parameter)
    call.out.result(shown, f"{shown.name} of {datastore} {version} is as you say.", name=shown.name)
    return 0


def hide(call: Call, datastore: Datastore, version: Version, parameter: Parameter) -> int:
    """Take a parameter out of a version's list: no configuration group can set it from now on."""
    call.argosy.managed_parameters.hide(datastore, version, parameter)
    call.out.result(
        {"name": parameter, "hidden": True},
        f"{parameter} of {datastore} {version} cannot be set any more.",
        name=parameter,
    )
    return 0
