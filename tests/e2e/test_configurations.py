"""Configuration groups on real servers: applied at once everywhere, or at the restart, or rolled back; never lost."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest

from tests.support.live_settings import Root
from tests.support.server import Client, Server, wait_until


@dataclass(frozen=True)
class Engine:
    """A parameter of each sort, a value for it as it is asked for, and as the server then shows it.

    `refused` is one that only the server itself can know to be wrong, with a word of its refusal.
    """

    dynamic: tuple[str, Any, str]
    static: tuple[str, Any, str]
    refused: tuple[str, Any, str]


ENGINES = {
    "postgresql": Engine(
        dynamic=("work_mem", "3MB", "3MB"),
        static=("max_connections", 101, "101"),
        refused=("DateStyle", "nonsense", "DateStyle"),
    ),
    "mariadb": Engine(
        dynamic=("max_connections", 55, "55"),
        static=("back_log", 77, "77"),
        refused=("time_zone", "Nowhere/Land", "time zone"),
    ),
    "valkey": Engine(
        dynamic=("timeout", 333, "333"),
        static=("databases", 5, "5"),
        refused=("notify-keyspace-events", "QQ", "notify-keyspace-events"),
    ),
}


class Pair:
    """Two instances of one datastore and their roots."""

    def __init__(
        self, argosy: Server, client: Client, datastore: str, instances: list[dict[str, Any]]
    ) -> None:
        self.argosy = argosy
        self.client = client
        self.datastore = datastore
        self.engine = ENGINES[datastore]
        self.ids = [one["id"] for one in instances]
        self._version = instances[0]["datastore"]["version"]
        self.roots = [Root(argosy, client, one) for one in instances]

    def group(self, values: dict[str, Any]) -> str:
        datastore = {"type": self.datastore, "version": self._version}
        body = {"configuration": {"name": "group", "values": values, "datastore": datastore}}
        answer = self.client.post("/configurations", json=body)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["configuration"]["id"])

    def attach(self, group: str | None) -> None:
        for one in self.ids:
            answer = self.client.put(f"/instances/{one}", json={"instance": {"configuration": group}})
            assert answer.status_code == 202, answer.text

    def change(self, group: str, values: dict[str, Any]) -> None:
        answer = self.client.patch(f"/configurations/{group}", json={"configuration": {"values": values}})
        assert answer.status_code == 200, answer.text

    def show(self, instance_id: str) -> dict[str, Any]:
        shown: dict[str, Any] = self.client.get(f"/instances/{instance_id}").json()["instance"]
        return shown

    def outcome(self, instance_id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.show(instance_id)["argosy"]["configuration"]
        return found

    def wait_for(self, state: str, *instances: str) -> None:
        for one in instances or self.ids:
            wait_until(f"{one} is {state}", lambda one=one: self.outcome(one)["state"] == state, 60)  # type: ignore[misc]  # cannot infer defaults

    def settings(self, name: str) -> list[str]:
        return [root.setting(name) for root in self.roots]

    def restart(self, instance_id: str) -> None:
        answer = self.client.post(f"/instances/{instance_id}/action", json={"restart": {}})
        assert answer.status_code == 202, answer.text

    def let_go(self) -> None:
        """Back to no group, and no restart that is waited for."""
        self.attach(None)
        wait_until(
            "nobody is busy", lambda: all(not self.show(one)["argosy"]["operation"] for one in self.ids)
        )
        for one in self.ids:
            if self.show(one)["status"] == "RESTART_REQUIRED":
                self.restart(one)
        for one in self.ids:
            self.argosy.wait_until_healthy(self.client, one)


@pytest.fixture(scope="module")
def fleet(argosy: Server, demo: Client) -> Iterator[dict[str, Pair]]:
    wanted = [(datastore, number) for datastore in ENGINES for number in (1, 2)]
    with ThreadPoolExecutor(len(wanted)) as pool:
        made = list(
            pool.map(lambda one: argosy.create(demo, f"{one[0]}-{one[1]}", one[0], flavorRef="1"), wanted)
        )
    yield {
        datastore: Pair(
            argosy, demo, datastore, [one for one in made if one["datastore"]["type"] == datastore]
        )
        for datastore in ENGINES
    }
    for one in made:
        demo.delete(f"/instances/{one['id']}")
    for one in made:
        argosy.wait_until_gone(demo, one["id"])


@pytest.fixture(params=ENGINES)
def pair(request: pytest.FixtureRequest, fleet: dict[str, Pair]) -> Iterator[Pair]:
    chosen = fleet[request.param]
    yield chosen
    chosen.let_go()


def test_what_can_change_changes_at_once_and_the_rest_at_the_restart_and_stays(pair: Pair) -> None:
    dynamic, static = pair.engine.dynamic, pair.engine.static
    before = (pair.settings(dynamic[0]), pair.settings(static[0]))
    group = pair.group({dynamic[0]: dynamic[1]})
    pair.attach(group)
    pair.wait_for("applied")
    assert pair.settings(dynamic[0]) == [dynamic[2]] * 2
    assert {pair.show(one)["status"] for one in pair.ids} == {"ACTIVE"}
    pair.change(group, {static[0]: static[1]})
    pair.wait_for("restart-required")
    assert {pair.show(one)["status"] for one in pair.ids} == {"RESTART_REQUIRED"}
    assert pair.settings(static[0]) == before[1]
    first, second = pair.ids
    pair.restart(first)
    pair.argosy.wait_until_healthy(pair.client, first)
    assert pair.roots[0].setting(static[0]) == static[2]
    # The agent of the other one is killed, and what it was told is not forgotten.
    agent = pair.argosy.agent_pid(second)
    assert agent is not None
    os.kill(agent, signal.SIGKILL)
    wait_until("it has a new agent", lambda: pair.argosy.agent_pid(second) not in {None, agent})
    wait_until("it waits for a restart", lambda: pair.show(second)["status"] == "RESTART_REQUIRED")
    pair.restart(second)
    pair.argosy.wait_until_healthy(pair.client, second)
    assert (pair.settings(dynamic[0]), pair.settings(static[0])) == ([dynamic[2]] * 2, [static[2]] * 2)
    pair.let_go()
    assert (pair.settings(dynamic[0]), pair.settings(static[0])) == before


def test_a_value_that_the_server_refuses_is_rolled_back_and_it_serves_on(pair: Pair) -> None:
    dynamic, refused = pair.engine.dynamic, pair.engine.refused
    group = pair.group({dynamic[0]: dynamic[1]})
    pair.attach(group)
    pair.wait_for("applied")
    before = pair.settings(refused[0])
    pair.change(group, {refused[0]: refused[1]})
    pair.wait_for("refused")
    for one in pair.ids:
        shown, how = pair.show(one), pair.outcome(one)
        assert (shown["status"], shown["operating_status"]) == ("ACTIVE", "HEALTHY")
        assert refused[2] in how["error"]
        assert (how["revision"], how["newest"]) == (1, 2)
        listed = pair.client.get("/operations", params={"instance_id": one, "limit": 1}).json()["operations"]
        assert (listed[0]["kind"], listed[0]["state"]) == ("instance.configure", "failed")
        assert refused[2] in listed[0]["error"]
    assert (pair.settings(dynamic[0]), pair.settings(refused[0])) == ([dynamic[2]] * 2, before)
    back = pair.client.post(f"/configurations/{group}/rollback", json={"rollback": {"revision": 1}})
    assert back.status_code == 200
    pair.wait_for("applied")
    assert pair.outcome(pair.ids[0])["revision"] == 3


def test_one_that_is_busy_or_has_lost_its_agent_catches_up(pair: Pair) -> None:
    dynamic = pair.engine.dynamic
    group = pair.group({})
    pair.attach(group)
    pair.wait_for("applied")
    busy, bereft = pair.ids
    pair.restart(busy)
    agent = pair.argosy.agent_pid(bereft)
    assert agent is not None
    os.kill(agent, signal.SIGKILL)
    pair.change(group, {dynamic[0]: dynamic[1]})
    pair.wait_for("applied")
    assert pair.settings(dynamic[0]) == [dynamic[2]] * 2


def test_a_new_instance_starts_with_its_group(argosy: Server, demo: Client, fleet: dict[str, Pair]) -> None:
    pair = fleet["valkey"]
    dynamic, static = pair.engine.dynamic, pair.engine.static
    group = pair.group({dynamic[0]: dynamic[1], static[0]: static[1]})
    made = argosy.create(demo, "follower", "valkey", configuration=group)
    root = Root(argosy, demo, made)
    assert (root.setting(dynamic[0]), root.setting(static[0])) == (dynamic[2], static[2])
    assert pair.outcome(made["id"])["state"] == "applied"
    assert demo.delete(f"/configurations/{group}").status_code == 400
    demo.delete(f"/instances/{made['id']}")
    argosy.wait_until_gone(demo, made["id"])
    assert demo.delete(f"/configurations/{group}").status_code == 202


def test_a_server_that_is_stopped_starts_with_what_its_group_says_by_then(fleet: dict[str, Pair]) -> None:
    pair = fleet["valkey"]
    dynamic, static = pair.engine.dynamic, pair.engine.static
    group, (one, other) = pair.group({}), pair.ids
    pair.attach(group)
    pair.wait_for("applied")
    for what in ("stop", "start"):
        assert pair.client.post(f"/instances/{one}/action", json={what: {}}).status_code == 202
        wait_until(f"{what} is done", lambda: not pair.show(one)["argosy"]["operation"])
        if what == "stop":
            pair.change(group, {dynamic[0]: dynamic[1], static[0]: static[1]})
            pair.wait_for("applied", one)
            pair.wait_for("restart-required", other)
    pair.argosy.wait_until_healthy(pair.client, one)
    assert pair.outcome(one)["state"] == "applied"
    assert (pair.roots[0].setting(dynamic[0]), pair.roots[0].setting(static[0])) == (dynamic[2], static[2])
    pair.let_go()


def test_of_many_changes_the_last_one_holds_everywhere(fleet: dict[str, Pair]) -> None:
    pair = fleet["valkey"]
    name = pair.engine.dynamic[0]
    group = pair.group({name: 1})
    pair.attach(group)
    for value in range(100, 120):
        pair.change(group, {name: value})
    with ThreadPoolExecutor(5) as pool:
        list(pool.map(lambda value: pair.change(group, {name: value}), range(200, 210)))
    shown = pair.client.get(f"/configurations/{group}").json()["configuration"]
    assert shown["revision"] == 31
    pair.wait_for("applied")
    assert pair.settings(name) == [str(shown["values"][name])] * 2
    pair.let_go()


def test_a_server_that_does_not_start_with_its_group_runs_with_what_worked(fleet: dict[str, Pair]) -> None:
    pair = fleet["postgresql"]
    one, _ = pair.ids
    before = pair.roots[0].setting("shared_buffers")
    group = pair.group({"shared_buffers": "4096GB"})
    demo = pair.client
    assert demo.put(f"/instances/{one}", json={"instance": {"configuration": group}}).status_code == 202
    pair.wait_for("restart-required", one)
    pair.restart(one)
    pair.argosy.wait_until_healthy(demo, one)
    pair.wait_for("given-up", one)
    assert pair.roots[0].setting("shared_buffers") == before
    assert "shared_buffers" in pair.outcome(one)["error"]
    pair.change(group, {"shared_buffers": "24MB"})
    pair.wait_for("restart-required", one)
    pair.restart(one)
    pair.argosy.wait_until_healthy(demo, one)
    assert pair.roots[0].setting("shared_buffers") == "24MB"
    assert pair.outcome(one)["state"] == "applied"
    pair.let_go()
