"""A control plane that kills itself at a chosen step of an operation: `python -m tests.chaos.crashing …`.

It takes the arguments of `argosy.processes`, and looks into the home's `crash.json`, which a test writes:
`{"kind": "instance.create", "step": 3, "when": "before", "spare": [operation ids]}`. The process dies (SIGKILL)
around the recording of that step's result, of the first operation of that kind that is not spared. Before is
the nastiest moment there is: the step has acted, and nobody will ever know.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from dbos._sys_db import SystemDatabase

from argosy.processes.__main__ import main

_home = Path(sys.argv[sys.argv.index("--home") + 1])
_steps: Counter[str] = Counter()
_record = SystemDatabase.record_operation_result


def _doomed(operation_id: str, when: str) -> bool:
    try:
        order = json.loads((_home / "crash.json").read_text())
    except (OSError, ValueError):
        return False
    if operation_id in order["spare"] or when != order["when"] or _steps[operation_id] != order["step"]:
        return False
    return bool(_kind_of(operation_id) == order["kind"])


def _kind_of(operation_id: str) -> str | None:
    import sqlite3

    with sqlite3.connect(f"file:{_home}/argosy.db?mode=ro", uri=True) as connection:
        row = connection.execute("select kind from operations where id = ?", (operation_id,)).fetchone()
    connection.close()
    return row[0] if row else None


def _recording(self: SystemDatabase, result: Any, **more: Any) -> None:
    operation_id = str(result["workflow_uuid"])
    _steps[operation_id] += 1
    if _doomed(operation_id, "before"):
        os.kill(os.getpid(), signal.SIGKILL)
    _record(self, result, **more)
    if _doomed(operation_id, "after"):
        os.kill(os.getpid(), signal.SIGKILL)


SystemDatabase.record_operation_result = _recording  # type: ignore[method-assign] # this is what it is for

if __name__ == "__main__":
    sys.exit(main())
