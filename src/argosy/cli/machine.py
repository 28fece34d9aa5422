"""`argosy up`, `status`, `down`, `serve`: the Argosy of this machine, as processes of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer

from argosy.cli import homes
from argosy.cli.call import Call, command

PANEL = "This machine"
_PARTS = ("api", "conductor", "taskmanager")


def add_to(app: typer.Typer) -> None:
    command(
        app,
        "up",
        panel=PANEL,
        examples=("argosy up --detach", "argosy up --home ~/databases --listen 127.0.0.1:9000"),
    )(up)
    command(app, "status", panel=PANEL, examples=("argosy status", "argosy status --json"))(status)
    command(app, "down", panel=PANEL, examples=("argosy down", "argosy down --all"))(down)
    command(app, "serve", panel=PANEL, examples=("argosy serve api", "argosy serve taskmanager"))(serve)


def up(
    call: Call,
    listen: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="Where the API listens; 127.0.0.1:8779 unless configured."),
    ] = None,
    detach: Annotated[bool, typer.Option(help="Return when it is ready, and leave it running.")] = False,
) -> int:
    """Start Argosy: api, conductor and task manager. What was in its home is there again.

    Databases that were stopped with `down --all` are started again.
    """
    arguments = ["up", *(["--listen", listen] if listen else []), *(["--detach"] if detach else [])]
    if not detach:
        _become(call, arguments)
    done = run(call, arguments)
    if done.returncode == 0:
        if call.out.as_json:
            call.out.json(_status(call))
        elif not call.out.quiet:
            print(done.stdout.rstrip())
            # Its own cloud is the home's; one of Keystone's is the user's to name.
            where = "" if homes.has_keystone(call.home) else call.named_home
            print(f"  Next       argosy create shop --datastore postgresql --database shop --user ann{where}")
        return 0
    return failed(call, done)


def status(call: Call) -> int:
    """Which parts of this machine's Argosy run, where they are reached, and how many instances there are.

    Ends with 0 when the API is up, else with 6.
    """
    from argosy.cli import exits
    from argosy.client import ClientError

    shown = _status(call)
    fields: dict[str, Any] = {"home": shown["home"]}
    for part in _PARTS:
        pid = shown["parts"][part]
        fields[part] = "not running" if pid is None else f"running, process {pid}"
    if shown["running"]:
        try:
            there = call.argosy.instances.all()
        except ClientError as error:
            fields["instances"] = error.sentence
        else:
            shown["instances"] = dict(Counter(each.state for each in there))
            counts = (f"{count} {state}" for state, count in shown["instances"].items())
            fields["instances"] = ", ".join(counts) or "none yet"
        fields["endpoint"] = shown["endpoint"]
        fields["docs"] = shown["docs"]
    call.out.fields(shown, fields, name="running" if shown["running"] else "stopped")
    return exits.OK if shown["running"] else exits.UNREACHABLE


def down(
    call: Call,
    databases_too: Annotated[bool, typer.Option("--all", help="Stop the databases too.")] = False,
) -> int:
    """Stop Argosy on this machine. Databases keep serving, unless --all stops them too; nothing is lost."""
    done = run(call, ["down", *(["--all"] if databases_too else [])])
    if done.returncode != 0:
        return failed(call, done)
    if call.out.as_json:
        call.out.json(_status(call))
    elif not call.out.quiet:
        print(done.stdout.rstrip())
    return 0


def serve(
    call: Call, part: Annotated[str, typer.Argument(metavar="PART", help="api, conductor or taskmanager.")]
) -> int:
    """Run one part of Argosy as a process of its own, in the foreground."""
    if part not in _PARTS:
        raise typer.BadParameter(f"choose one of {', '.join(_PARTS)}.", param_hint="PART")
    _become(call, ["serve", part])
    return 0


def _arguments(call: Call, arguments: list[str]) -> list[str]:
    # Without -P a directory named argosy in the working directory would be run instead.
    return [sys.executable, "-P", "-m", "argosy.processes", *arguments, "--home", str(call.home)]


def _become(call: Call, arguments: list[str]) -> None:
    program = _arguments(call, arguments)
    os.execv(program[0], program)  # noqa: S606 - no shell is what we want


def run(call: Call, arguments: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(_arguments(call, arguments), capture_output=True, text=True, check=False)


def failed(call: Call, done: subprocess.CompletedProcess[str]) -> int:
    from argosy.cli import exits

    call.out.failure(done.stderr.strip().removeprefix("argosy: "), "process-failed")
    return exits.FAILED


def _status(call: Call) -> dict[str, Any]:
    """Keys are stable: home, running, endpoint, docs, clouds, parts with the process id of each or null."""
    done = run(call, ["status"])
    said = json.loads(done.stdout) if done.returncode == 0 else {}
    endpoint = (said.get("api") or {}).get("endpoint") or _endpoint(call.home)
    return {
        "home": str(call.home),
        "running": bool((said.get("api") or {}).get("ready")),
        "endpoint": endpoint,
        "docs": endpoint and f"{endpoint}/docs",
        "clouds": None if homes.has_keystone(call.home) else str(call.home / "clouds.yaml"),
        "parts": {part: (said.get(part) or {}).get("pid") for part in _PARTS},
    }


def _endpoint(home: Path) -> str | None:
    from argosy.client import ClientError, clouds

    try:
        return clouds.named("argosy", [home / "clouds.yaml"]).auth_url.removesuffix("/identity/v3")
    except ClientError:
        return None
