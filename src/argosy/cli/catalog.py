"""`argosy datastores`, `flavors`, `images`: what can be had."""

from __future__ import annotations

from typing import Any

import typer

from argosy.cli.call import Call, command

PANEL = "What can be had"


def add_to(app: typer.Typer) -> None:
    command(app, "datastores", panel=PANEL, examples=("argosy datastores",))(datastores)
    command(app, "flavors", panel=PANEL, examples=("argosy flavors",))(flavors)
    group = typer.Typer(help="The software of the datastores, as this Argosy has it.", no_args_is_help=True)
    app.add_typer(group, name="images", rich_help_panel=PANEL)
    command(group, "list", examples=("argosy images list",))(images)


def datastores(call: Call) -> int:
    """What kinds of database there are, and in which versions."""
    call.out.table(
        call.argosy.datastores.all(),
        {
            "Name": lambda each: each.name,
            "Versions": lambda each: each.versions,
            "Default": lambda each: each.default_version,
        },
        name=lambda each: str(each.name),
        nothing="No datastores.",
    )
    return 0


def flavors(call: Call) -> int:
    """How big an instance can be. `--flavor small` is short for `db.small`."""
    call.out.table(
        call.argosy.flavors.all(),
        {
            "Name": lambda each: each.name,
            "Memory": lambda each: f"{each.memory_mb} MB",
            "CPUs": lambda each: each.vcpus,
            "Id": lambda each: each.id,
        },
        name=lambda each: str(each.name),
        nothing="No flavors.",
        right=("Memory", "CPUs"),
    )
    return 0


def images(call: Call) -> int:
    """Which software is there, ready for a create to start from at once."""
    call.out.table(
        call.argosy.images.all(),
        {
            "Datastore": lambda each: each["datastore"],
            "Version": lambda each: each["version"],
            "State": lambda each: each["state"],
            "": _detail,
        },
        name=lambda each: f"{each['datastore']} {each['version']}",
        nothing="No images.",
    )
    return 0


def _detail(image: dict[str, Any]) -> str:
    return str(image.get("detail") or "")
