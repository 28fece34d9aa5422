"""`argosy logs`: what an instance's server writes, live; and its switches."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from argosy.cli.call import Call, command
from argosy.cli.instances import PANEL, Name

if TYPE_CHECKING:
    from argosy.client.logs import Log

_KNOWN = ("general", "slow_query", "audit", "error", "guest")


def add_to(app: typer.Typer) -> None:
    command(
        app,
        "logs",
        panel=PANEL,
        examples=(
            "argosy logs shop -f",
            "argosy logs shop --log slow -n 20",
            "argosy logs shop --list",
            "argosy logs shop --log general --enable",
        ),
    )(logs)


def logs(
    call: Call,
    name: Name,
    log: Annotated[
        str, typer.Option("--log", "-l", metavar="LOG", help="Which one; the first letters are enough.")
    ] = "error",
    lines: Annotated[int, typer.Option("-n", "--lines", metavar="N", min=0, help="The last so many.")] = 100,
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on with what is written.")] = False,
    list_: Annotated[bool, typer.Option("--list", help="Which logs there are.")] = False,
    enable: Annotated[bool, typer.Option("--enable", help="Switch it on.")] = False,
    disable: Annotated[bool, typer.Option("--disable", help="Switch it off.")] = False,
    publish: Annotated[bool, typer.Option("--publish", help="Put it into the object store.")] = False,
    discard: Annotated[bool, typer.Option("--discard", help="Delete what is published.")] = False,
) -> int:
    """Print the last lines of an instance's log, and follow it; or list, switch and publish its logs."""
    instance = call.argosy.instances.find(name)
    if list_:
        return _list(call, instance.id)
    chosen = _chosen(log)
    if enable or disable or publish or discard:
        found = call.argosy.logs.act(
            instance.id, chosen, enable=enable, disable=disable, publish=publish, discard=discard
        )
        call.out.result(found, f"The log {chosen} of {instance.name}: {_told(found)}.", name=chosen)
        return 0
    reader = call.argosy.logs.follow if follow else call.argosy.logs.read
    try:
        for text in reader(instance.id, chosen, lines):
            _print(text)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read has enough, as `head` does; nor is there anybody to flush for.
        sys.stdout = None  # what Python looks at when it ends
    return 0


def _list(call: Call, instance_id: str) -> int:
    call.out.table(
        call.argosy.logs.all(instance_id),
        {
            "Log": lambda each: each.name,
            "Status": lambda each: each.status,
            "Published": lambda each: each.published,
            "Pending": lambda each: each.pending,
        },
        name=lambda each: str(each.name),
        right=("Published", "Pending"),
        nothing="There are no logs for you; the server's own is always there: argosy logs NAME",
    )
    return 0


def _chosen(asked: str) -> str:
    """A log by its first letters; what nobody knows is left for the server to refuse."""
    found = [each for each in _KNOWN if each.startswith(asked)]
    return found[0] if len(found) == 1 else asked


def _told(log: Log) -> str:
    return f"{log.status}, {log.published} bytes published, {log.pending} more to publish"


def _print(text: str) -> None:
    if sys.stdout.isatty():
        # What users write into a database's log must not steer the terminal of who reads it.
        text = "".join(each if each.isprintable() or each in "\n\t" else "�" for each in text)
    sys.stdout.write(text)
    sys.stdout.flush()
