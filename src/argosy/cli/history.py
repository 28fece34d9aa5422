"""`argosy operations` and `argosy events`: what was asked for, and what happened."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from argosy.cli.call import Call, command

if TYPE_CHECKING:
    from argosy.client.models import Event, Operation

PANEL = "History"
Name = Annotated[
    str | None,
    typer.Argument(metavar="[NAME]", help="Of this instance only: its name or id.", show_default=False),
]
AtMost = Annotated[
    int, typer.Option("--limit", "-n", metavar="N", min=1, help="So many at most, newest first.")
]


Kind = Annotated[
    list[str] | None,
    typer.Option("--kind", metavar="KIND", help="Of this kind, such as instance.create; repeatable."),
]
Since = Annotated[
    str | None,
    typer.Option(
        "--since",
        metavar="WHEN",
        help="From then on: 30min, 2h, 3d, or a date and time in UTC.",
        show_default=False,
    ),
]
Follow = Annotated[
    bool, typer.Option("--follow", "-f", help="Go on with what comes, a line each, until Ctrl-C.")
]
_UNITS_S = {"s": 1, "min": 60, "h": 3600, "d": 86400}


def add_to(app: typer.Typer) -> None:
    command(
        app,
        "operations",
        panel=PANEL,
        examples=(
            "argosy operations shop -n 5",
            "argosy operations --state failed --since 2d",
            "argosy operations --follow",
        ),
    )(operations)
    command(
        app,
        "events",
        panel=PANEL,
        examples=("argosy events shop", "argosy events --json --since 2h", "argosy events --follow"),
    )(events)


def operations(
    call: Call,
    name: Name = None,
    at_most: AtMost = 20,
    state: Annotated[
        list[str] | None,
        typer.Option("--state", metavar="STATE", help="queued, running, succeeded or failed; repeatable."),
    ] = None,
    kind: Kind = None,
    since: Since = None,
    follow: Follow = False,
) -> int:
    """What was asked for that takes time, how far it is, and why it failed."""
    from argosy.cli.output import ago

    of, chosen = _instance_id(call, name), _time(since)
    if follow:
        live = call.argosy.operations.live(of, at_most, kinds=kind or (), states=state or (), since=chosen)
        return _follow(call, live, _operation_line)
    call.out.table(
        call.argosy.operations.recent(of, at_most, kinds=kind or (), states=state or (), since=chosen),
        {
            "Instance": lambda each: each.instance_name,
            "Operation": lambda each: each.kind,
            "State": lambda each: each.state,
            "": _how_far,
            "By": lambda each: each.requested_by,
            "Asked": lambda each: ago(each.created),
            "Took": _took,
        },
        name=lambda each: str(each.id),
        optional=("By", "Took"),
        nothing="No operations yet.",
    )
    return 0


def events(
    call: Call,
    name: Name = None,
    at_most: AtMost = 20,
    kind: Kind = None,
    since: Since = None,
    follow: Follow = False,
) -> int:
    """What happened to instances: when, what, by whom."""
    from argosy.cli.output import ago

    of, chosen = _instance_id(call, name), _time(since)
    if follow:
        live = call.argosy.events.live(of, at_most, kinds=kind or (), since=chosen)
        return _follow(call, live, _event_line)
    call.out.table(
        call.argosy.events.recent(of, at_most, kinds=kind or (), since=chosen),
        {
            "When": lambda each: ago(each.at),
            "Instance": lambda each: each.instance_name,
            "Event": lambda each: each.kind,
            "Message": lambda each: each.message,
            "By": lambda each: each.actor,
        },
        name=lambda each: str(each.id),
        optional=("By",),
        nothing="No events yet.",
    )
    return 0


def _instance_id(call: Call, name: str | None) -> str | None:
    """An id is taken as it is: history outlives its instance. So does a name, for a while."""
    from argosy.client.errors import NotFound
    from argosy.client.instances import is_id

    if name is None or is_id(name):
        return name
    try:
        return call.argosy.instances.find(name).id
    except NotFound as unknown:
        try:
            return call.argosy.instances.find_deleted(name).id
        except NotFound:
            raise unknown from None


def _time(since: str | None) -> datetime | None:
    """`2h` ago, or a date and time. Raises typer.BadParameter."""
    if since is None:
        return None
    span = re.fullmatch(r"(\d{1,6})(s|min|h|d)", since, re.ASCII)
    if span:
        return datetime.now(UTC) - timedelta(seconds=int(span[1]) * _UNITS_S[span[2]])
    try:
        at = datetime.fromisoformat(since)
        return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise typer.BadParameter(
            f"--since {since!r} is neither a span such as 30min, 2h, 3d nor a date and time such as "
            "2026-08-14T09:30."
        ) from error


def _follow(call: Call, live: Iterable[Any], line: Callable[[Any], str]) -> int:
    """A line each, at once: JSON for programs, an id for scripts."""
    from argosy.cli.output import plain

    for each in live:
        if call.out.as_json:
            print(json.dumps(plain(each), ensure_ascii=False), flush=True)
        else:
            print(each.id if call.out.quiet else line(each), flush=True)
    return 0


def _operation_line(operation: Operation) -> str:
    at = operation.ended or operation.started or operation.created
    what = f"{operation.kind} {operation.state}"
    return _line(at, operation.instance_name, what, _how_far(operation), operation.requested_by)


def _event_line(event: Event) -> str:
    return _line(event.at, event.instance_name, event.kind, event.message, event.actor)


def _line(at: datetime | None, name: str | None, what: str, words: str, by: str) -> str:
    said = f": {' '.join(words.split())}" if words else ""
    return f"{at:%Y-%m-%d %H:%M:%S}  {name or '-'}  {what}{said}  ({by})"


def _how_far(operation: Operation) -> str:
    if operation.state == "running":
        return f"{operation.step}/{operation.steps} {operation.doing}"
    return operation.error or (operation.doing if operation.state == "queued" else "")


def _took(operation: Operation) -> str:
    if operation.ended is None or operation.created is None:
        return ""
    from argosy.cli.output import span_of

    return span_of((operation.ended - operation.created).total_seconds())
