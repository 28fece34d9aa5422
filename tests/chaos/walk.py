"""Walks the steps of an operation and kills the control plane around each, for every workflow there is or will be.

    walk = CrashWalk(argosy, ("taskmanager",))
    for operation in walk.over("instance.create", begin):
        assert operation["state"] == "succeeded"

At each step, before and after its result is recorded, an operation is begun, the process dies, and another
one takes over. What must hold then, always: the operation ends, nothing stays claimed, nothing leaks.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa

from argosy.metadata.store import Store
from tests.support.server import Client, Server, wait_until

ENDED = {"succeeded", "failed"}
# Whether every step is walked (`make test-long`), or some.
LONG = bool(os.environ.get("ARGOSY_TEST_LONG"))


class CrashWalk:
    """A server whose control plane, or one part of it, dies at chosen steps. `parts` is what dies and comes back."""

    def __init__(self, argosy: Server, parts: tuple[str, ...]) -> None:
        self.argosy = argosy
        self.parts = parts
        self.kills = 0
        argosy.module = "tests.chaos.crashing"
        argosy.start(*parts)

    @property
    def client(self) -> Client:
        return self.argosy.client()

    def over(self, kind: str, begin: Callable[[], str | None], *, every: int = 1) -> list[dict[str, Any]]:
        """Kill around every `every`-th step of operations that `begin` begins (it returns the instance's id, if there is one).

        Returns the operations, all ended, for the caller to judge.
        """
        ended: list[dict[str, Any]] = []
        step = 1
        while True:
            for when in ("before", "after"):
                instance_id, died = self._crash(kind, step, when, begin)
                ended.append(self.wait_until_ended(instance_id, kind))
                if not died:
                    return ended
            step += every

    def _crash(
        self, kind: str, step: int, when: str, begin: Callable[[], str | None]
    ) -> tuple[str | None, bool]:
        order = {"kind": kind, "step": step, "when": when, "spare": [one["id"] for one in self.operations()]}
        (self.argosy.home / "crash.json").write_text(json.dumps(order))
        instance_id = begin()
        part = self.parts[0] if self.parts else "api"
        wait_until(
            f"{kind} ends or dies {when} step {step}",
            lambda: self.argosy.pid(part) is None or self._settled(instance_id, kind),
            120,
        )
        died = self.argosy.pid(part) is None
        (self.argosy.home / "crash.json").unlink(missing_ok=True)
        if died:
            self.kills += 1
            self.argosy.start(*self.parts)
        return instance_id, died

    def operations(self, instance_id: str | None = None) -> list[dict[str, Any]]:
        """Newest first. Read from the database: the API may be what was killed."""
        store = Store(self.argosy.settings.database_url)
        try:
            with store.read() as tx:
                page, _ = tx.operations.page(10_000, instance_id=instance_id)
        finally:
            store.close()
        return [
            {
                "id": one.id,
                "kind": one.kind,
                "state": one.state.value,
                "error": one.error,
                "details": one.error_details,
                "step": one.step,
            }
            for one in page
        ]

    def _ended(self, instance_id: str | None, kind: str) -> bool:
        mine = [one for one in self.operations(instance_id) if one["kind"] == kind]
        return bool(mine) and mine[0]["state"] in ENDED

    def _settled(self, instance_id: str | None, kind: str) -> bool:
        """Ended, and its last step recorded: its process dies around no step of it any more."""
        mine = [one["id"] for one in self.operations(instance_id) if one["kind"] == kind]
        if not mine:
            return False
        store = Store(self.argosy.settings.database_url)
        try:
            with store.engine.connect() as connection:
                query = sa.text("select status from workflow_status where workflow_uuid = :id")
                return connection.execute(query, {"id": mine[0]}).scalar() in {"SUCCESS", "ERROR"}
        finally:
            store.close()

    def wait_until_ended(self, instance_id: str | None, kind: str) -> dict[str, Any]:
        wait_until(f"{kind} of {instance_id} ends", lambda: self._ended(instance_id, kind), 120)
        return next(one for one in self.operations(instance_id) if one["kind"] == kind)
