"""Another size: a larger volume while a client writes, another flavor with as little away as the engine allows."""

from __future__ import annotations

import functools
import json
import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from argosy import catalog
from argosy.processes.control_plane import local_platform
from tests.support.databases import connected
from tests.support.server import Client, Server, wait_until
from tests.support.writer import Place, writing

SECRET = "Ann-secret-77"
TINY, SMALL, MEDIUM = "1", "2", "3"


def made(argosy: Server, demo: Client, datastore: str, **more: Any) -> dict[str, Any]:
    user: dict[str, Any] = {"name": "ann", "password": SECRET}
    if datastore not in {"valkey", "redis"}:
        more["databases"] = [{"name": "shop"}]
        user["databases"] = [{"name": "shop"}]
    return argosy.create(demo, f"sized-{datastore}", datastore, users=[user], **more)


def place(argosy: Server, instance: dict[str, Any]) -> Place:
    datastore = instance["datastore"]["type"]
    return Place(
        datastore,
        instance["ip"][0],
        catalog.datastores()[datastore].port,
        "ann",
        argosy.home / "database-ca.crt",
        SECRET,
        "" if datastore in {"valkey", "redis"} else "shop",
    )


def show(demo: Client, instance_id: str) -> dict[str, Any]:
    shown: dict[str, Any] = demo.get(f"/instances/{instance_id}").json()["instance"]
    return shown


def resize(argosy: Server, demo: Client, instance_id: str, asked: Any) -> dict[str, Any]:
    """Resize and wait; the instance then, healthy, with the operation under `operation`."""
    answer = demo.post(f"/instances/{instance_id}/action", json={"resize": asked})
    assert answer.status_code == 202, answer.text
    wait_until("it is resized", lambda: show(demo, instance_id)["status"] != "RESIZE", 120)
    shown = argosy.wait_until_healthy(demo, instance_id)
    operations = demo.get(f"/operations?instance_id={instance_id}").json()["operations"]
    return {**shown, "operation": operations[0]}


def agrees(argosy: Server, demo: Client, instance_id: str, flavor: str, memory_mb: int) -> None:
    """Row, guest and kernel have the same size."""
    shown = show(demo, instance_id)
    assert str(shown["flavor"]["id"]) == flavor
    told = json.loads((argosy.home / "instances" / instance_id / "guest.json").read_text())
    assert told["memory_mb"] == memory_mb
    limits = local_platform(argosy.settings).servers.limits(instance_id)
    assert shown["argosy"]["limits"] == limits
    if "not enforced" not in limits["memory"]:
        assert f"{memory_mb} MB and" in limits["memory"]


def resized_events(demo: Client, instance_id: str) -> list[str]:
    events = demo.get(f"/events?instance_id={instance_id}").json()["events"]
    return [event["message"] for event in events if event["kind"] == "instance.resized"]


@pytest.fixture(params=["postgresql", "mariadb", "valkey"])
def instance(request: pytest.FixtureRequest, argosy: Server, demo: Client) -> Iterator[dict[str, Any]]:
    instance = made(argosy, demo, request.param)
    yield instance
    demo.delete(f"/instances/{instance['id']}")
    argosy.wait_until_gone(demo, instance["id"])


def test_a_client_that_writes_sees_nothing_of_a_larger_volume_and_little_of_another_flavor(
    argosy: Server, demo: Client, instance: dict[str, Any]
) -> None:
    instance_id, datastore = instance["id"], instance["datastore"]["type"]
    with writing(place(argosy, instance)) as writer:
        grown = resize(argosy, demo, instance_id, {"volume": {"size": 2}})
        assert grown["operation"]["state"] == "succeeded"
        assert grown["volume"]["size"] == 2
        writer.goes_on()
        assert writer.failures == []
        restarts = 0
        for flavor, memory_mb in ((MEDIUM, 1024), (TINY, 256)):
            server = argosy.server_pid(instance_id)
            assert (
                resize(argosy, demo, instance_id, {"flavorRef": flavor})["operation"]["state"] == "succeeded"
            )
            restarted = argosy.server_pid(instance_id) != server
            restarts += restarted
            told = resized_events(demo, instance_id)[0]
            assert ("with one restart" in told) is restarted
            assert ("was away for" in told) is restarted
            agrees(argosy, demo, instance_id, flavor, memory_mb)
            writer.goes_on()
        if datastore == "valkey":
            assert restarts == 0
            assert writer.failures == []
    assert writer.missing() == []


