"""What makes a function an operation's workflow: durable, with named stages, and an end in every case."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

import structlog
from dbos import DBOS

from argosy.domain.errors import ArgosyError, Failed
from argosy.domain.operations import Request
from argosy.taskmanager.steps import operations

log = structlog.get_logger()

Asked = TypeVar("Asked", bound=Request)


def workflow(
    asked: type[Asked], *stages: str
) -> Callable[[Callable[[Asked], Iterator[None]]], Callable[[Asked], None]]:
    """Make a function the workflow of a request: whatever happens inside, its operation ends and its claim is released.

    The body is a generator: each `yield` enters the next of `stages`, which users see as progress, so a body
    yields exactly as often as there are stages, each time before the work the stage names.
    """

    def durable(body: Callable[[Asked], Iterator[None]]) -> Callable[[Asked], None]:
        @DBOS.workflow(name=asked.kind)
        def run(request: Asked) -> None:
            try:
                for number, _ in enumerate(body(request)):
                    operations.progress(request.operation_id, number + 1, len(stages), stages[number])
            except Exception as error:  # noqa: BLE001 - the edge: every end is written down
                reason, details = explain(error)
                log.warning(
                    "operation failed",
                    operation_id=request.operation_id,
                    kind=asked.kind,
                    error=reason.sentence,
                )
                operations.fail(request.operation_id, reason, details)
                return
            operations.succeed(request.operation_id)

        return run

    return durable


def explain(error: BaseException) -> tuple[ArgosyError, str | None]:
    """The error a user is told, and details for an administrator when it is none of ours.

    DBOS wraps what a step raised when its retries ran out, so the causes are looked through.
    """
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, ArgosyError):
            return seen, None
        inner = getattr(seen, "errors", None)
        seen = inner[-1] if isinstance(inner, list) and inner else seen.__cause__
    return Failed(
        "The operation failed by surprise: an operator finds the reason in the task manager's log."
    ), repr(error)
