"""`argosy databases`: the databases inside an instance."""

from __future__ import annotations

from typing import Annotated

import typer

from argosy.cli.call import Call, command
from argosy.cli.instances import PANEL, Name

Database = Annotated[str, typer.Argument(metavar="DATABASE", help="The name of a database.")]


def add_to(app: typer.Typer) -> None:
    group = typer.Typer(help="The databases inside an instance.", no_args_is_help=True)
    app.add_typer(group, name="databases", rich_help_panel=PANEL)
    command(group, "list", examples=("argosy databases list shop",))(list_)
    command(
        group,
        "create",
        examples=(
            "argosy databases create shop orders",
            "argosy databases create crm notes --character-set utf8mb4",
        ),
    )(create)
    command(group, "delete", examples=("argosy databases delete shop orders",))(delete)


def list_(call: Call, name: Name) -> int:
    """The databases of an instance."""
    instance = call.argosy.instances.find(name)
    there = [{"name": each} for each in call.argosy.databases.all(instance.id)]
    call.out.table(
        there,
        {"Name": lambda each: each["name"]},
        name=lambda each: str(each["name"]),
        nothing=f"{instance.name} has no databases. Make one: argosy databases create {instance.name} NAME",
    )
    return 0


def create(
    call: Call,
    name: Name,
    database: Database,
    character_set: Annotated[
        str | None, typer.Option(metavar="NAME", help="MariaDB's, such as utf8mb4.")
    ] = None,
    collate: Annotated[str | None, typer.Option(metavar="NAME", help="The order of its texts.")] = None,
) -> int:
    """Make a database in an instance."""
    instance = call.argosy.instances.find(name)
    call.argosy.databases.create(instance.id, database, character_set=character_set, collate=collate)
    call.out.result({"name": database}, f"Database {database} is in {instance.name} now.", name=database)
    return 0


def delete(call: Call, name: Name, database: Database) -> int:
    """Delete a database of an instance, with all data in it."""
    instance = call.argosy.instances.find(name)
    call.argosy.databases.delete(instance.id, database)
    call.out.result({"name": database}, f"Database {database} of {instance.name} is deleted.", name=database)
    return 0
