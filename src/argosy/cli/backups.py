"""`argosy backup`: what an instance's data was, kept elsewhere."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from argosy.cli import backup_schedules, backup_strategies
from argosy.cli.call import Call, command
from argosy.cli.instances import PANEL, Name, Timeout, Wait

if TYPE_CHECKING:
    from argosy.client.models import Backup

Which = Annotated[str, typer.Argument(metavar="BACKUP", help="The name of a backup, or its id.")]


def add_to(app: typer.Typer) -> None:
    group = typer.Typer(help="Backups of instances, and when they are made.", no_args_is_help=True)
    app.add_typer(group, name="backup", rich_help_panel=PANEL)
    command(
        group,
        "create",
        examples=(
            "argosy backup create shop",
            "argosy backup create shop --name before-release --description 'before 2.0'",
            "argosy backup create shop --incremental",
        ),
    )(create)
    command(
        group,
        "list",
        examples=(
            "argosy backup list",
            "argosy backup list shop",
            "argosy backup list --datastore mariadb -q",
        ),
    )(list_)
    command(group, "show", examples=("argosy backup show before-release",))(show)
    command(
        group,
        "delete",
        examples=("argosy backup delete before-release", "argosy backup delete shop-full --cascade --yes"),
    )(delete)
    command(
        group,
        "verify",
        examples=("argosy backup verify before-release", "argosy backup verify before-release --no-wait"),
    )(verify)
    command(
        group,
        "register",
        examples=(
            "argosy backup register directory:///database_backups/6f0c…/b1d2…/ --name from-the-other-site",
        ),
    )(register)
    backup_schedules.add_to(group)
    backup_strategies.add_to(group)


def create(
    call: Call,
    name: Name,
    called: Annotated[
        str | None,
        typer.Option(
            "--name",
            metavar="BACKUP",
            help="What to call it.",
            show_default="the instance's name and the time",
        ),
    ] = None,
    incremental: Annotated[
        bool,
        typer.Option(
            "--incremental",
            help="Only what has changed since the newest backup; a full one when there is none yet.",
        ),
    ] = False,
    parent: Annotated[
        str | None,
        typer.Option("--parent", metavar="BACKUP", help="Only what has changed since this backup."),
    ] = None,
    description: Annotated[str | None, typer.Option("--description", metavar="TEXT")] = None,
    container: Annotated[
        str | None,
        typer.Option("--container", metavar="NAME", help="Where in the store to keep it."),
    ] = None,
    wait: Wait = True,
    timeout: Timeout = None,
) -> int:
    """Back an instance up, which serves meanwhile: everything in it, and what it is besides (flavor, users, access)."""
    from argosy.cli import progress

    instance = call.argosy.instances.find(name)
    on = None if parent is None else call.argosy.backups.find(parent).id
    made = call.argosy.backups.create(
        instance.id,
        called or f"{instance.name}-{datetime.now(UTC):%Y%m%d-%H%M%S}",
        incremental=incremental or on is not None,
        parent_id=on,
        description=description,
        container=container,
    )
    if wait:
        progress.follow(call, instance, "Backing up", timeout)
        made = call.argosy.backups.get(made.id)
    told = (
        f"{made.name} has {instance.name} as of {_moment(made.consistent_at)}: {_size(made.data_gb)}, "
        f"{_size(made.size_gb)} in the store."
        if wait
        else f"{instance.name} is being backed up: see `argosy backup show {made.name}`."
    )
    call.out.result(made, told, name=made.id)
    return 0


def list_(
    call: Call,
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME]", help="Those of this instance; by its id when it is gone."),
    ] = None,
    datastore: Annotated[
        str | None, typer.Option("--datastore", metavar="NAME", help="Those of this datastore.")
    ] = None,
    all_projects: Annotated[
        bool, typer.Option("--all-projects", help="Those of everybody; for administrators.")
    ] = False,
) -> int:
    """The project's backups, also of instances that are gone; the newest first."""
    there = call.argosy.backups.all(
        None if name is None else _instance_id(call, name), datastore=datastore, all_projects=all_projects
    )
    columns: dict[str, Any] = {
        "Name": lambda each: each.name,
        "Instance": lambda each: each.instance_name or each.instance_id,
        "Datastore": lambda each: f"{each.datastore} {each.version}",
        "Status": lambda each: each.status,
        "Kind": lambda each: each.kind,
        "State of (UTC)": lambda each: _moment(each.consistent_at),
        "Size": lambda each: _size(each.size_gb),
        "Verified": _verified,
        "Id": lambda each: each.id,
    }
    if all_projects:
        columns["Project"] = lambda each: each.project_id
    call.out.table(
        there,
        columns,
        name=lambda each: str(each.id),
        right=("Size",),
        optional=("Id", "Verified", "Datastore", "Kind"),
        nothing="No backups yet. Make one: argosy backup create INSTANCE",
    )
    return 0


