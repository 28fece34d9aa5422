"""Operations: beginning one claims its instance, ending one releases it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from argosy.domain.errors import ArgosyError, InstanceBusy, InstanceProtected, NotFound
from argosy.domain.instance import Instance
from argosy.domain.operations import (
    BREAKING,
    ApplyConfiguration,
    Choice,
    DeleteInstance,
    InstanceRequest,
    JournalEntry,
    Operation,
    Request,
    State,
)
from argosy.metadata.events import Events, name_of
from argosy.metadata.journals import Journal, chosen
from argosy.metadata.queue import Queue
from argosy.metadata.tables import instances, operation_changes, operations

# What is told to those who follow; details are for administrators who look.
_TOLD = tuple(field.name for field in fields(Operation) if field.name != "error_details")
_RUNNING = (State.QUEUED.value, State.RUNNING.value)


class Operations:
    """The operations of one project, or of all."""

    def __init__(
        self,
        connection: sa.Connection,
        project_id: str | None,
        queue: Queue,
        events: Events,
        ended: Callable[[str, str | None], None],
    ) -> None:
        """`ended` is told of each that ends, and why it failed, within the transaction."""
        self._connection = connection
        self._project_id = project_id
        self._queue = queue
        self._events = events
        self._ended = ended

    def begin(self, instance: Instance, request: InstanceRequest, *, requested_by: str) -> None:
        """Claim the instance, write the operation down, enqueue its workflow: together or not at all.

        Raises InstanceBusy when another operation came first, InstanceProtected when it must not be deleted.
        """
        free = [
            instances.c.id == instance.id,
            instances.c.operation_id.is_(None),
            instances.c.deleted_at.is_(None),
        ]
        if request.kind == DeleteInstance.kind:
            free.append(sa.not_(instances.c.protected))
        claimed = self._connection.execute(
            sa.update(instances)
            .where(*free)
            .values(
                operation_id=request.operation_id, operation_kind=request.kind, updated_at=datetime.now(UTC)
            )
        )
        if claimed.rowcount != 1:
            if request.kind == DeleteInstance.kind and self._is_protected(instance.id):
                raise InstanceProtected(instance_id=instance.id)
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
                instance_name=name_of(instance_id),
                created_at=datetime.now(UTC),
            )
        )
        self._tell(request.operation_id)
        self._events.add(project_id, instance_id, f"{request.kind}.requested", "requested", requested_by)
        self._queue.enqueue(self._connection, request)

    def progress(self, operation_id: str, step: int, steps: int, doing: str) -> None:
        """How far an operation is: step `step` of `steps`, and what it is doing, in words."""
        now = datetime.now(UTC)
        moved = self._connection.execute(
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
        if moved.rowcount == 1:
            self._tell(operation_id)

    def say(self, operation_id: str, doing: str) -> None:
        """What a running operation is doing within its step."""
        said = doing[:255]
        mine = sa.and_(operations.c.id == operation_id, operations.c.state == State.RUNNING.value)
        news = sa.and_(mine, operations.c.doing != said)
        if self._connection.execute(sa.update(operations).where(news).values(doing=said)).rowcount == 1:
            self._tell(operation_id)

    def succeed(self, operation_id: str) -> None:
        """End an operation well and release its instance; a second call changes nothing."""
        ended = self._end(operation_id, state=State.SUCCEEDED.value, doing="")
        if ended is not None:
            values: dict[str, Any] = {"fault_message": None, "fault_details": None, "fault_at": None}
            if ended.kind != ApplyConfiguration.kind:
                # Restarted, larger, newer: it may take now what it refused.
                values["configuration_refused"] = None
            self._release(operation_id, broken=False, **values)

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
            .values(deleted_at=now, updated_at=now, address=None, configuration_id=None)
        )

    def get(self, operation_id: str) -> Operation:
        row = self._connection.execute(
            sa.select(operations).where(operations.c.id == operation_id, self._mine())
        ).first()
        if row is None:
            raise NotFound(f"Operation {operation_id} cannot be found.")
        return _operation(row)

    def page(
        self,
        limit: int,
        *,
        instance_id: str | None = None,
        before: Operation | None = None,
        choice: Choice | None = None,
    ) -> tuple[list[Operation], bool]:
        """Newest first, those older than `before`, and whether there are more."""
        asked = choice or Choice(self._project_id, instance_id)
        wanted = chosen(operations, asked, operations.c.state, operations.c.created_at)
        query = sa.select(operations).where(*wanted)
        query = query.order_by(operations.c.created_at.desc(), operations.c.id.desc()).limit(limit + 1)
        if before is not None:
            older = sa.and_(operations.c.created_at == before.created_at, operations.c.id < before.id)
            query = query.where(sa.or_(operations.c.created_at < before.created_at, older))
        rows = self._connection.execute(query).all()
        return [_operation(row) for row in rows[:limit]], len(rows) > limit

    @property
    def journal(self) -> Journal:
        """How those of all projects changed, in order."""
        return Journal(self._connection, operation_changes, _entry, operation_changes.c.state)

    def ended_before(self, before: datetime, at_most: int) -> list[str]:
        """The ids of up to so many that ended earlier."""
        query = sa.select(operations.c.id).where(operations.c.ended_at < before).limit(at_most)
        return list(self._connection.execute(query).scalars())

    def forget(self, operation_ids: Sequence[str]) -> None:
        self._connection.execute(sa.delete(operations).where(operations.c.id.in_(operation_ids)))

    def purge_changes(self, before: datetime, at_most: int) -> int:
        """The same of what is told to those who follow. The newest stays, so that no id comes twice."""
        ids = operation_changes.c.id
        newest = sa.select(sa.func.max(ids)).scalar_subquery()
        old = sa.select(ids).where(operation_changes.c.at < before, ids < newest).order_by(ids).limit(at_most)
        return self._connection.execute(sa.delete(operation_changes).where(ids.in_(old))).rowcount

    def running(self) -> list[Operation]:
        """Those not ended, oldest first."""
        query = (
            sa.select(operations)
            # Of all that ever were, an index holds those that have not ended.
            .where(operations.c.ended_at.is_(None), operations.c.state.in_(_RUNNING), self._mine())
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
        operation = self._tell(operation_id)
        self._ended(operation_id, operation.error)
        if operation.state is State.SUCCEEDED:
            self._events.add(
                operation.project_id,
                operation.instance_id,
                f"{operation.kind}.succeeded",
                "done",
                "taskmanager",
            )
        return operation

    def _tell(self, operation_id: str) -> Operation:
        """Write down, for those who follow, how an operation is now."""
        row = self._connection.execute(sa.select(operations).where(operations.c.id == operation_id)).one()
        operation = _operation(row)
        self._connection.execute(
            sa.insert(operation_changes).values(
                project_id=operation.project_id,
                instance_id=operation.instance_id,
                at=datetime.now(UTC),
                kind=operation.kind,
                state=operation.state.value,
                operation={key: _written(getattr(operation, key)) for key in _TOLD},
            )
        )
        return operation

    def _is_protected(self, instance_id: str) -> bool:
        query = sa.select(instances.c.protected).where(instances.c.id == instance_id)
        return bool(self._connection.execute(query).scalar())

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
        instance_name=row.instance_name,
    )


def _written(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else value


def _entry(row: sa.Row[Any]) -> JournalEntry:
    told = dict(row.operation)
    for key in ("created_at", "started_at", "ended_at"):
        told[key] = datetime.fromisoformat(told[key]) if told[key] else None
    operation = Operation(**{**told, "state": State(told["state"])})
    return JournalEntry(row.id, row.project_id, row.instance_id, row.at, row.kind, row.state, operation)
