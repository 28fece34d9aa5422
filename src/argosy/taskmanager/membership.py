"""One task manager among several: that it lives, whose work it takes over, and whether it leads.

Each has an id of its own for as long as its process lives, under which DBOS writes down what it has begun, and a row that
it refreshes. One that was silent for too long is declared lost in the database, and any other queues again what it had begun.
To be declared lost is to be fenced: every step asks `check` before it acts, and a process that was frozen for long, or
cut off, asks the database before it does anything more. Told that it is lost, it ends.

DBOS itself keeps a token of who runs a workflow: a step's result is recorded, and the workflow ended, only by the last
who took it off the queue. So a late step of the old one may still act (once more, as steps may), but never counts.
"""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import NoReturn

import sqlalchemy as sa
import structlog

import argosy
from argosy.files import write_once
from argosy.metadata.locks import end_when_idle
from argosy.metadata.store import Store, Transaction

log = structlog.get_logger()

# Releases that knew of one task manager only had this executor id.
SOLE = "taskmanager"
SWEEPS = "sweeps"
_BEATS = 5  # in the time after which one is lost
_LOST_EXIT = 75  # EX_TEMPFAIL: a supervisor starts it anew, as another


def _end() -> NoReturn:
    log.error("declared lost by the other task managers: ending, to be started anew")
    os._exit(_LOST_EXIT)


def now_s() -> float:
    """Seconds that go on while the machine is suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Membership:
    """This process among the task managers. `take_over` queues again what executors of these ids had begun."""

    def __init__(
        self,
        store: Store,
        place: str,
        *,
        silent_after_s: float,
        end: Callable[[], NoReturn] = _end,
        clock: Callable[[], float] = now_s,
    ) -> None:
        """`place` is the home's: of one home at most one task manager lives at a time."""
        self.id = f"{place}.{secrets.token_hex(6)}"
        self.leads = False
        self.silent_after_s = silent_after_s
        self._store = store
        self._place = place
        self._silent_after = timedelta(seconds=silent_after_s)
        self._beat_s = silent_after_s / _BEATS
        self._end = end
        self._clock = clock
        self._seen_at = clock()
        self._lock = threading.Lock()
        self._left = False
        self._takes_over = False

    # For steps

    def check(self) -> None:
        """Return while this process may act; else ask, and end if others have taken over.

        While the database does not answer nobody else can take over, and nothing is done here either.
        """
        if self._left:
            threading.Event().wait()  # the process ends in a moment, and others go on
        while self._is_late():
            try:
                self._beat()
            except sa.exc.DBAPIError as error:
                log.warning("the metadata database does not answer", error=str(error.orig))
                time.sleep(1)

    @property
    def is_well(self) -> bool:
        return not self._left and not self._is_late()

    def _is_late(self) -> bool:
        # One beat earlier than the others would say so.
        return self._clock() - self._seen_at > self._silent_after.total_seconds() - self._beat_s

    # The process's life

    def join(self) -> None:
        with self._store.write() as tx:
            tx.task_managers.join(self.id, argosy.__version__)
        self._seen_at = self._clock()

    def take_over(self, take: Callable[[list[str]], object]) -> None:
        """Whatever lost ones had begun, first of all those of this home, which have ended, or its lock were not ours."""
        with self._store.write() as tx:
            mine = [one.id for one in tx.task_managers.all() if one.id.startswith(f"{self._place}.")]
            tx.task_managers.lose_these([one for one in mine if one != self.id])
        self._take_over(take)
        self._beat()
        self._takes_over = True

    def run(self, ended: threading.Event, take: Callable[[list[str]], object]) -> None:
        """Tell that this one lives, lead if nobody does, and once it began to, take over from the lost, until told to end."""
        while not ended.wait(self._beat_s):
            try:
                self._beat()
                if self._takes_over:
                    self._take_over(take)
            except Exception:
                log.exception("task manager cannot tell that it lives")

    def leave(self) -> None:
        """Have others take over at once: this one begins nothing any more."""
        self._left = True
        with self._lock, self._store.write() as tx:
            tx.task_managers.lose_these([self.id])
            tx.leases.give_back(SWEEPS, self.id)

    @contextmanager
    def _telling(self) -> Iterator[Transaction]:
        """A transaction that is none of a process which is frozen in it: what it holds, the others need to go on."""
        with self._store.write() as tx:
            # Who waits for it must still tell in time that it lives itself.
            end_when_idle(tx.connection, self._silent_after * 3 / _BEATS)
            yield tx

    def _beat(self) -> None:
        with self._lock:
            # Before the question, as it is then that the answer counts from.
            at = self._clock()
            with self._telling() as tx:
                lives = tx.task_managers.seen(self.id)
                leads = lives and tx.leases.take(SWEEPS, self.id, self._silent_after)
            if not lives and not self._left:
                self._end()
            if leads and not self.leads:
                log.info("leads", task_manager=self.id)
            self.leads = leads
            self._seen_at = at

    def _take_over(self, take: Callable[[list[str]], object]) -> None:
        with self._telling() as tx:
            silent = tx.task_managers.lose(self._silent_after)
        for one in silent:
            log.warning("a task manager is silent: its work is taken over", task_manager=one)
        with self._store.read() as tx:
            lost = tx.task_managers.lost()
        for one in lost:
            # It is forgotten after its work is queued, not before: who dies in between leaves it to the next.
            take([one])
            with self._telling() as tx:
                tx.task_managers.forget(one)
                tx.leases.give_back(SWEEPS, one)


def place_of(home: Path, store: Store, *, ran_before: bool) -> str:
    """What names a home among all homes, made once.

    Where a task manager ran before that had no such name, which was the only one and has ended, its work is taken over.
    """
    file = home / "run" / "taskmanager.id"
    if not file.exists():
        if ran_before:
            with store.write() as tx:
                tx.task_managers.inherit(SOLE)
        write_once(file, f"{os.uname().nodename.partition('.')[0][:30]}-{secrets.token_hex(4)}", 0o600)
    return file.read_text().strip()
