"""What the OpenAPI document says holds for whatever is sent: thousands of requests to every route, made by schemathesis.

`make fuzz` sends many more than a test run does (ARGOSY_FUZZ is how many to each route).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial
from typing import Any

import httpx
import pytest

from tests.support.backups import back_up
from tests.support.fuzz import Fuzz
from tests.support.server import Client, Server, running, wait_until

PER_ROUTE = int(os.environ.get("ARGOSY_FUZZ", "8"))
# Enough for the instances of the test, and a few that are made by what is sent.
QUOTAS = {"ARGOSY_QUOTAS__INSTANCES": "4"}
USER = {"name": "ann", "password": "Ann-secret-77", "databases": [{"name": "shop"}]}


@pytest.fixture(scope="module")
def argosy() -> Iterator[Server]:
    with running(**QUOTAS) as server:
        yield server


@pytest.fixture(scope="module")
def demo(argosy: Server) -> Client:
    return argosy.client("demo")


@pytest.fixture(scope="module")
def instances(argosy: Server, demo: Client) -> list[str]:
    """A PostgreSQL and a Valkey that stay, and a Valkey to throw away."""
    made = [
        argosy.create(demo, "pg", "postgresql", databases=[{"name": "shop"}], users=[USER]),
        argosy.create(demo, "vk", "valkey", users=[{"name": "ann", "password": "Ann-secret-77"}]),
        argosy.create(demo, "rag", "valkey", flavorRef="1"),
    ]
    return [one["id"] for one in made]


@pytest.fixture(scope="module")
def group(demo: Client, instances: list[str]) -> str:
    """A configuration group with a history, for the PostgreSQL."""
    asked = {"name": "group", "values": {"work_mem": "4MB"}, "datastore": {"type": "postgresql"}}
    answer = wait_until(
        "the parameters are known",
        lambda: (made := demo.post("/configurations", json={"configuration": asked})).is_success and made,
    )
    group_id = str(answer.json()["configuration"]["id"])
    demo.patch(f"/configurations/{group_id}", json={"configuration": {"values": {"work_mem": "5MB"}}})
    return group_id


@pytest.fixture(scope="module")
def backups(demo: Client, instances: list[str]) -> list[str]:
    """A full one and an increment of the PostgreSQL, and one of the Valkey."""
    made = [
        back_up(demo, instances[0]),
        back_up(demo, instances[0], incremental=1),
        back_up(demo, instances[1]),
    ]
    assert {one["status"] for one in made} == {"COMPLETED"}, made
    return [one["id"] for one in made]


def known(client: Client, instances: list[str], group: str, backups: list[str]) -> dict[str, list[Any]]:
    """What exists, by the names of the parameters that may name it."""
    datastores = client.get("/datastores").json()["datastores"]
    names = [one["name"] for one in datastores]
    versions = [version["id"] for one in datastores for version in one["versions"]]
    return {
        "instance_id": instances,
        "configuration_id": [group],
        "backup_id": backups,
        "cascade": ["false"],
        "revision": ["1", "2", "9"],
        "from": [0, 1, 9],
        "to": [1, 2, 9],
        "database": ["shop", "new"],
        "user": ["ann", "eve"],
        "datastore": names,
        "version": ["17", "8", "11.8", versions[0]],
        "version_id": versions,
        "flavor_id": ["1", "2"],
        "name": ["max_connections", "work_mem", "maxmemory"],
        "operation_id": [one["id"] for one in client.get("/operations").json()["operations"]],
        "of_project": [client.project_id, "0" * 32],
        "key": ["stage"],
        "marker": ["1", instances[0]],
        "limit": [1, 3, 1000],
        "kind": ["instance.create"],
        "schedule_id": [_schedule(client, instances[0])],
        "deleted": ["true", "false"],
    }


def _schedule(client: Client, instance_id: str) -> str:
    """One that is off: the instance is to be free for what is sent."""
    asked = {"backup_schedule": {"instance_id": instance_id, "enabled": False}}
    return str(client.post("/backup_schedules", json=asked).json()["backup_schedule"]["id"])


_VALUES = {"configuration": {"values": {"work_mem": "6MB", "DateStyle": "nonsense"}}}
_GROUP = "/configurations/{configuration_id}"
BODIES: dict[tuple[str, str], list[Any]] = {
    ("POST", "/configurations"): [
        {"configuration": {"name": "g", "values": {"timeout": 1}, "datastore": {"type": "valkey"}}}
    ],
    ("PUT", _GROUP): [_VALUES, {"configuration": {}}],
    ("PATCH", _GROUP): [_VALUES, {"configuration": {"values": {"max_connections": 50}, "unset": []}}],
    ("POST", f"{_GROUP}/rollback"): [{"rollback": {"revision": 1}}, {"rollback": {"revision": 2}}],
    ("POST", f"{_GROUP}/dry_run"): [_VALUES, {"configuration": {"revision": 1}}, {"configuration": {}}],
    ("POST", "/instances/{instance_id}/action"): [
        {"restart": {}},
        {"stop": {}},
        {"start": {}},
        {"resize": {"flavorRef": "1"}},
        {"resize": {"volume": {"size": 2}}},
        {"reset_status": {}},
    ],
    ("PUT", "/instances/{instance_id}"): [
        {"instance": {"name": "another"}},
        {"instance": {"access": {"is_public": False, "allowed_cidrs": ["127.0.0.0/8"]}}},
        {"instance": {"access": {}}},
        {"instance": {"datastore_version": "1"}},
        {"instance": {"configuration": None}},
    ],
    ("POST", "/instances/{instance_id}/log"): [
        {"name": "slow_query", "enable": 1},
        {"name": "error", "publish": 1},
        {"name": "error", "discard": 1},
    ],
    ("POST", "/mgmt/instances/{instance_id}/action"): [
        {"stop": {}},
        {"reboot": {}},
        {"reset-task-status": {}},
    ],
    ("POST", "/instances/{instance_id}/databases"): [{"databases": [{"name": "new"}]}],
    ("POST", "/instances/{instance_id}/users"): [
        {"users": [{"name": "eve", "password": "Eve-secret-77", "databases": []}]}
    ],
    ("PUT", "/instances/{instance_id}/tags"): [{"tags": {"stage": "test"}}],
    ("PATCH", "/instances/{instance_id}/tags"): [{"tags": {"stage": None, "team": "web"}}],
}


def of_backups(instances: list[str], backups: list[str]) -> dict[tuple[str, str], list[Any]]:
    """Bodies that make backups, and restore them."""
    location = f"directory:///database_backups/{instances[0]}/{backups[0]}/"
    asked: list[dict[str, Any]] = [
        {"instance": instances[0], "incremental": 1},
        {"instance": instances[1], "swift_container": "vault"},
        {"instance": instances[0], "parent_id": backups[0]},
        {"restore_from": {"remote_location": location}},
    ]
    copies = [{"backupRef": one, "users": "backup"} for one in backups]
    action = ("POST", "/instances/{instance_id}/action")
    restores: list[dict[str, Any]] = [{"restore": {"backup": one}} for one in backups]
    strategy = {"swift_container": "vault", "instance_id": instances[1]}
    return {
        ("POST", "/backups"): [{"backup": {"name": "fuzzed", **one}} for one in asked],
        ("POST", "/instances"): [{"instance": {"name": "copy", "restorePoint": one}} for one in copies],
        ("POST", "/backup_strategies"): [{"backup_strategy": strategy}],
        action: BODIES[action] + restores,
    }


@pytest.fixture(scope="module")
def fuzz(argosy: Server, demo: Client, instances: list[str], group: str, backups: list[str]) -> Fuzz:
    of_instance = ("PUT", "/instances/{instance_id}"), ("PATCH", "/instances/{instance_id}")
    changes = [{"instance": {}}, {"instance": {"configuration": group}}, {"instance": {"name": "new"}}]
    return Fuzz(
        url=argosy.url,
        clients=[argosy.client("admin"), demo],
        known=known(demo, instances, group, backups),
        bodies={**BODIES, **dict.fromkeys(of_instance, changes), **of_backups(instances, backups)},
    )


@pytest.mark.timeout(3600)
def test_nothing_that_is_sent_is_answered_otherwise_than_the_document_says(
    argosy: Server, demo: Client, instances: list[str], fuzz: Fuzz
) -> None:
    def protect() -> None:
        """Two instances are never deleted, whatever is sent; what is done to them ends at some time."""
        for instance_id in instances[:2]:
            answer = demo.put(f"/instances/{instance_id}/protection", json={"protected": True})
            assert answer.status_code == 200, answer.text

    fuzz.run(PER_ROUTE, prepare=protect)
    print(dict(sorted(fuzz.sent.items())))  # noqa: T201 - for whoever asks for more
    assert not fuzz.failures, "\n".join(fuzz.failures)
    assert sum(fuzz.sent.values()) > 40 * PER_ROUTE
    for instance_id in instances[:2]:
        wait_until("what was asked has ended", partial(_settled, demo, instance_id), 180)
        wait_until("it can be started", partial(_started, demo, instance_id), 180, every_s=0.2)
        argosy.wait_until_healthy(demo, instance_id)


def _started(client: Client, instance_id: str) -> bool:
    """Whether it is being started, or runs. A sweep may have begun to give it its configuration group's values."""
    answer = client.post(f"/instances/{instance_id}/action", json={"start": {}})
    return answer.status_code == 202 or "its database server runs" in answer.text


def _settled(client: Client, instance_id: str) -> bool:
    operations = client.get("/operations", params={"instance_id": instance_id}).json()["operations"]
    return all(one["state"] in {"succeeded", "failed"} for one in operations)


def test_no_path_answers_a_method_that_it_has_not(fuzz: Fuzz) -> None:
    fuzz.every_method()
    assert not fuzz.failures, "\n".join(fuzz.failures)


def test_every_route_states_its_failures(argosy: Server) -> None:
    document = httpx.get(f"{argosy.url}/openapi.json", timeout=60).json()
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if path.startswith("/v1.0/"):
                assert {"401", "403", "500"} <= set(operation["responses"]), f"{method} {path}"
