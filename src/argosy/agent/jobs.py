"""Long work, started once per id and waited for in turns."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable

from argosy.agent.volume import out_of_room
from argosy.domain.errors import ArgosyError, Failed
from argosy.rpc.messages import JobState, Phase

log = logging.getLogger(__name__)

REMEMBERED = 50


class _Work:
    def __init__(self) -> None:
        self.state = JobState(phase=Phase.RUNNING)
        self.ended = threading.Event()

    def say(self, doing: str) -> None:
        self.state = JobState(phase=Phase.RUNNING, doing=doing)


Say = Callable[[str], None]


class Jobs:
    """The agent's jobs. An agent that restarts has forgotten them; whoever asks again starts them again."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._works: OrderedDict[str, _Work] = OrderedDict()

    def run(self, job_id: str, work: Callable[[Say], str | None], wait_s: float) -> JobState:
        """Start `work` unless a job of this id is known, and return how it is after at most `wait_s`.

        What it returns is told when it has succeeded.
        """
        with self._lock:
            known = self._works.get(job_id)
            if known is None:
                known = self._works[job_id] = _Work()
                while len(self._works) > REMEMBERED:
                    self._works.popitem(last=False)
                thread = threading.Thread(
                    target=_do, args=(known, work), name=f"job-{job_id[:8]}", daemon=True
                )
                thread.start()
        known.ended.wait(wait_s)
        return known.state

    def wait(self, job_id: str, wait_s: float) -> JobState:
        """How a job is after at most `wait_s`, if it is known."""
        with self._lock:
            known = self._works.get(job_id)
        if known is None:
            return JobState(phase=Phase.FORGOTTEN)
        known.ended.wait(wait_s)
        return known.state


def _do(known: _Work, work: Callable[[Say], str | None]) -> None:
    try:
        told = work(known.say)
        known.state = JobState(phase=Phase.SUCCEEDED, told=told or "")
    except ArgosyError as error:
        known.state = failed(error)
    except Exception as error:
        # The sentence of a surprise may hold anything, so it stays in the guest's log.
        log.exception("job failed by surprise")
        known.state = failed(
            out_of_room(error)
            or Failed("The guest agent failed by surprise: see its log.", code="guest-error")
        )
    finally:
        known.ended.set()


def failed(error: ArgosyError) -> JobState:
    return JobState(
        phase=Phase.FAILED, error_kind=error.kind.value, error_code=error.code, error=error.sentence
    )
