"""Two of each, on PostgreSQL behind HAProxy, and any one of them dies in the middle: the others finish, nothing is lost.

Whatever was killed stays dead until the operation has ended: it is never the same process that finishes. With
ARGOSY_TEST_LONG set each part dies around every step of every workflow, otherwise each workflow loses one process.
"""

from __future__ import annotations

import json
import signal
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

import httpx
import pytest

from argosy import marks
from argosy.metadata.store import Store
from tests.chaos.walk import ENDED, LONG
from tests.support import files
from tests.support.databases import connected
from tests.support.installation import PARTS, Host, Installation, installation
from tests.support.server import Client, wait_until

USER = {"name": "ann", "password": "walked-secret-1"}
DATASTORES = ["valkey", "postgresql"] if LONG else ["valkey"]
Part = Literal["api", "conductor", "taskmanager"]


@dataclass
class Pair:
    """The installation, an instance of it with something in it, and what is done to both."""

    argosy: Installation
    datastore: str = "valkey"
    instance: dict[str, Any] = field(default_factory=dict)
    kills: int = 0

    @property
    def first(self) -> Host:
        return self.argosy.hosts[0]

    @cached_property
    def client(self) -> Client:
        return self.first.client()

    @cached_property
    def store(self) -> Store:
        return Store(self.first.settings.database_url)

    @property
    def id(self) -> str:
        return str(self.instance["id"])

    # What dies

    def mend(self) -> None:
        """Start what does not run."""
        dead = [(host, part) for host in self.argosy.hosts for part in PARTS if host.pid(part) is None]
        for host, part in dead:
            host.begin(part)
        for host, part in dead:
            host.wait_until_ready(part)

    def lose(
        self,
        part: Part,
        kind: str,
        begin: Callable[[], object],
        *,
        step: int = 2,
        when: str = "before",
        number: int = signal.SIGKILL,
        within_s: float = 90,
    ) -> dict[str, Any] | None:
        """Begin an operation and have a process of a part die around one of its steps; the operation when it has ended.

        None when it has no such step: it ended, and nothing died.
        """
        self.mend()
        known = {one["id"] for one in self.operations()}
        victim = None if part == "taskmanager" else self.argosy.hosts[self.kills % 2].pid(part)
        order = {
            "kind": kind,
            "step": step,
            "when": when,
            "spare": list(known),
            "victim": victim,
            "signal": number,
            # One that dies with the request in its hands answers 502, which is another test's.
            "answers": part == "api",
        }
        file = self.argosy.root / "crash.json"
        file.with_suffix(".new").write_text(json.dumps(order))
        answered = file.with_suffix(".answered")
        answered.unlink(missing_ok=True)
        file.with_suffix(".new").rename(file)
        begin()
        answered.touch()
        taken = file.with_suffix(".taken")

        def ended() -> dict[str, Any] | None:
            mine = [one for one in self.operations() if one["id"] not in known and one["kind"] == kind]
            return mine[-1] if mine and mine[-1]["state"] in ENDED else None

        operation: dict[str, Any] = wait_until(
            f"{kind} ends, having lost its {part} at step {step}", ended, within_s, every_s=0.1
        )
        # The order first: after that nobody takes it any more, around a last step that is recorded only now.
        file.unlink(missing_ok=True)
        died = taken.exists()
        taken.unlink(missing_ok=True)
        self.kills += died
        assert operation["state"] == "succeeded", operation
        return operation if died else None

    def operations(self) -> list[dict[str, Any]]:
        """Newest first, from the database: an API may be what was killed."""
        with self.store.read() as tx:
            page, _ = tx.operations.page(10_000)
        return [
            {"id": one.id, "kind": one.kind, "state": one.state.value, "error": one.error} for one in page
        ]

    # What is done

    def ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        """As a client does it that tries again what only reads."""

        def answer() -> httpx.Response | None:
            with suppress(httpx.TransportError):
                found = self.client.request(method, path, **more)
                if method != "GET" or found.status_code < 500:
                    return found
            return None

        found: httpx.Response = wait_until(f"{method} {path} is answered", answer, 30)
        assert found.status_code < 400, found.text
        return found

    def body(self, name: str, **more: Any) -> dict[str, Any]:
        user = {**USER, **({"databases": [{"name": "shop"}]} if self.datastore == "postgresql" else {})}
        body = {
            "name": name,
            "flavorRef": "1",
            "volume": {"size": 1},
            "datastore": {
                "type": self.datastore,
                "version": {"valkey": "8", "postgresql": "17"}[self.datastore],
            },
            "users": [user],
            **more,
        }
        if self.datastore == "postgresql":
            body["databases"] = [{"name": "shop"}]
        return {"instance": body}

    def create(self) -> None:
        self.instance = self.ask("POST", "/instances", json=self.body("pair")).json()["instance"]

    def act(self, action: str, asked: dict[str, Any]) -> None:
        self.ask("POST", f"/instances/{self.id}/action", json={action: asked})

    def session(self, instance: dict[str, Any] | None = None) -> Any:
        database = "shop" if self.datastore == "postgresql" else None
        shown = instance or self.healthy()
        return connected(self.first, shown, USER["name"], USER["password"], database)

    def healthy(self, instance_id: str | None = None) -> dict[str, Any]:
        def found() -> dict[str, Any] | None:
            shown: dict[str, Any] = self.ask("GET", f"/instances/{instance_id or self.id}").json()["instance"]
            return shown if (shown["status"], shown["operating_status"]) == ("ACTIVE", "HEALTHY") else None

        shown: dict[str, Any] = wait_until("the instance is healthy", found, 60, every_s=0.1)
        return shown

    def write(self, key: str) -> None:
        with self.session() as session:
            session.write(key, "kept")

    def read(self, instance: dict[str, Any] | None = None) -> set[str]:
        with self.session(instance) as session:
            return set(session.read())

    def backups(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.ask("GET", f"/backups?instance_id={self.id}").json()["backups"]
        return found

    def restore(self) -> str:
        point = {"backupRef": self.backups()[0]["id"]}
        asked = {"instance": {"name": "restored", "flavorRef": "1", "restorePoint": point}}
        return str(self.ask("POST", "/instances", json=asked).json()["instance"]["id"])

    def configuration(self) -> Callable[[], None]:
        """A group that the instance has; what changes it each time, which is then applied."""
        datastore = {"type": self.datastore, "version": self.instance["datastore"]["version"]}
        body = {"configuration": {"name": "group", "values": {"timeout": 100}, "datastore": datastore}}
        group = self.ask("POST", "/configurations", json=body).json()["configuration"]["id"]
        self.ask("PUT", f"/instances/{self.id}", json={"instance": {"configuration": group}})
        configured = {"kind": "instance.configure", "state": "succeeded", "error": None}
        wait_until("the group is applied", lambda: configured.items() <= self.operations()[0].items(), 60)
        timeout = 100

        def change() -> None:
            nonlocal timeout
            timeout += 1
            self.ask(
                "PATCH", f"/configurations/{group}", json={"configuration": {"values": {"timeout": timeout}}}
            )

        return change

    def delete(self, instance_id: str) -> None:
        self.ask("DELETE", f"/instances/{instance_id}")


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with installation() as argosy:
        for host in argosy.hosts:
            host.module = "tests.chaos.crashing"
        argosy.start()
        pair = Pair(argosy)
        yield pair
        pair.store.close()


def steps(part: Part) -> list[tuple[int, str]]:
    """Where in a workflow a part dies."""
    if LONG:
        return [(step, when) for step in range(1, 60) for when in ("before", "after")]
    return [(2, "before")]


def through(
    pair: Pair, part: Part, kind: str, begin: Callable[[], object], settled: Callable[[], object]
) -> None:
    """Lose a part in an operation, as often as it has steps. `settled` looks at what came of it each time."""
    for step, when in steps(part):
        died = pair.lose(part, kind, begin, step=step, when=when)
        settled()
        if died is None:
            return


@pytest.mark.timeout(7200 if LONG else 280)
@pytest.mark.parametrize("datastore", DATASTORES)
@pytest.mark.parametrize("part", PARTS if LONG else ["each in turn"])
def test_whoever_dies_in_the_middle_of_a_workflow_another_finishes_it(
    pair: Pair, part: str, datastore: str
) -> None:
    pair.datastore = datastore
    turns: Iterator[Any] = iter(["taskmanager", "conductor", "api"] * 20)
    if part in PARTS:
        turns = iter([part] * 60)
    kills = pair.kills
    flavor, size = "1", 1

    through(pair, next(turns), "instance.create", pair.create, pair.healthy)
    made = [pair.id]
    pair.write("before")

    def grow() -> None:
        nonlocal size
        size += 1
        pair.act("resize", {"volume": {"size": size}})

    def change_flavor() -> None:
        nonlocal flavor
        flavor = "2" if flavor == "1" else "1"
        pair.act("resize", {"flavorRef": flavor})

    through(pair, next(turns), "instance.resize_volume", grow, pair.healthy)
    assert pair.healthy()["volume"]["size"] == size
    through(pair, next(turns), "instance.restart", partial(pair.act, "restart", {}), pair.healthy)
    through(pair, next(turns), "instance.resize_flavor", change_flavor, pair.healthy)
    assert pair.healthy()["flavor"]["id"] == flavor

    configured = pair.configuration() if datastore == "valkey" else None
    if configured is not None:
        through(pair, next(turns), "instance.configure", configured, pair.healthy)

    def back_up() -> None:
        pair.ask("POST", "/backups", json={"backup": {"name": "b", "instance": pair.id}})

    through(pair, "taskmanager" if part not in PARTS else next(turns), "backup.create", back_up, pair.healthy)
    restored: list[str] = []
    through(
        pair,
        next(turns),
        "instance.create",
        lambda: restored.append(pair.restore()),
        lambda: pair.healthy(restored[-1]),
    )
    for one in restored:
        assert "before" in pair.read(pair.healthy(one))
    made += restored
    if datastore == "valkey":
        upgrade = {"instance": {"datastore_version": "9"}}
        pair.lose(
            next(turns), "instance.upgrade", lambda: pair.ask("PATCH", f"/instances/{pair.id}", json=upgrade)
        )
        assert pair.healthy()["datastore"]["version"] == "9"
    assert "before" in pair.read()
    assert pair.first.leftovers(among=made) == []

    for backup in pair.backups():
        pair.lose(next(turns), "backup.delete", partial(pair.ask, "DELETE", f"/backups/{backup['id']}"))
    part_of_delete: Part = "taskmanager" if part not in PARTS else next(turns)
    pair.lose(part_of_delete, "instance.delete", partial(pair.delete, made[0]))
    for one in made[1:]:
        pair.delete(one)
    for one in made[1:]:
        pair.first.wait_until_gone(pair.client, one)
    assert pair.first.leftovers() == []
    assert pair.ask("GET", "/instances").json()["instances"] == []
    kept = files.read(pair.argosy.root / "backups")
    assert [path for path, content in kept if content and "index.db" not in path.name] == []
    assert pair.kills - kills >= (40 if LONG else 8)


@pytest.mark.parametrize("when", ["before", "within"])
def test_a_task_manager_that_was_frozen_ends_when_it_wakes_and_others_have_taken_over(
    pair: Pair, when: str
) -> None:
    pair.datastore = "valkey"
    # Less than the minute after which DBOS by itself has a frozen one's transaction end.
    freeze = partial(pair.lose, step=3, when=when, number=signal.SIGSTOP, within_s=45)
    freeze("taskmanager", "instance.create", pair.create)
    frozen = [host for host in pair.argosy.hosts if _is_stopped(host.pid("taskmanager"))]
    assert len(frozen) == 1
    pid = frozen[0].pid("taskmanager")
    assert pid is not None
    frozen[0].kill("taskmanager", signal.SIGCONT)
    wait_until("it has ended by itself", lambda: marks.started_at(pid) is None or frozen[0]._reap(pid), 30)
    assert "declared lost by the other task managers" in frozen[0].log()
    pair.healthy()
    assert pair.first.leftovers(among=[pair.id]) == []
    pair.mend()
    pair.delete(pair.id)
    pair.first.wait_until_gone(pair.client, pair.id)


def _is_stopped(pid: int | None) -> bool:
    return pid is not None and "\nState:\tT" in Path(f"/proc/{pid}/status").read_text()


def test_a_request_whose_api_dies_is_asked_again_and_done_once(pair: Pair) -> None:
    """Idempotency-Key: nobody knows whether the dead one had done it."""
    pair.datastore = "valkey"
    pair.mend()
    client = pair.client
    made: list[str] = []

    def create(number: int) -> str:
        key = {"Idempotency-Key": str(uuid.uuid4())}

        def answered() -> str | None:
            with suppress(httpx.TransportError):
                answer = client.post("/instances", json=pair.body(f"once-{number}"), headers=key)
                if answer.status_code == 200:
                    return str(answer.json()["instance"]["id"])
                assert answer.status_code in {409, 502, 503, 504}, answer.text
            return None

        return str(wait_until("it is made", answered, 60))

    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(create, number) for number in range(4)]
        pair.first.kill("api")
        made = [one.result() for one in asked]
    listed = pair.ask("GET", "/instances").json()["instances"]
    assert sorted(one["id"] for one in listed) == sorted(made)
    for one in made:
        pair.healthy(one)
    pair.mend()
    for one in made:
        pair.delete(one)
    for one in made:
        pair.first.wait_until_gone(pair.client, one)
    assert pair.first.leftovers() == []


@pytest.mark.parametrize("after_s", [0.1, 0.3, 0.6, 1.0, 1.5] if LONG else [0.3])
def test_operations_wait_for_a_metadata_database_that_is_away(pair: Pair, after_s: float) -> None:
    pair.datastore = "valkey"
    pair.mend()
    pair.create()
    time.sleep(after_s)
    database = pair.argosy.database.guest
    database.kill_server()
    time.sleep(2)
    database.new_agent().start()
    pair.healthy()
    pair.delete(pair.id)
    wait_until("it is gone", lambda: pair.ask("GET", "/instances").json()["instances"] == [], 60)
    # An instance is gone a step before its deletion has ended.
    wait_until("all has ended", lambda: all(one["state"] in ENDED for one in pair.operations()), 60)
    assert [one for one in pair.operations() if one["state"] != "succeeded"] == []
    assert pair.first.leftovers() == []
