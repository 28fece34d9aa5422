"""An instance moves to another version through the API, or stays on its own, running, with its data."""

from __future__ import annotations

from typing import Any

import pytest

from argosy import catalog
from tests.support.databases import connected
from tests.support.server import Client, Server, wait_until

USER = {"name": "ann", "password": "Ann-secret-77"}


def version_id(datastore: str, version: str) -> str:
    return catalog.files()[datastore].version(version).id


def made(argosy: Server, demo: Client, datastore: str, version: str) -> dict[str, Any]:
    more: dict[str, Any] = {"users": [USER]}
    if datastore in {"postgresql", "mariadb"}:
        more = {"users": [{**USER, "databases": [{"name": "shop"}]}], "databases": [{"name": "shop"}]}
    body = {
        "name": f"moved-{datastore}-{version}",
        "flavorRef": "2",
        "volume": {"size": 1},
        "datastore": {"type": datastore, "version": version},
        **more,
    }
    answer = demo.post("/instances", json={"instance": body})
    assert answer.status_code == 200, answer.text
    instance = argosy.wait_until_healthy(demo, answer.json()["instance"]["id"])
    with session(argosy, instance) as connection:
        connection.write("kept", "all along")
    return instance


def session(argosy: Server, instance: dict[str, Any]) -> Any:
    database = "shop" if instance["datastore"]["type"] in {"postgresql", "mariadb"} else None
    return connected(argosy, instance, USER["name"], USER["password"], database)


def upgrade(demo: Client, instance: dict[str, Any], to: str) -> None:
    answer = demo.patch(f"/instances/{instance['id']}", json={"instance": {"datastore_version": to}})
    assert answer.status_code == 202, answer.text
    assert demo.get(f"/instances/{instance['id']}").json()["instance"]["status"] in {"UPGRADE", "ACTIVE"}


def last(demo: Client, instance: dict[str, Any], kind: str) -> dict[str, Any]:
    """The newest operation of a kind, ended."""

    def ended() -> dict[str, Any] | None:
        listed = demo.get("/operations", params={"instance_id": instance["id"], "kind": kind}).json()
        newest: dict[str, Any] = listed["operations"][0]
        return newest if newest["state"] in {"succeeded", "failed"} else None

    found: dict[str, Any] = wait_until(f"{kind} ends", ended, 120)
    return found


def events(demo: Client, instance: dict[str, Any], kind: str) -> list[str]:
    listed = demo.get("/events", params={"instance_id": instance["id"], "kind": kind}).json()["events"]
    return [one["message"] for one in listed]


def take_away(argosy: Server, demo: Client, instance: dict[str, Any]) -> None:
    demo.delete(f"/instances/{instance['id']}")
    argosy.wait_until_gone(demo, instance["id"])
    assert instance["id"] not in argosy.leftovers()


@pytest.mark.parametrize(
    ("before", "after"),
    [("postgresql/15", "postgresql/18"), ("mariadb/10.11", "mariadb/11.8"), ("redis/7", "valkey/9")],
)
def test_an_instance_moves_to_a_newer_version_with_all_that_is_in_it(
    argosy: Server, demo: Client, before: str, after: str
) -> None:
    datastore, _, version = after.partition("/")
    instance = made(argosy, demo, *before.split("/"))
    listed = demo.get(f"/instances/{instance['id']}/upgrades").json()["upgrades"]
    assert {
        "id": version_id(datastore, version),
        "name": version,
        "datastore": datastore,
        "converts": True,
    } in listed
    body = {"rehearsal": {"datastore_version": version_id(datastore, version)}}
    answer = demo.post(f"/instances/{instance['id']}/upgrade-rehearsals", json=body)
    assert answer.status_code == 202, answer.text
    assert demo.get(f"/instances/{instance['id']}").json()["instance"]["status"] == "ACTIVE"
    rehearsed = last(demo, instance, "instance.rehearse_upgrade")
    assert rehearsed["state"] == "succeeded", rehearsed
    (told,) = events(demo, instance, "upgrade.rehearsed")
    assert "worked on a copy of the data" in told
    argosy.wait_until_healthy(demo, instance["id"])

    upgrade(demo, instance, version_id(datastore, version))
    operation = last(demo, instance, "instance.upgrade")
    assert operation["state"] == "succeeded", operation
    now = argosy.wait_until_healthy(demo, instance["id"])
    assert now["datastore"]["type"] == datastore
    assert now["datastore"]["version"] == version
    assert now["ip"] == instance["ip"]
    with session(argosy, now) as connection:
        assert connection.read() == {"kept": "all along"}
        connection.write("later", "too")
    take_away(argosy, demo, instance)