def test_a_size_the_server_does_not_start_with_is_given_back(argosy: Server, demo: Client) -> None:
    """Reserved connections that are fine in a small server are more than a tiny one has in all."""
    group = {
        "name": "reserving",
        "datastore": {"type": "postgresql", "version": catalog.datastores()["postgresql"].default_version},
        "values": {"reserved_connections": 90},
    }
    answer = demo.post("/configurations", json={"configuration": group})
    assert answer.status_code == 200, answer.text
    group_id = answer.json()["configuration"]["id"]
    instance = made(argosy, demo, "postgresql", configuration=group_id)
    with writing(place(argosy, instance)) as writer:
        back = resize(argosy, demo, instance["id"], {"flavorRef": TINY})
        assert back["operation"]["state"] == "failed"
        assert "reserved_connections" in back["operation"]["error"]
        agrees(argosy, demo, instance["id"], SMALL, 512)
        writer.goes_on()
    assert writer.missing() == []
    demo.delete(f"/instances/{instance['id']}")
    argosy.wait_until_gone(demo, instance["id"])
    demo.delete(f"/configurations/{group_id}")


def test_data_that_does_not_fit_into_less_memory_stays_where_it_is(
    argosy: Server, demo: Client, valkey: dict[str, Any]
) -> None:
    with writing(place(argosy, valkey)) as writer:
        fill(argosy, valkey, megabytes=250)
        back = resize(argosy, demo, valkey["id"], {"flavorRef": TINY})
        assert back["operation"]["state"] == "failed"
        assert "may hold 192 MB" in back["operation"]["error"]
        agrees(argosy, demo, valkey["id"], SMALL, 512)
        writer.goes_on()
        assert writer.failures == []


def fill(argosy: Server, instance: dict[str, Any], *, megabytes: int) -> None:
    with connected(argosy, instance, "ann", SECRET) as session:
        for number in range(megabytes):
            session.write(f"filled-{number}", "x" * 2**20)


def test_an_agent_killed_in_the_middle_is_no_reason_to_fail(
    argosy: Server, demo: Client, valkey: dict[str, Any]
) -> None:
    answer = demo.post(f"/instances/{valkey['id']}/action", json={"resize": {"flavorRef": MEDIUM}})
    assert answer.status_code == 202
    for _ in range(3):
        agent = argosy.agent_pid(valkey["id"])
        if agent is not None:
            with suppress(ProcessLookupError):  # it ends by itself, too, to have another size
                os.kill(agent, signal.SIGKILL)
        wait_until("another agent runs", functools.partial(another_agent, argosy, valkey["id"], agent))
    wait_until("it is resized", lambda: show(demo, valkey["id"])["status"] != "RESIZE", 120)
    argosy.wait_until_healthy(demo, valkey["id"])
    operation = demo.get(f"/operations?instance_id={valkey['id']}").json()["operations"][0]
    assert operation["state"] == "succeeded", operation["error"]
    agrees(argosy, demo, valkey["id"], MEDIUM, 1024)


def another_agent(argosy: Server, instance_id: str, than: int | None) -> bool:
    return argosy.agent_pid(instance_id) not in {than, None}


def test_a_volume_the_machine_cannot_hold_is_refused_with_the_numbers_and_all_goes_on(
    argosy: Server, demo: Client, valkey: dict[str, Any]
) -> None:
    admin = argosy.client("admin")
    quotas = f"/mgmt/quotas/{demo.project_id}"
    assert admin.put(quotas, json={"quotas": {"volumes": 5000}}).status_code == 200
    try:
        with writing(place(argosy, valkey)) as writer:
            free_gb = os.statvfs(argosy.home).f_bavail * os.statvfs(argosy.home).f_frsize // 2**30
            back = resize(argosy, demo, valkey["id"], {"volume": min(1000, free_gb + 200)})
            assert back["operation"]["state"] == "failed"
            assert " GB free" in back["operation"]["error"]
            assert back["volume"]["size"] == valkey["volume"]["size"]
            writer.goes_on()
            assert writer.failures == []
        assert admin.put(quotas, json={"quotas": {"volumes": 40}}).status_code == 200
        over = demo.post(f"/instances/{valkey['id']}/action", json={"resize": {"volume": 900}})
        assert over.status_code == 413
        assert "volumes" in over.text
    finally:
        assert admin.put(quotas, json={"quotas": {"volumes": -1}}).status_code == 200
