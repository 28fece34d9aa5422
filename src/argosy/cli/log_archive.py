"""`argosy log-archive`: an instance's log archived continuously, so that it can be restored to any moment."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

import typer

from argosy.cli.call import Call, command
from argosy.cli.instances import PANEL, Name, Timeout, Wait

if TYPE_CHECKING:
    from argosy.client.models import LogArchive, LogWindow


def add_to(app: typer.Typer) -> None:
    group = typer.Typer(
        help="Archive an instance's log continuously, so that it can be restored to any moment.",
        no_args_is_help=True,
    )
    app.add_typer(group, name="log-archive", rich_help_panel=PANEL)
    command(group, "show", examples=("argosy log-archive show shop",))(show)
    command(group, "on", examples=("argosy log-archive on shop",))(on)
    command(group, "off", examples=("argosy log-archive off shop",))(off)
    command(group, "auto", examples=("argosy log-archive auto shop",))(auto)


def show(call: Call, name: Name) -> int:
    """How far the log is archived, what the instance can be restored to by it, and where log was lost."""
    from rich.text import Text

    from argosy.cli.output import ago

    instance = call.argosy.instances.find(name)
    archive = call.argosy.log_archives.get(instance.id)
    lag = None if archive.lag_seconds is None else f"{archive.lag_seconds} s"
    waits = f", {archive.lag_bytes / 2**20:.0f} MB wait" if archive.lag_bytes else ""
    call.out.fields(
        archive,
        {
            "Instance": instance.name,
            "Archiving": _archiving(archive),
            "Since": None if archive.since is None else ago(archive.since),
            "Lag": None if lag is None else f"{lag}{waits}",
            "Error": None if archive.error is None else Text(archive.error, style="red"),
            "Ended": None
            if archive.ended is None
            else f"{_shown(archive.ended)}: {archive.ended_because or ''}",
            "In the store": f"{archive.segments} segments, {archive.size_gb:g} GB",
            "Restorable to": [window_words(one) for one in archive.windows]
            or "nothing yet: it takes a backup, and log after it",
            "Log lost": [
                f"{_shown(gap.since)} to {'the next backup' if gap.until is None else _shown(gap.until)}"
                for gap in archive.gaps
            ],
        },
        name=instance.id,
    )
    return 0


def on(call: Call, name: Name, wait: Wait = True, timeout: Timeout = None) -> int:
    """Archive the log from now on, whatever the instance's schedules. It takes a backup too to restore to a moment."""
    return _switch(call, name, "on", wait=wait, timeout=timeout)


def off(call: Call, name: Name, wait: Wait = True, timeout: Timeout = None) -> int:
    """Archive the log no longer. What is archived stays for as long as its backups."""
    return _switch(call, name, "off", wait=wait, timeout=timeout)


def auto(call: Call, name: Name, wait: Wait = True, timeout: Timeout = None) -> int:
    """Archive the log while the instance is backed up by a schedule, as it is from the beginning."""
    return _switch(call, name, "auto", wait=wait, timeout=timeout)


def window_words(window: LogWindow) -> str:
    return f"{_shown(window.earliest)} to {_shown(window.latest)}"


def _switch(call: Call, name: str, mode: str, *, wait: bool, timeout: float | None) -> int:
    from argosy.cli import progress

    instance = call.argosy.instances.find(name)
    call.argosy.log_archives.switch(instance.id, mode)
    if wait:
        progress.follow(call, instance, "Switching", timeout)
    archive = call.argosy.log_archives.get(instance.id)
    word = "is archived" if archive.archiving else "is not archived"
    call.out.result(archive, f"The log of {instance.name} {word}{'' if wait else ' yet'}.", name=instance.id)
    return 0


def _archiving(archive: LogArchive) -> str:
    by_itself = " (as it is backed up by a schedule, or not)" if archive.mode == "auto" else ""
    return ("yes" if archive.archiving else "no") + by_itself


def _shown(moment: datetime | None) -> str:
    return "the beginning" if moment is None else f"{moment:%Y-%m-%d %H:%M:%S} UTC"
