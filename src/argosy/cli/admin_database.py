"""`argosy admin db`: the metadata database of this host's settings, which need no server to be up."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import typer

from argosy.cli import exits, machine
from argosy.cli.call import Call, command


def add_to(group: typer.Typer) -> None:
    own = typer.Typer(help="The metadata database, as this host's settings name it.", no_args_is_help=True)
    group.add_typer(own, name="db")
    command(own, "status", examples=("argosy admin db status", "argosy admin db status --json"))(status)
    command(own, "upgrade", examples=("argosy admin db upgrade",))(upgrade)


def status(call: Call) -> int:
    """Whether this release may work on its tables, and which task managers live. Ends with 0 when it may, else with 1."""
    done = machine.run(call, ["db", "status"])
    return machine.failed(call, done) if done.returncode != 0 else _tell(call, done)


def upgrade(call: Call) -> int:
    """Bring it to this release, or make its tables. Processes of the release before go on serving meanwhile.

    That of a newer release stays as it is.
    """
    done = machine.run(call, ["db", "upgrade"])
    return machine.failed(call, done) if done.returncode != 0 else _tell(call, done)


def _tell(call: Call, done: subprocess.CompletedProcess[str]) -> int:
    told: dict[str, Any] = json.loads(done.stdout)
    revision = told["revision"] or "none: it is empty"
    if told["before"] != told["revision"]:
        revision += f" (before: {told['before'] or 'empty'})"
    fields: dict[str, Any] = {"revision": revision, "this release has": told["wanted"]}
    if told["oldest"] is not None:
        fields["who may work on it"] = f"processes of revision {told['oldest']} or newer"
    if told["newer"]:
        which = "one may work on it until it is replaced" if told["usable"] else "one is too old for it"
        fields["state"] = f"a newer release's: this {which}"
    for one in told.get("task_managers", []):
        state = "lost" if one["lost"] else f"seen {one['seen_at']}"
        leads = ", leads" if one["id"] == told["leader"] else ""
        fields[f"task manager {one['id']}"] = f"release {one['release'] or 'before'}, {state}{leads}"
    name = "current" if told["current"] else "newer" if told["usable"] else "not current"
    call.out.fields(told, fields, name=name)
    return exits.OK if told["usable"] else exits.FAILED
