"""Operations and events: what was asked for, how far it is, what happened."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import islice

from argosy.client.errors import NotFound, OperationFailed, TimedOut
from argosy.client.models import Event, Operation
from argosy.client.session import Session

# Between two looks at a running operation; the first are close together since most take a second.
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 1.0


class Operations:
    def __init__(self, session: Session) -> None:
        self._session = session

    def recent(self, instance_id: str | None = None, at_most: int = 20) -> list[Operation]:
        """Newest first; those of an instance that is gone are kept."""
        pages = self._session.pages(
            "/operations", "operations", instance_id=instance_id, limit=min(at_most, 100)
        )
        return [Operation.read(shown) for shown in islice(pages, at_most)]

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

    def recent(self, instance_id: str | None = None, at_most: int = 20) -> list[Event]:
        """Newest first."""
        pages = self._session.pages("/events", "events", instance_id=instance_id, limit=min(at_most, 100))
        return [Event.read(shown) for shown in islice(pages, at_most)]
