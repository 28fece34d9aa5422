"""Keeps the database server as it is wanted: up, restarted when it dies, or stopped.

What is wanted is kept in a file, so that an agent that was killed goes on where it stood. The server
itself runs in a session of its own and does not notice.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from enum import StrEnum
from pathlib import Path

from argosy.domain.errors import ArgosyError, EngineError
from argosy.domain.status import Service
from argosy.engines import layers, upgrades
from argosy.engines.base import Configurable, Engine, Health, MindsRoom

log = logging.getLogger(__name__)

CHECK_EVERY_S = 2.0
BACK_OFF_S = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
# A server that dies this often within this time does not stay up: shown as crashed while we go on trying.
CRASHES, WITHIN_S = 4, 60.0
# Somebody who has the server in hand may have it for long.
_IN_HAND_S = 0.1

_SERVICE = {Health.UP: Service.HEALTHY, Health.STARTING: Service.STARTING, Health.BLOCKED: Service.BLOCKED}


class Wanted(StrEnum):
    NOTHING = "nothing"
    RUNNING = "running"
    STOPPED = "stopped"


class Supervisor:
    """One engine's keeper. `changed` is called when the service changes, `record` with what happened."""

    def __init__(
        self,
        engine: Engine,
        wanted: Path,
        *,
        changed: Callable[[], None],
        record: Callable[[str, str], None],
        besides: Callable[[], None] = lambda: None,
    ) -> None:
        """`besides` is done at every turn of the keeper's loop."""
        self._engine = engine
        self._wanted_file = wanted
        self._changed = changed
        self._record = record
        self._besides = besides
        self._lock = threading.RLock()
        self._ended = threading.Event()
        self._paused = False
        self._died_at: deque[float] = deque(maxlen=CRASHES)
        self._failed_starts = 0
        self._last_words = ""
        self.service = Service.NEW

    @property
    def wanted(self) -> Wanted:
        try:
            return Wanted(self._wanted_file.read_text().strip())
        except (OSError, ValueError):
            return Wanted.NOTHING

    def start(self) -> None:
        """Bring the server up, now and whenever it dies. Raises EngineError when it does not come up."""
        with self._lock:
            self._want(Wanted.RUNNING)
            self._paused = False
            try:
                self._bring_up()
                self._died_at.clear()
                self._failed_starts = 0
            finally:
                self.check()

    def stop(self, *, pause: bool = False) -> None:
        """Take the server down cleanly, and leave it down; to `pause` is until it is started, or this agent's next life."""
        with self._lock:
            if pause:
                self._paused = True
            else:
                self._want(Wanted.STOPPED)
            self._engine.stop()
            self.check()

    def restart(self) -> float:
        """Returns for how many seconds the server was away."""
        with self._lock:
            began = time.monotonic()
            self._engine.stop()
            self.start()
            return time.monotonic() - began

    def look(self) -> None:
        """Look at the server now, and start one that died without waiting any longer."""
        with self._lock:
            self._tend()

    def hand_over(self, work: Callable[[], None]) -> None:
        """Stop the server, do the work, and leave it stopped as after a pause.

        When the work fails the server is started again, and this agent goes on keeping it.
        """
        with self._lock:
            self._engine.stop()
            self.check()
            try:
                work()
            except BaseException:
                self.start()
                raise
            self._paused = True

    def exchange(self, work: Callable[[], None], undo: Callable[[], None]) -> None:
        """Stop the server, do the work, and start it; when it does not start, undo the work and start it as it was.

        Raises why it did not.
        """
        with self._lock:
            self._engine.stop()
            self.check()
            work()
            try:
                self.start()
            except BaseException:
                self._engine.stop()
                undo()
                with suppress(ArgosyError):
                    self.start()
                raise

    def give_up(self, work: Callable[[], None]) -> None:
        """Do the work, and if it does not fail, stop the server and leave it stopped as after a pause."""
        with self._lock:
            work()
            self._paused = True
            self._engine.stop()
            self.check()

    def check(self) -> None:
        """Look at the server and say so when it changed."""
        seen = self._look()
        if seen is not self.service:
            log.info("service changed", extra={"before": self.service.value, "now": seen.value})
            if seen is Service.CRASHED:
                self._record("server.crashed", f"The database server does not stay up: {self._last_words}")
            self.service = seen
            self._changed()

    def run(self) -> None:
        """The keeper's loop, until `end`."""
        # Calls are answered already: what one of them has done since is not told as it was before.
        with self._lock:
            # A server that an earlier agent left running is known from now on, so that its death is one.
            self.check()
            if self._engine.server.pid is not None:
                upgrades.adopted(self._engine.host)
        self._settle()
        while not self._ended.is_set():
            if self.wanted is Wanted.RUNNING and self._engine.server.pid is not None:
                # Wakes the moment the server dies.
                self._engine.server.wait(CHECK_EVERY_S)
            else:
                self._ended.wait(self._pause())
            if self._lock.acquire(blocking=False):
                try:
                    self._tend()
                finally:
                    self._lock.release()
            else:
                # Of a server that is down on purpose the loop's pause is no pause.
                self._ended.wait(_IN_HAND_S)
            self._besides()

    def end(self) -> None:
        self._ended.set()

    def _tend(self) -> None:
        if self._ended.is_set() or self._paused:
            return
        if self.wanted is Wanted.RUNNING and self._engine.server.pid is None:
            if self.service in (Service.HEALTHY, Service.BLOCKED):
                self._died_at.append(time.monotonic())
                self._last_words = self._engine.server.log_tail(3)
                self._record(
                    "server.died",
                    f"The database server died and is started again. Its last words: {self._last_words}",
                )
                log.error("server died", extra={"log_tail": self._last_words})
                self.check()
            self._revive()
        if isinstance(self._engine, MindsRoom) and self._engine.server.pid is not None:
            with suppress(ArgosyError, OSError):
                self._engine.mind_room()
        self.check()

    def _revive(self) -> None:
        died = self._engine.server.died
        try:
            self._bring_up()
        except ArgosyError as error:
            self._failed_starts += 1
            self._last_words = error.sentence
            log.warning(
                "server does not start", extra={"attempt": self._failed_starts, "error": error.sentence}
            )
        else:
            self._failed_starts = 0
            if died:
                self._record("server.restarted", "The database server was started again after it had died.")

    def _settle(self) -> None:
        """Finish what an earlier agent may have begun: have a running server take its settings as they are now."""
        engine = self._engine
        if self.wanted is not Wanted.RUNNING or not isinstance(engine, Configurable):
            return
        with self._lock:
            try:
                engine.settle()
            except ArgosyError as error:
                log.warning("settings not applied", extra={"error": error.sentence})
            if engine.refused:
                self._record("configuration.refused", engine.refused)
        # What waited for a restart, for all that was told of it so far, may not any more.
        self._changed()

    def _bring_up(self) -> None:
        upgrades.check_data(self._engine.host)
        try:
            refused = layers.start(self._engine)
        except OSError as error:
            # As when its volume is full: this must not be the end of the keeper.
            raise EngineError(f"The database server cannot be started: {error}.") from error
        upgrades.served(self._engine.host)
        if refused is not None:
            log.warning("the group's values were refused at start", extra={"reason": refused})
            self._record("configuration.refused", refused)

    def _pause(self) -> float:
        if self._paused or self.wanted is not Wanted.RUNNING:
            return CHECK_EVERY_S
        return BACK_OFF_S[min(self._troubles(), len(BACK_OFF_S) - 1)]

    def _troubles(self) -> int:
        recent = sum(1 for died in self._died_at if time.monotonic() - died < WITHIN_S)
        return max(self._failed_starts, recent - 1)

    def _look(self) -> Service:
        wanted = self.wanted
        if wanted is Wanted.NOTHING:
            return Service.NEW
        if wanted is Wanted.STOPPED:
            return Service.SHUTDOWN
        if self._engine.server.pid is None:
            return Service.CRASHED if self._troubles() >= CRASHES - 1 else Service.STARTING
        health = self._engine.health()
        if health is Health.DOWN:
            # It runs: on a busy machine one answer may be late, for which nobody is to be turned away.
            health = self._engine.health()
        return _SERVICE.get(health, Service.STARTING)

    def _want(self, wanted: Wanted) -> None:
        temporary = self._wanted_file.with_suffix(".new")
        temporary.write_text(wanted.value)
        temporary.replace(self._wanted_file)
