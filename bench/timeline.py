"""Where the time of one create went, told by what each part wrote down while it worked.

The workflow's steps have their times in the metadata database, the agent's log has its moments, and two files
are written the moment a process starts. All clocks are this machine's.
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

PHASES = (
    "POST answered",
    "waiting in the queue",
    "software looked at, address reserved",
    "certificates made, agent started",
    "volume made and mounted (the agent boots meanwhile)",
    "rest of the agent's boot",
    "agent found to be up",
    "data directory made, server configured",
    "server up and answering the agent",
    "database and user made, client's query",
)


@dataclass(frozen=True)
class Breakdown:
    """Seconds, phase after phase, from the POST to the client's first query; and from the POST to two other ends."""

    phases: tuple[float, ...]
    agent_boot: float
    active: float


@dataclass(frozen=True)
class _Step:
    name: str
    began: float
    ended: float


def read(home: Path, instance_id: str, *, posted: float, answered: float, queried: float) -> Breakdown:
    """Of a create that has succeeded and whose instance is still there; times in seconds since 1970."""
    place = home / "instances" / instance_id
    operation_ended, steps = _steps(home / "argosy.db", instance_id)
    said = _log(place / "logs" / "agent.log")
    marks = (
        answered,
        steps[0].began,
        _first(steps, "servers.boot").began,
        _first(steps, "servers.boot").ended,
        _first(steps, "servers.note_limits").ended,
        said["agent serves"],
        _reached(steps, said["agent serves"]).began,
        (place / "sockets" / "server.json").stat().st_mtime,
        said["service changed"],
        queried,
    )
    phases, reached = [], posted
    for mark in marks:
        # Some moments may come before the one they follow here, such as the agent's while the volume is made.
        phases.append(max(0.0, mark - reached))
        reached = max(reached, mark)
    started = (place / "agent.json").stat().st_mtime
    return Breakdown(tuple(phases), said["agent serves"] - started, operation_ended - posted)


def _steps(database: Path, instance_id: str) -> tuple[float, list[_Step]]:
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        operation_id, ended_at = connection.execute(
            "SELECT id, ended_at FROM operations WHERE instance_id = ? AND kind = 'instance.create'",
            (instance_id,),
        ).fetchone()
        rows = connection.execute(
            "SELECT function_name, started_at_epoch_ms, completed_at_epoch_ms FROM operation_outputs"
            " WHERE workflow_uuid = ? ORDER BY function_id",
            (operation_id,),
        ).fetchall()
    ended = datetime.fromisoformat(ended_at).replace(tzinfo=UTC).timestamp()
    return ended, [_Step(name, began / 1000, completed / 1000) for name, began, completed in rows]


def _first(steps: list[_Step], name: str) -> _Step:
    return next(step for step in steps if step.name == name)


def _reached(steps: list[_Step], serves: float) -> _Step:
    """The first call that the agent took: those before were refused, those after only ask again."""
    return next(step for step in steps if step.name == "guest.prepare" and step.ended >= serves)


def _log(file: Path) -> dict[str, float]:
    """When each event was first logged; a change of service counts when it has come up."""
    found: dict[str, float] = {}
    for line in file.read_text(errors="replace").splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if entry["event"] != "service changed" or entry.get("now") == "healthy":
            found.setdefault(entry["event"], datetime.fromisoformat(entry["timestamp"]).timestamp())
    return found
