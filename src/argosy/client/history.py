"""Operations and events: what was asked for, how far it is, what happened."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from argosy.client.errors import NotFound, OperationFailed, TimedOut
from argosy.client.models import Event, Operation
from argosy.client.session import Session

# Between two looks at a running operation; the first are close together since most take a second.
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 1.0


class Operations:
    def __init__(self, session: Session) -> None:
        self._session = session

    def recent(
        self,
        instance_id: str | None = None,
        at_most: int = 20,
        *,
        kinds: Sequence[str] = (),
        states: Sequence[str] = (),
        since: datetime | None = None,
    ) -> list[Operation]:
        """Newest first; those of an instance that is gone are kept."""
        query = _query(instance_id, kinds, states, since)
        pages = self._session.pages("/operations", "operations", limit=min(at_most, 100), **query)
        return [Operation.read(shown) for shown in islice(pages, at_most)]

    def live(
        self,
        instance_id: str | None = None,
        at_most: int = 20,
        *,
        kinds: Sequence[str] = (),
        states: Sequence[str] = (),
        since: datetime | None = None,
    ) -> Iterator[Operation]:
        """Those recent, oldest first, and then, for ever, each that changes, as it is then."""
        stream = self._session.stream("/operations/stream", **_query(instance_id, kinds, states, None))
        next(stream)
        listed = self.recent(instance_id, at_most, kinds=kinds, states=states, since=since)
        yield from reversed(listed)
        # What changed meanwhile is in the list as it was last, and told again as it was before.
        known = {each.id: each for each in listed}
        for event in stream:
            if event.data is None:
                continue
            told = Operation.read(event.data)
            before = known.get(told.id)
            if before is not None and (before.has_ended or before == told or told.step < before.step):
                continue
            known.pop(told.id, None)
            yield told

    def get(self, operation_id: str) -> Operation:
        return Operation.read(self._session.get(f"/operations/{operation_id}")["operation"])

    def latest(self, instance_id: str) -> Operation:
        """The last that was begun. After a request that began one, this is it: an instance has one at a time."""
        newest = self.recent(instance_id, at_most=1)
        if not newest:
            raise NotFound(f"Instance {instance_id} had no operation yet.")
        return newest[0]

    def follow(self, instance_id: str, timeout_s: float | None = None) -> Iterator[Operation]:
        """The instance's latest operation, as `watch` tells of it."""
        return self.watch(self.latest(instance_id), timeout_s)

    def watch(self, operation: Operation, timeout_s: float | None = None) -> Iterator[Operation]:
        """An operation now and each time it changed, up to its success.

        Raises OperationFailed with its reason, or TimedOut while it still goes on.
        """
        began = time.monotonic()
        seen = operation
        yield seen
        pause_s = _FIRST_PAUSE_S
        while not seen.has_ended:
            if timeout_s is not None and time.monotonic() - began > timeout_s:
                raise TimedOut(
                    f"Not done after {timeout_s:.0f} s, and going on: {seen.doing or seen.state}. "
                    "`argosy operations` tells how it ends."
                )
            time.sleep(pause_s)
            now = self.get(seen.id)
            if now == seen:
                pause_s = min(pause_s * 1.5, _LONGEST_PAUSE_S)
                continue
            seen, pause_s = now, _FIRST_PAUSE_S
            yield seen
        if seen.state == "failed":
            raise OperationFailed(seen.error or "It failed.", code=seen.error_code)


class Events:
    def __init__(self, session: Session) -> None:
        self._session = session

    def recent(
        self,
        instance_id: str | None = None,
        at_most: int = 20,
        *,
        kinds: Sequence[str] = (),
        since: datetime | None = None,
    ) -> list[Event]:
        """Newest first."""
        query = _query(instance_id, kinds, (), since)
        pages = self._session.pages("/events", "events", limit=min(at_most, 100), **query)
        return [Event.read(shown) for shown in islice(pages, at_most)]

    def live(
        self,
        instance_id: str | None = None,
        at_most: int = 20,
        *,
        kinds: Sequence[str] = (),
        since: datetime | None = None,
    ) -> Iterator[Event]:
        """Those recent, oldest first, and then, for ever, each that happens; none twice."""
        stream = self._session.stream("/events/stream", **_query(instance_id, kinds, (), None))
        next(stream)
        listed = self.recent(instance_id, at_most, kinds=kinds, since=since)
        yield from reversed(listed)
        known = {each.id for each in listed}
        for event in stream:
            if event.data is not None and event.data["id"] not in known:
                yield Event.read(event.data)


def _query(
    instance_id: str | None, kinds: Sequence[str], states: Sequence[str], since: datetime | None
) -> dict[str, Any]:
    """What chooses among operations or events, without what is not asked."""
    asked: dict[str, Any] = {
        "instance_id": instance_id,
        "kind": list(kinds),
        "state": list(states),
        "since": None if since is None else since.astimezone(UTC).isoformat(),
    }
    return {key: value for key, value in asked.items() if value}
