"""`argosy upgrade`: to another version, or trying that first."""

from __future__ import annotations

from typing import Annotated

import typer

from argosy.cli.call import Call, command
from argosy.cli.instances import PANEL, Name, Timeout, Wait


def add_to(app: typer.Typer) -> None:
    command(
        app,
        "upgrade",
        panel=PANEL,
        examples=(
            "argosy upgrade shop",
            "argosy upgrade shop --to 18 --check",
            "argosy upgrade shop --to 18",
        ),
    )(upgrade)


def upgrade(
    call: Call,
    name: Name,
    to: Annotated[
        str | None,
        typer.Option(
            "--to", metavar="VERSION", help="A version, or DATASTORE/VERSION. Without it, what there is."
        ),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Only rehearse it on a copy of the data, and tell.")
    ] = False,
    wait: Wait = True,
    timeout: Timeout = None,
) -> int:
    """Move an instance to another version: data, users and settings stay, and a failed upgrade leaves it as it was."""
    from argosy.cli import progress

    instance = call.argosy.instances.find(name)
    there = call.argosy.instances.upgrades(instance.id)
    if to is None:
        if check:
            raise typer.BadParameter("--check needs --to VERSION.")
        call.out.table(
            there,
            {
                "Datastore": lambda each: each.datastore,
                "Version": lambda each: each.name,
                "How": lambda each: "converts a copy of the data" if each.converts else "a restart",
                "Id": lambda each: each.id,
            },
            name=lambda each: str(each.name),
            optional=("Id",),
            nothing=f"There is no version that {instance.name} can be moved to.",
        )
        return 0
    wanted = next(
        (
            each.id
            for each in there
            if to in (f"{each.datastore}/{each.name}", each.id)
            or (to == each.name and each.datastore == instance.datastore)
        ),
        to,
    )
    if check:
        call.argosy.instances.rehearse_upgrade(instance.id, wanted)
        if wait:
            progress.follow(call, instance, "Rehearsing the upgrade of", timeout)
            told = call.argosy.events.recent(instance.id, 1, kinds=("upgrade.rehearsed",))
            call.out.result(told[0], told[0].message, name=instance.id)
        else:
            call.out.note(f"It is rehearsed on a copy; see: argosy events {instance.name}")
        return 0
    call.argosy.instances.upgrade(instance.id, wanted)
    if wait:
        progress.follow(call, instance, "Upgrading", timeout)
    after = call.argosy.instances.get(instance.id)
    word = f"runs {after.datastore} {after.version} now" if wait else "is being upgraded"
    call.out.result(after, f"{after.name} {word}.", name=after.id)
    return 0
