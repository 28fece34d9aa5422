"""`argosy restore`: an instance put back to what it was."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from argosy.cli.call import Call, command
from argosy.cli.instances import PANEL, Name, Timeout, Wait, WhichUsers

Users = Annotated[
    WhichUsers,
    typer.Option(
        "--with-users",
        help="Users, passwords and grants as they are now on the instance that was backed up, or as they are in the "
        "backup.",
    ),
]


def add_to(app: typer.Typer) -> None:
    command(
        app,
        "restore",
        panel=PANEL,
        examples=(
            "argosy restore shop --backup before-release",
            "argosy restore shop --backup before-release --with-users backup --yes",
        ),
    )(restore)


def restore(
    call: Call,
    name: Name,
    backup: Annotated[
        str | None, typer.Option("--backup", metavar="BACKUP", help="The name of a backup, or its id.")
    ] = None,
    users: Users = WhichUsers.CURRENT,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    wait: Wait = True,
    timeout: Timeout = None,
) -> int:
    """Put an instance back to what a backup has; what was written since is lost. At a terminal it asks first.

    If it fails, the instance goes on with the data it has.
    """
    from argosy.cli import progress

    if backup is None:
        raise typer.BadParameter("say what to restore: --backup.")
    found = call.argosy.backups.find(backup)
    instance = call.argosy.instances.find(name)
    if not yes and sys.stdin.isatty() and sys.stdout.isatty():
        of = "" if found.consistent_at is None else f" of {found.consistent_at:%Y-%m-%d %H:%M:%S} UTC"
        typer.confirm(
            f"Put {instance.name} back to {found.name}{of}, losing what was written since?", abort=True
        )
    call.argosy.instances.restore(instance.id, backup=found.id, users=users.value)
    if wait:
        progress.follow(call, instance, "Restoring", timeout)
    instance = call.argosy.instances.get(instance.id)
    word = f"has what {found.name} has" if wait else f"is being put back to {found.name}"
    call.out.result(instance, f"{instance.name} {word}.", name=instance.id)
    return 0
