"""`argosy datastores`, `flavors`, `images`: what can be had."""

from __future__ import annotations

from typing import Annotated

import typer

from argosy.cli.call import Call, command
from argosy.cli.instances import Timeout, Wait

PANEL = "What can be had"


def add_to(app: typer.Typer) -> None:
    command(app, "datastores", panel=PANEL, examples=("argosy datastores",))(datastores)
    command(app, "flavors", panel=PANEL, examples=("argosy flavors",))(flavors)
    group = typer.Typer(help="The software of the datastores, as this Argosy has it.", no_args_is_help=True)
    app.add_typer(group, name="images", rich_help_panel=PANEL)
    command(group, "list", examples=("argosy images list",))(images)
    command(group, "pull", administers=True, examples=("argosy images pull mariadb 11.8",))(pull)


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
    """Which software is there. A create of a version that is not there fetches it first."""
    call.out.table(
        call.argosy.images.all(),
        {
            "Datastore": lambda each: each.datastore,
            "Version": lambda each: each.version,
            "State": lambda each: each.phase,
            "From": lambda each: each.source,
            "": lambda each: each.detail,
        },
        name=lambda each: f"{each.datastore} {each.version}",
        nothing="Nothing was fetched yet. Make it ready ahead: argosy images pull postgresql 17",
    )
    return 0


def pull(
    call: Call,
    datastore: Annotated[str, typer.Argument(metavar="DATASTORE")],
    version: Annotated[str, typer.Argument(metavar="VERSION")],
    wait: Wait = True,
    timeout: Timeout = None,
) -> int:
    """Fetch the software of a version ahead of its first instance. For administrators."""
    from argosy.cli import progress

    operation = call.argosy.images.pull(datastore, version)
    what = f"{datastore} {version}"
    if not wait:
        call.out.result(operation, f"{what} is being fetched.", name=operation.id)
        return 0
    progress.watch(call, call.argosy.operations.watch(operation, timeout), "Fetching", what)
    image = next(
        each for each in call.argosy.images.all() if (each.datastore, each.version) == (datastore, version)
    )
    note = "" if image.has_tls else ", without TLS"
    call.out.result(image, f"{what} is there, from {image.source}{note}.", name=operation.id)
    return 0
