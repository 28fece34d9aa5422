"""An operation's progress and end, as steps."""

from __future__ import annotations

from argosy.domain.errors import ArgosyError
from argosy.taskmanager.parts import parts
from argosy.taskmanager.steps.again import step


@step(name="operations.progress")
def progress(operation_id: str, step: int, steps: int, doing: str) -> None:
    with parts().store.write() as tx:
        tx.operations.progress(operation_id, step, steps, doing)


@step(name="operations.succeed")
def succeed(operation_id: str) -> None:
    with parts().store.write() as tx:
        tx.operations.succeed(operation_id)


@step(name="operations.fail")
def fail(operation_id: str, error: ArgosyError, details: str | None) -> None:
    with parts().store.write() as tx:
        tx.operations.fail(operation_id, error, details)
