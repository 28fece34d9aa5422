"""`argosy admin backup-keys`: the keys that backups' own keys are wrapped by."""

from __future__ import annotations

from typing import Annotated

import typer

from argosy.cli.call import Call, command
from argosy.cli.instances import Timeout, Wait

Key = Annotated[str, typer.Argument(metavar="KEY", help="Its id.")]


def add_to(group: typer.Typer) -> None:
    own = typer.Typer(help="The keys that backups' own keys are wrapped by.", no_args_is_help=True)
    group.add_typer(own, name="backup-keys")
    for name, function, examples in (
        ("list", list_, ("argosy admin backup-keys list",)),
        ("rotate", rotate, ("argosy admin backup-keys rotate",)),
        ("delete", delete, ("argosy admin backup-keys delete 20261128T140000.000000Z",)),
    ):
        command(own, name, administers=True, examples=examples)(function)


def list_(call: Call) -> int:
    """The ring's keys, oldest first, and how many backups and log archives are wrapped by each."""
    call.out.table(
        call.argosy.backup_keys.all(),
        {
            "Id": lambda each: each.id,
            "Wraps now": lambda each: "yes" if each.active else "",
            "Backups": lambda each: each.backups,
            "Log archives": lambda each: each.log_archives,
            "": lambda each: "" if each.present else "MISSING: put its file back into the ring",
        },
        name=lambda each: str(each.id),
        nothing="No keys.",
    )
    return 0


def rotate(call: Call, wait: Wait = True, timeout: Timeout = None) -> int:
    """Make another key and wrap all backups' keys by it. No backup is read or written."""
    from argosy.cli import progress

    operation = call.argosy.backup_keys.rotate()
    if not wait:
        call.out.result(operation, "The ring is given another key.", name=operation.id)
        return 0
    progress.watch(call, call.argosy.operations.watch(operation, timeout), "Rotating", "the ring")
    active = next(each for each in call.argosy.backup_keys.all() if each.active)
    call.out.result(
        active, f"{active.id} wraps now. Keep a copy of the ring apart from the backups.", name=active.id
    )
    return 0


def delete(call: Call, key: Key) -> int:
    """Take a key that wraps nothing any more out of the ring, for ever."""
    call.argosy.backup_keys.delete(key)
    call.out.result({"id": key, "deleted": True}, f"The key {key} is deleted.", name=key)
    return 0
