"""A control plane that kills itself at a chosen step of an operation: `python -m tests.chaos.crashing …`.

It takes the arguments of `argosy.processes`, and looks into the home's `crash.json`, which a test writes:
`{"kind": "instance.create", "step": 3, "when": "before", "spare": [operation ids]}`. The process dies (SIGKILL)
around the recording of that step's result, of the first operation of that kind that is not spared. Before is
the nastiest moment there is: the step has acted, and nobody will ever know. Within is in its transaction.

Of several that look into one directory (ARGOSY_TEST_CRASH) one takes the order. With `"victim": pid` it is that process
which is killed, or gets the `"signal"` that is named; with `"answers": true` not before `crash.answered` is there.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from dbos._sys_db import SystemDatabase

from argosy.processes.__main__ import main
from argosy.settings import read

_home = Path(sys.argv[sys.argv.index("--home") + 1])
_order = Path(os.environ.get("ARGOSY_TEST_CRASH") or _home) / "crash.json"
_steps: Counter[str] = Counter()
_record = SystemDatabase.record_operation_result
_record_within = SystemDatabase._record_operation_result_txn


def _doomed(operation_id: str, when: str) -> dict[str, Any] | None:
    try:
        order: dict[str, Any] = json.loads(_order.read_text())
    except (OSError, ValueError):
        return None
    if operation_id in order["spare"] or when != order["when"] or _steps[operation_id] != order["step"]:
        return None
    return order if _kind_of(operation_id) == order["kind"] else None


@cache
def _database() -> sa.Engine:
    return sa.create_engine(read(_home).database_url)


def _kind_of(operation_id: str) -> str | None:
    query = sa.text("select kind from operations where id = :id")
    with _database().connect() as connection:
        return connection.execute(query, {"id": operation_id}).scalar()


def _kill(order: dict[str, Any]) -> None:
    try:
        _order.rename(_order.with_suffix(".taken"))
    except FileNotFoundError:
        return
    if order.get("answers"):
        _wait_until_answered()
    os.kill(order.get("victim") or os.getpid(), order.get("signal") or signal.SIGKILL)
    if order.get("signal") == signal.SIGSTOP:
        time.sleep(
            1
        )  # a process stops when any of its threads gets the signal, and this one would go on until then


def _wait_until_answered() -> None:
    deadline = time.monotonic() + 30
    while not _order.with_suffix(".answered").exists() and time.monotonic() < deadline:
        time.sleep(0.005)


def _recording(self: SystemDatabase, result: Any, **more: Any) -> None:
    operation_id = str(result["workflow_uuid"])
    _steps[operation_id] += 1
    if order := _doomed(operation_id, "before"):
        _kill(order)
    _record(self, result, **more)
    if order := _doomed(operation_id, "after"):
        _kill(order)


def _recording_within(self: SystemDatabase, result: Any, *rest: Any, **more: Any) -> Any:
    recorded = _record_within(self, result, *rest, **more)
    if order := _doomed(str(result["workflow_uuid"]), "within"):
        _kill(order)
    return recorded


SystemDatabase.record_operation_result = _recording  # type: ignore[method-assign] # this is what it is for
SystemDatabase._record_operation_result_txn = _recording_within  # type: ignore[method-assign] # and this

if __name__ == "__main__":
    sys.exit(main())
