"""`argosy backup`: what an instance's data was, kept elsewhere."""

from __future__ import annotations

import typer

from argosy.cli import backup_schedules
from argosy.cli.instances import PANEL


def add_to(app: typer.Typer) -> None:
    group = typer.Typer(help="Backups of instances, and when they are made.", no_args_is_help=True)
    app.add_typer(group, name="backup", rich_help_panel=PANEL)
    backup_schedules.add_to(group)
