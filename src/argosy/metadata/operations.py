"""Operations: beginning one claims its instance, ending one releases it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from argosy.domain.errors import ArgosyError, InstanceBusy, NotFound
from argosy.domain.instance import Instance
from argosy.domain.operations import BREAKING, InstanceRequest, Operation, Request, State
from argosy.metadata.events import Events
from argosy.metadata.queue import Queue
from argosy.metadata.tables import instances, operations

_RUNNING = (State.QUEUED.value, State.RUNNING.value)


class Operations:
    """The operations of one project, or of all."""

    def __init__(
        self, connection: sa.Connection, project_id: str | None, queue: Queue, events: Events
    ) -> None:
        self._connection = connection
        self._project_id = project_id
        self._queue = queue
        self._events = events

    def begin(self, instance: Instance, request: InstanceRequest, *, requested_by: str) -> None:
        """Claim the instance, write the operation down, enqueue its workflow: together or not at all.

        Raises InstanceBusy when another operation came first.
        """
        claimed = self._connection.execute(
            sa.update(instances)
            .where(
                instances.c.id == instance.id,
                instances.c.operation_id.is_(None),
                instances.c.deleted_at.is_(None),
            )
            .values(
                operation_id=request.operation_id, operation_kind=request.kind, updated_at=datetime.now(UTC)
            )
        )
        if claimed.rowcount != 1:
            raise InstanceBusy(instance_id=instance.id, status="busy")
        self._enqueue(request, instance.project_id, instance.id, requested_by)

    def begin_alone(self, project_id: str, request: Request, *, requested_by: str) -> None:
        """Write an operation down that is about no instance, and enqueue its workflow."""
        self._enqueue(request, project_id, None, requested_by)

    def _enqueue(self, request: Request, project_id: str, instance_id: str | None, requested_by: str) -> None:
        self._connection.execute(
            sa.insert(operations).values(
                id=request.operation_id,
                project_id=project_id,
                instance_id=instance_id,
                kind=request.kind,
                state=State.QUEUED.value,
                step=0,
                steps=0,
                doing="waiting for a worker",
                requested_by=requested_by,
                created_at=datetime.now(UTC),
            )
        )
        self._events.add(project_id, instance_id, f"{request.kind}.requested", "requested", requested_by)
        self._queue.enqueue(self._connection, request)

    def progress(self, operation_id: str, step: int, steps: int, doing: str) -> None:
        """How far an operation is: step `step` of `steps`, and what it is doing, in words."""
        now = datetime.now(UTC)
        self._connection.execute(
            sa.update(operations)
            .where(operations.c.id == operation_id, operations.c.state.in_(_RUNNING))
            .values(
                state=State.RUNNING.value,
                step=step,
                steps=steps,
                doing=doing,
                started_at=sa.func.coalesce(operations.c.started_at, now),
            )
        )

    def say(self, operation_id: str, doing: str) -> None:
        """What a running operation is doing within its step."""
        mine = sa.and_(operations.c.id == operation_id, operations.c.state == State.RUNNING.value)
        self._connection.execute(sa.update(operations).where(mine).values(doing=doing[:255]))

    def succeed(self, operation_id: str) -> None:
        """End an operation well and release its instance; a second call changes nothing."""
        if self._end(operation_id, state=State.SUCCEEDED.value, doing=""):
            self._release(operation_id, broken=False, fault_message=None, fault_details=None, fault_at=None)

    def fail(self, operation_id: str, error: ArgosyError, details: str | None = None) -> None:
        """End an operation badly, keep the reason where the user sees it, release its instance; once."""
        ended = self._end(
            operation_id,
            state=State.FAILED.value,
            error_code=error.code,
            error=error.sentence,
            error_details=details,
        )
        if ended is not None:
            values: dict[str, Any] = {
                "fault_message": error.sentence,
                "fault_details": details,
                "fault_at": datetime.now(UTC),
            }
            if ended.kind in BREAKING:
                values["broken"] = True
            self._release(operation_id, **values)
            self._events.add(
                ended.project_id, ended.instance_id, f"{ended.kind}.failed", error.sentence, "taskmanager"
            )

    def bury(self, operation_id: str) -> None:
        """End a deletion: the instance is gone, its name and history stay."""
        now = datetime.now(UTC)
        self._connection.execute(
            sa.update(instances)
            .where(instances.c.operation_id == operation_id)
            .values(deleted_at=now, updated_at=now, address=None)
        )

    def get(self, operation_id: str) -> Operation:
        row = self._connection.execute(
            sa.select(operations).where(operations.c.id == operation_id, self._mine())
        ).first()
        if row is None:
            raise NotFound(f"Operation {operation_id} cannot be found.")
        return _operation(row)

    def page(
        self, limit: int, *, instance_id: str | None = None, before: Operation | None = None
    ) -> tuple[list[Operation], bool]:
        """Newest first, those older than `before`, and whether there are more."""
        query = sa.select(operations).where(self._mine())
        query = query.order_by(operations.c.created_at.desc(), operations.c.id.desc()).limit(limit + 1)
        if instance_id is not None:
            query = query.where(operations.c.instance_id == instance_id)
        if before is not None:
            older = sa.and_(operations.c.created_at == before.created_at, operations.c.id < before.id)
            query = query.where(sa.or_(operations.c.created_at < before.created_at, older))
        rows = self._connection.execute(query).all()
        return [_operation(row) for row in rows[:limit]], len(rows) > limit

    def running(self) -> list[Operation]:
        """Those not ended, oldest first."""
        query = (
            sa.select(operations)
            .where(operations.c.state.in_(_RUNNING), self._mine())
            .order_by(operations.c.created_at)
        )
        return [_operation(row) for row in self._connection.execute(query)]

    def _mine(self) -> sa.ColumnElement[bool]:
        return sa.true() if self._project_id is None else operations.c.project_id == self._project_id

    def _end(self, operation_id: str, **values: Any) -> Operation | None:
        ended = self._connection.execute(
            sa.update(operations)
            .where(operations.c.id == operation_id, operations.c.state.in_(_RUNNING))
            .values(ended_at=datetime.now(UTC), **values)
        )
        if ended.rowcount != 1:
            return None
        row = self._connection.execute(sa.select(operations).where(operations.c.id == operation_id)).one()
        operation = _operation(row)
        if operation.state is State.SUCCEEDED:
            self._events.add(
                operation.project_id,
                operation.instance_id,
                f"{operation.kind}.succeeded",
                "done",
                "taskmanager",
            )
        return operation

    def _release(self, operation_id: str, **values: Any) -> None:
        self._connection.execute(
            sa.update(instances)
            .where(instances.c.operation_id == operation_id)
            .values(
                operation_id=None,
                operation_kind=None,
                growing_to_gb=None,
                growing_to_memory_mb=None,
                updated_at=datetime.now(UTC),
                **values,
            )
        )


def _operation(row: sa.Row[Any]) -> Operation:
    return Operation(
        id=row.id,
        project_id=row.project_id,
        instance_id=row.instance_id,
        kind=row.kind,
        state=State(row.state),
        step=row.step,
        steps=row.steps,
        doing=row.doing,
        requested_by=row.requested_by,
        created_at=row.created_at,
        started_at=row.started_at,
        ended_at=row.ended_at,
        error_code=row.error_code,
        error=row.error,
        error_details=row.error_details,
    )
