"""What the cloud has is compared with what it should have: on a schedule, and when an administrator asks."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import structlog

from argosy.domain.errors import ArgosyError
from argosy.domain.operations import LookForDrift
from argosy.taskmanager.parts import parts
from argosy.taskmanager.steps import drift
from argosy.taskmanager.workflow import workflow

log = structlog.get_logger()


def run(ended: threading.Event, leads: Callable[[], bool]) -> None:
    """Look now and then until told to end, while this process leads. A look that fails is logged and the next one tried.

    A thread of its own: a cloud may take a while to answer, and longer for a repair.
    """
    while not ended.wait(parts().survey_every_s):
        if leads() and parts().platform.machines:
            try:
                drift.look(parts().store, parts().platform)
            except ArgosyError as error:
                log.warning("the cloud could not be looked at", error=error.sentence)
            except Exception:
                log.exception("look for drift failed")


@workflow(LookForDrift, "comparing the cloud with the metadata")
def look_for_drift(asked: LookForDrift) -> Iterator[None]:  # noqa: ARG001 - it asks nothing else
    """What is found is in the list of differences afterwards, and nowhere else."""
    yield
    drift.look_now()
