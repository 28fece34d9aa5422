"""The `argosy` command, put together."""

from __future__ import annotations

import typer

from argosy.cli import (
    access,
    admin,
    backups,
    catalog,
    configurations,
    connect,
    databases,
    dumps,
    guests,
    history,
    image,
    instances,
    life,
    log_archive,
    logs,
    machine,
    parameters,
    quota,
    restore,
    root,
    upgrades,
    users,
)

app = typer.Typer(
    name="argosy",
    help="Databases as a service: PostgreSQL, MariaDB, Valkey and Redis servers, made and looked after for you.",
    epilog="Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not found, 4 busy or conflict, 5 not allowed, "
    "6 no server reached, 7 timed out. More in docs/cli.md.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

for part in (
    machine,
    instances,
    life,
    upgrades,
    access,
    connect,
    databases,
    dumps,
    users,
    root,
    configurations,
    parameters,
    backups,
    restore,
    log_archive,
    logs,
    history,
    catalog,
    quota,
    image,
    admin,
    guests,
):
    part.add_to(app)


def main() -> None:
    app(prog_name="argosy")
