"""`argosy backup schedule`: instances that are backed up by themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from argosy.cli.call import Call, command
from argosy.cli.instances import Name

if TYPE_CHECKING:
    from datetime import datetime

    from argosy.client.models import BackupSchedule

Which = Annotated[
    str,
    typer.Argument(metavar="SCHEDULE", help="Its id, or the name of the instance whose only schedule it is."),
]
Cron = Annotated[
    str,
    typer.Option(
        "--cron",
        metavar="WHEN",
        help="hourly, daily, weekly or monthly at a time of night, or a cron expression in UTC: '30 3 * * *'.",
    ),
]
_OFF = "a number, or `off`"


def add_to(group: typer.Typer) -> None:
    """Into the group of `argosy backup`."""
    schedule = typer.Typer(help="Backups that are made by themselves.", no_args_is_help=True)
    group.add_typer(schedule, name="schedule")
    command(
        schedule,
        "create",
        examples=(
            "argosy backup schedule create shop",
            "argosy backup schedule create shop --cron '30 3 * * *' --keep 14 --full-every 7",
            "argosy backup schedule create shop --cron weekly --keep-days 90 --verify-every 30",
        ),
    )(create)
    command(schedule, "list", examples=("argosy backup schedule list",))(list_)
    command(schedule, "show", examples=("argosy backup schedule show shop",))(show)
    command(
        schedule,
        "set",
        examples=(
            "argosy backup schedule set shop --cron '0 1 * * *'",
            "argosy backup schedule set shop --keep 30 --verify-every off",
            "argosy backup schedule set shop --off",
        ),
    )(set_)
    command(schedule, "delete", examples=("argosy backup schedule delete shop",))(delete)


def create(
    call: Call,
    name: Name,
    cron: Cron = "daily",
    full_every: Annotated[
        int | None,
        typer.Option(
            "--full-every",
            metavar="N",
            help="Every N-th backup is a full one, those between are incremental.",
            show_default="7; 1 where there are no incremental backups",
        ),
    ] = None,
    keep: Annotated[
        int | None,
        typer.Option(
            "--keep", metavar="N", help="Keep the N newest.", show_default="7, unless --keep-days is given"
        ),
    ] = None,
    keep_days: Annotated[
        int | None, typer.Option("--keep-days", metavar="DAYS", help="Keep those younger than this.")
    ] = None,
    verify_every: Annotated[
        int | None,
        typer.Option(
            "--verify-every",
            metavar="DAYS",
            help="Have the newest restored and checked so often, in a server that is thrown away.",
        ),
    ] = None,
) -> int:
    """Have an instance backed up by itself. One that has no backup yet gets its first at once."""
    instance = call.argosy.instances.find(name)
    made = call.argosy.backup_schedules.create(
        instance.id,
        cron,
        full_every=full_every,
        keep_last=keep,
        keep_days=keep_days,
        verify_every_days=verify_every,
    )
    call.out.result(
        made, f"{instance.name} is backed up {_when(made)}; the next one {_at(made.next_run)}.", name=made.id
    )
    return 0


def list_(call: Call) -> int:
    """The project's schedules."""
    call.out.table(
        call.argosy.backup_schedules.all(),
        {
            "Instance": lambda each: each.instance_name,
            "When (UTC)": lambda each: each.cron,
            "State": lambda each: each.state,
            "Next": lambda each: _at(each.next_run),
            "Keeps": _keeps,
            "": lambda each: each.last_error,
            "Id": lambda each: each.id,
        },
        name=lambda each: str(each.id),
        optional=("Id", "Keeps"),
        nothing="No instance is backed up by itself. Have one: argosy backup schedule create INSTANCE",
    )
    return 0


def show(call: Call, which: Which) -> int:
    """One schedule: when it runs, what it keeps, and what came of its last run."""
    found = call.argosy.backup_schedules.find(which)
    fields: dict[str, Any] = {
        "Instance": found.instance_name,
        "Id": found.id,
        "State": found.state,
        "When": _when(found),
        "Next": _at(found.next_run),
        "Last": _at(found.last_run),
        "Last backup": found.last_backup_id,
        "Keeps": _keeps(found),
        "Verified": f"every {found.verify_every_days} days" if found.verify_every_days else None,
        "Not made": found.last_error,
        "Attempts": found.attempts or None,
    }
    call.out.fields(found, fields, name=found.id)
    return 0


def set_(
    call: Call,
    which: Which,
    cron: Annotated[
        str | None, typer.Option("--cron", metavar="WHEN", help="As for `create`.", show_default=False)
    ] = None,
    full_every: Annotated[
        int | None, typer.Option("--full-every", metavar="N", help="Every N-th backup is a full one.")
    ] = None,
    keep: Annotated[
        str | None, typer.Option("--keep", metavar="N", help=f"Keep the N newest: {_OFF}.")
    ] = None,
    keep_days: Annotated[
        str | None, typer.Option("--keep-days", metavar="DAYS", help=f"Keep those younger than this: {_OFF}.")
    ] = None,
    verify_every: Annotated[
        str | None,
        typer.Option("--verify-every", metavar="DAYS", help=f"Have the newest proved so often: {_OFF}."),
    ] = None,
    enabled: Annotated[
        bool | None, typer.Option("--on/--off", help="Make backups by it, or none for now.", show_default="")
    ] = None,
) -> int:
    """Change when an instance is backed up, and what is kept."""
    changes: dict[str, Any] = {
        key: value
        for key, value in (("cron", cron), ("full_every", full_every), ("enabled", enabled))
        if value is not None
    }
    for key, option, text in (
        ("keep_last", "--keep", keep),
        ("keep_days", "--keep-days", keep_days),
        ("verify_every_days", "--verify-every", verify_every),
    ):
        if text is not None:
            changes[key] = _number(option, text)
    if not changes:
        raise typer.BadParameter("say what is to change, such as --cron or --keep.")
    found = call.argosy.backup_schedules.find(which)
    now = call.argosy.backup_schedules.change(found.id, **changes)
    call.out.result(
        now,
        f"{now.instance_name} is backed up {_when(now)}, and keeps {_keeps(now)}."
        if now.enabled
        else f"{now.instance_name} is not backed up by this schedule for now.",
        name=now.id,
    )
    return 0


def delete(call: Call, which: Which) -> int:
    """Make no more backups by a schedule. Those it made stay."""
    found = call.argosy.backup_schedules.find(which)
    call.argosy.backup_schedules.delete(found.id)
    call.out.result(
        {"id": found.id}, f"{found.instance_name} is not backed up by this schedule any more.", name=found.id
    )
    return 0


def _number(option: str, text: str) -> int | None:
    """Raises typer.BadParameter."""
    if text.lower() in {"off", "none"}:
        return None
    if not text.isascii() or not text.isdigit():
        raise typer.BadParameter(f"{option}: {_OFF}, not {text!r}.")
    return int(text)


def _when(schedule: BackupSchedule) -> str:
    full = "" if schedule.full_every == 1 else f", every {schedule.full_every}th time in full"
    return f"at '{schedule.cron}' UTC{full}"


def _keeps(schedule: BackupSchedule) -> str:
    kept = [f"the {schedule.keep_last} newest"] if schedule.keep_last else []
    kept += [f"those of {schedule.keep_days} days"] if schedule.keep_days else []
    return " and ".join(kept) or "all"


def _at(at: datetime | None) -> str:
    return "" if at is None else f"{at:%Y-%m-%d %H:%M}"
