"""`argosy backup strategy`: in which container of the store backups are kept."""

from __future__ import annotations

from typing import Annotated

import typer

from argosy.cli.call import Call, command

_Instance = Annotated[
    str | None,
    typer.Argument(metavar="[NAME]", help="Of this instance; without one, of the whole project."),
]


def add_to(group: typer.Typer) -> None:
    """Into the group of `argosy backup`."""
    strategy = typer.Typer(help="In which container of the store backups are kept.", no_args_is_help=True)
    group.add_typer(strategy, name="strategy")
    command(strategy, "list", examples=("argosy backup strategy list",))(list_)
    command(
        strategy,
        "set",
        examples=(
            "argosy backup strategy set --container our-backups",
            "argosy backup strategy set shop --container shop-backups",
        ),
    )(set_)
    command(strategy, "delete", examples=("argosy backup strategy delete shop",))(delete)


def list_(call: Call) -> int:
    """What was said for the project and for single instances."""
    there = call.argosy.backup_strategies.all()
    plain = call.out.as_json or call.out.quiet or not there
    names = {} if plain else {each.id: each.name for each in call.argosy.instances.all()}
    call.out.table(
        there,
        {
            "Backups of": lambda each: names.get(each.instance_id, each.instance_id) or "(the project)",
            "Container": lambda each: each.container,
        },
        name=lambda each: str(each.container),
        nothing="Backups are kept where this Argosy keeps them unless told otherwise.",
    )
    return 0


def set_(
    call: Call,
    name: _Instance = None,
    container: Annotated[str, typer.Option("--container", metavar="CONTAINER")] = ...,  # type: ignore[assignment] # Typer's word for required
) -> int:
    """Have new backups kept in another container. Those there are stay where they are."""
    instance = None if name is None else call.argosy.instances.find(name)
    made = call.argosy.backup_strategies.set(container, None if instance is None else instance.id)
    whose = "the project" if instance is None else instance.name
    call.out.result(
        made, f"Backups of {whose} are kept in {made.container} from now on.", name=made.container
    )
    return 0


def delete(call: Call, name: _Instance = None) -> int:
    """Have new backups kept where all are unless told otherwise."""
    instance = None if name is None else call.argosy.instances.find(name)
    call.argosy.backup_strategies.delete(None if instance is None else instance.id)
    whose = "the project" if instance is None else instance.name
    call.out.result({"deleted": True}, f"Nothing is said any more of where backups of {whose} are kept.")
    return 0
