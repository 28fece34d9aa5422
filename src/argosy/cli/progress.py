"""Waiting in view of the person: a live line at a terminal, plain lines elsewhere, both on stderr."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from argosy.cli.call import Call
from argosy.client.models import Instance, Operation


def follow(call: Call, instance: Instance, verb: str, timeout_s: float | None) -> None:
    """Wait for the instance's latest operation; raises its failure, or TimedOut."""
    watch(call, call.argosy.operations.follow(instance.id, timeout_s), verb, instance.name)


def watch(call: Call, seen: Iterable[Operation], verb: str, name: str) -> None:
    if call.out.quiet:
        for _ in seen:
            pass
    elif sys.stderr.isatty():
        _live(seen, f"{verb} {name}")
    else:
        for operation in seen:
            if not operation.has_ended:
                print(_line(name, operation), file=sys.stderr, flush=True)


def _line(name: str, operation: Operation) -> str:
    step = f"[{operation.step}/{operation.steps}] " if operation.steps else ""
    return f"{name}: {step}{operation.doing or operation.state}"


def _live(seen: Iterable[Operation], heading: str) -> None:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    with Progress(
        SpinnerColumn(),
        TextColumn("{task.fields[heading]}", style="bold", markup=False),
        BarColumn(bar_width=18),
        TextColumn("{task.fields[step]}"),
        TextColumn("{task.fields[doing]}", markup=False),
        TimeElapsedColumn(),
        console=Console(stderr=True, highlight=False),
        transient=True,
    ) as progress:
        task = progress.add_task("", total=None, heading=heading, step="", doing="")
        for operation in seen:
            progress.update(
                task,
                total=operation.steps or None,
                # A step that is under way is not done yet.
                completed=operation.steps if operation.has_ended else max(operation.step - 1, 0),
                step=f"{operation.step}/{operation.steps}" if operation.steps else "",
                doing=operation.doing,
            )
