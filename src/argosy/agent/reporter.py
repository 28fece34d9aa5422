"""Tells the conductor how the database server is: at every change, and as a heartbeat in between."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from argosy.rpc.reports import ConductorClient, GuestEvent, GuestReport

log = logging.getLogger(__name__)

HEARTBEAT_S = 10.0
_EVENTS_KEPT = 100


class Reporter:
    """Sends reports, in order, from a thread of its own or at once. What cannot be sent is sent later."""

    def __init__(self, conductor: ConductorClient, describe: Callable[[], GuestReport]) -> None:
        self._conductor = conductor
        self._describe = describe
        self._lock = threading.Lock()
        # Not held while the conductor is told: whoever records does not wait for that.
        self._keeping = threading.Lock()
        self._wake = threading.Event()
        self._ended = False
        self._events: list[GuestEvent] = []
        self._silent = False

    def record(self, kind: str, message: str) -> None:
        """Keep an event until it is told."""
        with self._keeping:
            self._events = [*self._events, GuestEvent(kind=kind, message=message)][-_EVENTS_KEPT:]
        self._wake.set()

    def soon(self) -> None:
        """Report without waiting for the next heartbeat."""
        self._wake.set()

    def now(self) -> bool:
        """Report and return when the conductor has it; False when it cannot be reached."""
        with self._lock:
            report = self._describe()
            # After that: what has led to how it is now is recorded by then, and told with it.
            told = self._events
            # Numbered by the clock, so that a restarted agent goes on counting upwards.
            report = report.model_copy(update={"number": time.time_ns(), "events": told})
            try:
                self._conductor.send(report)
            except OSError as error:
                if not self._silent:
                    log.warning("conductor cannot be reached", extra={"error": str(error)})
                self._silent = True
                return False
            self._silent = False
            with self._keeping:
                self._events = self._events[len(told) :]
            return True

    def run(self) -> None:
        """The reporter's loop, until `end`."""
        while not self._ended:
            told = self.now()
            self._wake.wait(HEARTBEAT_S if told else 1.0)
            self._wake.clear()

    def end(self) -> None:
        self._ended = True
        self._wake.set()