def show(call: Call, which: Which) -> int:
    """Everything about one backup: what it holds, and whether it was tried."""
    found = call.argosy.backups.find(which)
    parent = None if found.parent_id is None or call.out.quiet else _name_of(call, found.parent_id)
    fields: dict[str, Any] = {
        "Name": found.name,
        "Id": found.id,
        "Description": found.description,
        "Status": found.status,
        "Failed": found.error,
        "Instance": f"{found.instance_name or ''} ({found.instance_id})".strip(),
        "Datastore": f"{found.datastore} {found.version}",
        "Kind": found.kind,
        "Builds on": parent,
        "State of": _moment(found.consistent_at, zone=True),
        "Data": _size(found.data_gb),
        "Size": f"{_size(found.size_gb)} in the store" if found.size_gb is not None else None,
        "Made by": f"schedule {found.schedule_id}" if found.schedule_id else None,
        "Created": _moment(found.created, zone=True),
        "Completed": _moment(found.completed, zone=True),
        "Verified": _verified(found),
        "Found": found.verification.get("problems"),
        "Not tried": found.verification.get("error"),
        "Location": found.location,
        "Restore": f"argosy create NEW_NAME --from-backup {found.name}" if found.is_usable else None,
    }
    call.out.fields(found, fields, name=found.id)
    return 0


def delete(
    call: Call,
    which: Annotated[list[str], typer.Argument(metavar="BACKUP...", help="Names or ids of backups.")],
    cascade: Annotated[
        bool, typer.Option("--cascade", help="Delete the incremental ones that build on it too.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    wait: Wait = True,
    timeout: Timeout = None,
) -> int:
    """Delete backups for good. At a terminal it asks first."""
    found = [call.argosy.backups.find(each) for each in dict.fromkeys(which)]
    if not yes and sys.stdin.isatty() and sys.stdout.isatty():
        listed = ", ".join(each.name for each in found)
        more = " and all that builds on it" if cascade else ""
        typer.confirm(f"Delete {listed}{more}?", abort=True)
    for each in found:
        call.argosy.backups.delete(each.id, cascade=cascade)
    for each in found:
        if wait:
            call.argosy.backups.wait_until_gone(each.id, timeout)
        word = "deleted" if wait else "being deleted"
        if not call.out.as_json:
            call.out.result(None, f"{each.name} is {word}.", name=each.id)
    if call.out.as_json:
        call.out.json([{"id": each.id, "name": each.name, "deleted": wait} for each in found])
    return 0


def verify(call: Call, which: Which, wait: Wait = True, timeout: Timeout = None) -> int:
    """Prove a backup: restore it into a server that is thrown away, and have its data checked there."""
    from argosy.cli import progress
    from argosy.cli.output import span_of

    found = call.argosy.backups.find(which)
    operation = call.argosy.operations.get(call.argosy.backups.verify(found.id))
    if not wait:
        call.out.result(
            {"id": found.id, "operation_id": operation.id},
            f"{found.name} is being verified: see `argosy backup show {found.name}`.",
            name=found.id,
        )
        return 0
    progress.watch(call, call.argosy.operations.watch(operation, timeout), "Verifying", found.name)
    proved = call.argosy.backups.get(found.id)
    call.out.result(
        proved,
        f"{proved.name} is good: restored in {span_of(proved.restore_seconds or 0)}, and its data is whole.",
        name=proved.id,
    )
    return 0


def register(
    call: Call,
    location: Annotated[
        str, typer.Argument(metavar="LOCATION", help="As `backup show` tells it where the backup was made.")
    ],
    called: Annotated[str, typer.Option("--name", metavar="BACKUP", help="What to call it.")],
    description: Annotated[str | None, typer.Option("--description", metavar="TEXT")] = None,
) -> int:
    """Know a backup that lies in the store, but was made by another Argosy with the same keys, or is forgotten here.

    It is restored like any other. Deleting it here leaves it in the store.
    """
    made = call.argosy.backups.register(called, location, description=description)
    call.out.result(
        made,
        f"{made.name} has {made.instance_name or made.instance_id} as of {_moment(made.consistent_at)}.",
        name=made.id,
    )
    return 0


def _instance_id(call: Call, name: str) -> str:
    """Its id as it is: the instance may be gone."""
    from argosy.client.instances import is_id

    return name if is_id(name) else call.argosy.instances.find(name).id


def _name_of(call: Call, backup_id: str) -> str:
    from argosy.client.errors import NotFound

    try:
        return f"{call.argosy.backups.get(backup_id).name} ({backup_id})"
    except NotFound:
        return backup_id


def _verified(backup: Backup) -> str:
    from argosy.cli.output import ago, span_of

    if backup.verified is None:
        return ""
    took = "" if backup.restore_seconds is None else f", restored in {span_of(backup.restore_seconds)}"
    return f"{'yes' if backup.verified else 'FAILED'}, {ago(backup.last_verified)}{took}"


def _moment(at: datetime | None, *, zone: bool = False) -> str:
    return "" if at is None else f"{at:%Y-%m-%d %H:%M:%S}" + (" UTC" if zone else "")


def _size(size_gb: float | None) -> str:
    """In the unit that has a few digits of it."""
    if size_gb is None:
        return ""
    size, unit = size_gb * 2**20, "kB"
    for larger in ("MB", "GB"):
        if size >= 1000:
            size, unit = size / 1024, larger
    return f"{size:.3g} {unit}"
