"""/mgmt/drift: where the cloud and the metadata differ."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from argosy.domain.drift import Finding
from tests.api.conftest import Api

DRIFT = "/mgmt/drift"


@pytest.fixture
def instance_id(api: Api) -> Iterator[str]:
    """An instance whose server is gone, beside a volume of nobody's."""
    instance_id = api.silent_mariadb("drifted")
    note(
        api,
        Finding("server-missing", "server argosy-x", "The server was deleted in the cloud.", instance_id),
        Finding("orphan-volume", "volume v", "It is of no instance.", carries="nobody"),
    )
    yield instance_id
    with api.store.write() as tx:
        tx.instances.forget(instance_id)
        for table in ("findings", "operations", "events", "operation_changes"):
            tx.connection.exec_driver_sql(f"DELETE FROM {table}")


def note(api: Api, *found: Finding) -> None:
    with api.store.write() as tx:
        tx.findings.note(found, (), datetime.now(UTC))


def listed(api: Api, query: str = "") -> list[dict[str, Any]]:
    answer = api.admin.get(DRIFT + query)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["findings"]
    return found


def test_differences_are_listed_with_whose_they_are(api: Api, instance_id: str) -> None:
    by_kind = {one["kind"]: one for one in listed(api)}
    missing = by_kind["server-missing"]
    assert (missing["instance_id"], missing["instance_name"]) == (instance_id, "drifted")
    assert missing["tenant_id"] == api.demo.project_id
    assert (missing["resource"], missing["repaired"], missing["gone"]) == ("server argosy-x", False, None)
    assert missing["found"] == missing["seen"]
    orphan = by_kind["orphan-volume"]
    assert (orphan["instance_id"], orphan["instance_name"], orphan["tenant_id"]) == (None, None, None)
    assert [one["kind"] for one in listed(api, f"?instance_id={instance_id}")] == ["server-missing"]
    assert listed(api, "?instance_id=another") == []


def test_those_that_are_over_are_listed_when_they_are_asked_for(api: Api, instance_id: str) -> None:
    note(api)
    assert listed(api) == []
    over = listed(api, f"?all=true&instance_id={instance_id}")
    assert [one["gone"] is not None for one in over] == [True]


def test_the_list_is_paged(api: Api, instance_id: str) -> None:
    first = api.admin.get(f"{DRIFT}?limit=1").json()
    (link,) = first["links"]
    rest = api.admin.get(link["href"].split(api.admin.project_id)[1]).json()
    assert {one["kind"] for one in first["findings"] + rest["findings"]} == {
        "server-missing",
        "orphan-volume",
    }
    assert "links" not in rest
    assert instance_id


def test_an_owner_is_told_in_plain_words(api: Api, instance_id: str) -> None:
    note(api)
    told = api.demo.get(f"/events?instance_id={instance_id}").json()["events"]
    assert [(one["kind"], one["message"]) for one in told] == [
        ("drift.gone", "It is so no longer: The server was deleted in the cloud."),
        ("drift.found", "The server was deleted in the cloud."),
    ]


def test_looking_now_is_an_operation(api: Api, instance_id: str) -> None:
    answer = api.admin.post(f"{DRIFT}/look")
    assert answer.status_code == 202, answer.text
    assert answer.json()["operation"]["kind"] == "drift.look"
    assert answer.json()["operation"]["instance_id"] is None
    assert instance_id


def test_it_is_administrators_alone(api: Api) -> None:
    for method, path in (("GET", DRIFT), ("POST", f"{DRIFT}/look")):
        assert api.demo.request(method, path).status_code == 401
