"""Backups of every kind of database: made while it serves, restored elsewhere and in place, with the whole service."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from argosy import catalog
from tests.support.backups import (
    LATER,
    SECRET,
    Shop,
    back_up,
    delete_backup,
    made,
    restore_in_place,
    restored,
)
from tests.support.server import Client, Server


@pytest.fixture(params=["postgresql", "mariadb", "valkey"])
def instance(request: pytest.FixtureRequest, argosy: Server, demo: Client) -> Iterator[dict[str, Any]]:
    instance = made(argosy, demo, f"backed-{request.param}", request.param, flavorRef="1")
    yield instance
    if demo.delete(f"/instances/{instance['id']}").status_code == 202:
        argosy.wait_until_gone(demo, instance["id"])


def _objects(argosy: Server) -> set[Path]:
    """The files of the store; other tests' archives are among them."""
    return set((argosy.home / "backups" / "files").rglob("?" * 32))


def test_the_whole_service_comes_back(argosy: Server, demo: Client, instance: dict[str, Any]) -> None:
    instance_id, datastore = instance["id"], instance["datastore"]["type"]
    can_increment = "incremental_backups" in catalog.datastores()[datastore].capabilities
    others = _objects(argosy)
    with closing(Shop(argosy, instance)) as shop:
        shop.put(1, 2)
        full = back_up(demo, instance_id)
        assert full["status"] == "COMPLETED", full["argosy"]["error"]
        assert full["size"] > 0
        assert full["parent_id"] is None
        shop.put(3)
        asked = {"name": "again", "instance": instance_id, "incremental": 1}
        if can_increment:
            newest = back_up(demo, instance_id, "again", incremental=1)
            assert newest["status"] == "COMPLETED", newest["argosy"]["error"]
            assert newest["parent_id"] == full["id"]
            assert demo.delete(f"/backups/{full['id']}").status_code == 409
        else:
            answer = demo.post("/backups", json={"backup": asked})
            assert answer.status_code == 501
            assert "no incremental backups" in answer.text
            newest = back_up(demo, instance_id, "again")
        shop.put(4)
    password = {"users": [{"name": "ann", "password": LATER}]}
    assert demo.put(f"/instances/{instance_id}/users", json=password).status_code == 202

    other = restored(argosy, demo, "other", newest["id"])
    assert (other["flavor"], other["volume"]["size"]) == (instance["flavor"], instance["volume"]["size"])
    assert other["datastore"] == instance["datastore"]
    with closing(Shop(argosy, other, LATER)) as shop:
        assert shop.numbers() == [1, 2, 3]
        shop.put(5)

    operation = restore_in_place(argosy, demo, instance_id, backup=full["id"])
    assert operation["state"] == "succeeded", operation["error"]
    with closing(Shop(argosy, instance, LATER)) as shop:
        assert shop.numbers() == [1, 2]
        shop.put(6)

    demo.delete(f"/instances/{instance_id}")
    argosy.wait_until_gone(demo, instance_id)
    listed = demo.get(f"/backups?instance_id={instance_id}").json()["backups"]
    assert {one["id"] for one in listed} == {full["id"], newest["id"]}
    then = restored(argosy, demo, "then", full["id"])
    with closing(Shop(argosy, then, SECRET)) as shop:
        assert shop.numbers() == [1, 2]
    for one in (other, then):
        demo.delete(f"/instances/{one['id']}")
        argosy.wait_until_gone(demo, one["id"])
    delete_backup(demo, full["id"])
    if not can_increment:
        delete_backup(demo, newest["id"])
    assert demo.get(f"/backups?instance_id={instance_id}").json()["backups"] == []
    assert _objects(argosy) <= others, "its backups have left something in the store"


@pytest.mark.parametrize(
    ("datastore", "older", "newer"),
    [
        pytest.param("mariadb", "10.11", "11.8"),
        pytest.param(
            "postgresql",
            "15",
            "17",
            marks=pytest.mark.skipif(
                "ARGOSY_TEST_LONG" not in os.environ, reason="one is enough for every day"
            ),
        ),
    ],
)
def test_a_backup_of_an_older_version_becomes_an_instance_of_a_newer_one(
    argosy: Server, demo: Client, datastore: str, older: str, newer: str
) -> None:
    source = made(argosy, demo, "of-old", datastore, older)
    with closing(Shop(argosy, source)) as shop:
        shop.put(1)
    backup = back_up(demo, source["id"])
    point = {"backupRef": backup["id"]}
    refused = {"name": "x", "restorePoint": point, "datastore": {"type": "valkey"}, "volume": {"size": 1}}
    assert demo.post("/instances", json={"instance": refused}).status_code == 400
    other = restored(argosy, demo, "of-new", backup["id"], datastore={"type": datastore, "version": newer})
    assert other["datastore"]["version"] == newer
    with closing(Shop(argosy, other)) as shop:
        assert shop.numbers() == [1]
    for one in (source, other):
        demo.delete(f"/instances/{one['id']}")
        argosy.wait_until_gone(demo, one["id"])
    delete_backup(demo, backup["id"])
