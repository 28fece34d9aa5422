"""An operation's progress and end, as steps."""

from __future__ import annotations

from dbos import DBOS

from argosy.domain.errors import ArgosyError
from argosy.taskmanager.parts import parts


@DBOS.step(name="operations.progress")
def progress(operation_id: str, step: int, steps: int, doing: str) -> None:
    with parts().store.write() as tx:
        tx.operations.progress(operation_id, step, steps, doing)


@DBOS.step(name="operations.succeed")
def succeed(operation_id: str) -> None:
    with parts().store.write() as tx:
        tx.operations.succeed(operation_id)


@DBOS.step(name="operations.fail")
def fail(operation_id: str, error: ArgosyError, details: str | None) -> None:
    with parts().store.write() as tx:
        tx.operations.fail(operation_id, error, details)
