"""Which operations or events a request wants to see, and from where on it follows them."""

from __future__ import annotations

from datetime import UTC, datetime

from argosy.api.call import Call
from argosy.domain.errors import Invalid
from argosy.domain.operations import Choice, State

AT_MOST = 20  # values of one parameter
_BIGGEST_ID = 2**31 - 1
_STATES = [state.value for state in State]


def choice_of(call: Call, *, states: bool) -> Choice:
    """Of the query: `instance_id`, `kind`, `since`, and `state` where there are `states`. Raises Invalid.

    An administrator finds one instance's of any project, and else the project's, like its owner.
    """
    instance_id = call.asks("instance_id")
    everybodys = call.caller.is_admin and instance_id is not None
    wanted = _several(call, "state") if states else frozenset()
    for state in sorted(wanted):
        if state not in _STATES:
            raise Invalid(f"Validation error: state {state[:64]!r} must be one of {', '.join(_STATES)}.")
    return Choice(
        project_id=None if everybodys else call.project_id,
        instance_id=instance_id,
        kinds=_several(call, "kind"),
        states=wanted,
        since=_since(call),
    )


def last_seen(call: Call) -> int | None:
    """The `Last-Event-ID` of one who follows again. Raises Invalid unless it is a number that was sent."""
    asked = call.request.headers.get("last-event-id", "").strip()
    if not asked:
        return None
    if not asked.isascii() or not asked.isdigit() or len(asked) > 10 or int(asked) > _BIGGEST_ID:
        raise Invalid("Validation error: Last-Event-ID must be the whole number that a stream sent last.")
    return int(asked)


def _several(call: Call, parameter: str) -> frozenset[str]:
    values = call.asks_all(parameter)
    if len(values) > AT_MOST:
        raise Invalid(f"Validation error: {parameter} may be given {AT_MOST} times at most.")
    return frozenset(values)


def _since(call: Call) -> datetime | None:
    asked = call.asks("since")
    if asked is None:
        return None
    try:
        at = datetime.fromisoformat(asked)
        return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise Invalid(
            "Validation error: since must be a date and time of ISO 8601, such as 2026-08-14T09:30:00Z; "
            "it is in UTC unless it says otherwise."
        ) from error
