"""The durable queue: an operation's workflow is enqueued in the transaction that writes the operation's row."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
from dbos import DBOSClient

from argosy.domain.operations import Request

APPLICATION = "argosy"
QUEUE = "operations"
# Workflows are found by name and replayed step by step, so the version is of their steps, not of the code:
# it moves only when a release cannot continue what an older one began.
WORKFLOW_VERSION = "argosy-1"


class Queue:
    """Enqueues operations, and tells how their workflows are. Connects on first use."""

    def __init__(self, url: str) -> None:
        self._client = DBOSClient(system_database_url=url, application_name=APPLICATION, lazy=True)

    def enqueue(self, connection: sa.Connection, request: Request) -> None:
        """Part of the caller's transaction. The workflow's id is the operation's: twice is once."""
        self._client.enqueue_in_transaction(
            connection,
            {
                "workflow_name": request.kind,
                "queue_name": QUEUE,
                "workflow_id": request.operation_id,
                "app_version": WORKFLOW_VERSION,
            },
            request,
        )

    def cancel(self, operation_id: str) -> None:
        """Keep a workflow from taking another step."""
        self._client.cancel_workflow(operation_id)

    def forget(self, operation_ids: Sequence[str]) -> None:
        """Remove what is known of the workflows of operations that ended long ago."""
        self._client.delete_workflows(list(operation_ids))

    def close(self) -> None:
        self._client.destroy()
