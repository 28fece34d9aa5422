"""`argosy restore`: an instance put back to what it was."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from argosy.cli.call import Call, command
from argosy.cli.instances import PANEL, Name, Timeout, ToGtid, ToLsn, ToTime, Wait, WhichUsers, log_point

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
            "argosy restore shop --to-time '2026-11-28 12:30:00'",
            "argosy restore shop --to-lsn 0/3000060",
        ),
    )(restore)


def restore(
    call: Call,
    name: Name,
    backup: Annotated[
        str | None, typer.Option("--backup", metavar="BACKUP", help="The name of a backup, or its id.")
    ] = None,
    to_time: ToTime = None,
    to_lsn: ToLsn = None,
    to_gtid: ToGtid = None,
    users: Users = WhichUsers.CURRENT,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    wait: Wait = True,
    timeout: Timeout = None,
) -> int:
    """Put an instance back to a backup, or to a moment or place of its archived log; what was written since is lost.

    At a terminal it asks first. If it fails, the instance goes on with the data it has.
    """
    from argosy.cli import progress

    point = log_point(to_time, to_lsn, to_gtid)
    if (backup is None) == (not point):
        raise typer.BadParameter("say what to restore: --backup, --to-time, --to-lsn or --to-gtid.")
    what = next(iter(point.values()), "")
    of = ""
    if backup is not None:
        found = call.argosy.backups.find(backup)
        point, what = {"backup": found.id}, found.name
        of = "" if found.consistent_at is None else f" of {found.consistent_at:%Y-%m-%d %H:%M:%S} UTC"
    instance = call.argosy.instances.find(name)
    if not yes and sys.stdin.isatty() and sys.stdout.isatty():
        typer.confirm(f"Put {instance.name} back to {what}{of}, losing what was written since?", abort=True)
    call.argosy.instances.restore(instance.id, **point, users=users.value)
    if wait:
        progress.follow(call, instance, "Restoring", timeout)
    instance = call.argosy.instances.get(instance.id)
    word = f"is what it was at {what}" if wait else f"is being put back to {what}"
    call.out.result(instance, f"{instance.name} {word}.", name=instance.id)
    return 0
