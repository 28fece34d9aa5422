"""Parameters of versions on the wire (contract 2.16, 2.24), as the API tells them from what a server told."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from argosy import catalog
from argosy.domain.datastore import Version
from argosy.domain.parameters import Catalogue, Parameter
from tests.api.conftest import Api

TOLD = Catalogue(
    "8.1.1",
    (
        Parameter("hz", "integer", restart_required=False, default="10", minimum=0, maximum=500),
        Parameter("maxmemory", "integer", restart_required=False, minimum=0, maximum=2**64 - 1, unit="bytes"),
        Parameter("appendfsync", "string", restart_required=False, allowed=("always", "everysec")),
        Parameter("ratio", "float", restart_required=False, minimum=0.5, maximum=1.79769e308),
        Parameter("databases", "integer", restart_required=True, default="16"),
        Parameter("port", "integer", restart_required=True, owned="it is the way in"),
    ),
)
VERSION = "/datastores/valkey/versions/8/parameters"


def of(body: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "configuration-parameter": {
            "name": "hz",
            "restart_required": 0,
            "data_type": "integer",
            **body,
            **more,
        }
    }


@pytest.fixture
def version(api: Api) -> Iterator[Version]:
    """Valkey 8, whose server has told; nobody has changed anything yet."""
    valkey = catalog.datastores()["valkey"].version("8")
    with api.store.write() as tx:
        tx.parameters.publish("valkey", "8", TOLD)
    yield valkey
    with api.store.write() as tx:
        tx.connection.exec_driver_sql("DELETE FROM parameter_overrides")
        tx.connection.exec_driver_sql("DELETE FROM parameters WHERE datastore = 'valkey'")


@pytest.fixture
def managed(version: Version) -> str:
    return f"/mgmt/datastores/versions/{version.id}/parameters"


def test_a_list_has_the_fields_of_the_contract_and_ours_beside(api: Api, version: Version) -> None:
    shown = api.demo.get(VERSION).json()
    assert list(shown) == ["configuration-parameters"]
    known = {one.pop("name"): one for one in shown["configuration-parameters"]}
    hz = known["hz"]
    argosy = hz.pop("argosy")
    assert hz == {
        "datastore_version_id": version.id,
        "restart_required": False,
        "type": "integer",
        "min": 0,
        "max": 500,
    }
    assert argosy["default"] == "10"
    assert argosy["owned"] is None
    assert "min" not in known["databases"]
    assert known["databases"]["restart_required"] is True
    assert known["appendfsync"]["argosy"]["allowed"] == ["always", "everysec"]
    assert known["port"]["argosy"]["owned"] == "it is the way in"
    # Beyond what clients in Go and Java can hold.
    assert known["maxmemory"]["max"] == 2**63 - 1
    assert "max" not in known["ratio"]


def test_one_is_bare_and_found_in_any_case_by_either_way(api: Api, version: Version) -> None:
    by_name = api.demo.get(f"{VERSION}/HZ").json()
    assert by_name["name"] == "hz"
    assert api.demo.get(f"/datastores/versions/{version.id}/parameters/hz").json() == by_name
    assert api.demo.get(f"{VERSION}/nothing").status_code == 404


def test_a_version_that_was_never_pulled_has_none(api: Api) -> None:
    assert api.demo.get("/datastores/redis/versions/7/parameters").json() == {"configuration-parameters": []}


def test_an_operator_changes_adds_and_hides(api: Api, managed: str) -> None:
    changed = api.admin.put(f"{managed}/hz", json=of({"max_size": 100, "min_size": 1, "restart_required": 1}))
    assert changed.status_code == 200
    assert (changed.json()["min_size"], changed.json()["max_size"]) == (1, 100)
    shown = api.demo.get(f"{VERSION}/hz").json()
    assert (shown["min"], shown["max"], shown["restart_required"]) == (1, 100, True)
    added = api.admin.post(managed, json=of({"name": "search.threads", "max": 8, "min": 1}))
    assert added.json()["name"] == "search.threads"
    assert api.admin.get(f"{managed}/search.threads").json() == added.json()
    assert api.admin.delete(f"{managed}/hz").status_code == 204
    assert api.demo.get(f"{VERSION}/hz").status_code == 404
    assert api.admin.delete(f"{managed}/hz").status_code == 400
    assert api.admin.post(managed, json=of({"max_size": 500, "min_size": 0})).status_code == 200
    assert api.demo.get(f"{VERSION}/hz").json()["argosy"]["default"] == "10"


@pytest.mark.parametrize(
    ("method", "name", "body", "status", "told"),
    [
        ("POST", "", of({"name": "new"}), 400, "an integer needs max_size and min_size"),
        ("POST", "", of({"name": "new", "max_size": 1, "min_size": 2}), 400, "must not be below min_size 2"),
        ("POST", "", of({"name": "new\nport 1", "data_type": "string"}), 400, "configuration-parameter.name"),
        ("POST", "", of({"name": "new", "data_type": "text"}), 400, "configuration-parameter.data_type"),
        ("POST", "", of({"max_size": 1, "min_size": 0}), 400, "there already"),
        ("POST", "", {}, 400, "configuration-parameter"),
        ("PUT", "/port", of({"name": "port", "max_size": 1, "min_size": 1}), 400, "Argosy's to set"),
        ("PUT", "/hz", of({"name": "other", "max_size": 1, "min_size": 1}), 400, "cannot be renamed"),
        ("PUT", "/hz", of({"max_size": 1e300, "min_size": 1}), 400, "configuration-parameter.max_size"),
        ("PUT", "/nothing", of({"name": "nothing", "max_size": 1, "min_size": 1}), 404, "cannot be found"),
        ("GET", "/nothing", None, 404, "cannot be found"),
    ],
)
def test_what_an_operator_cannot_say_is_refused_with_the_reason(
    api: Api, managed: str, method: str, name: str, body: Any, status: int, told: str
) -> None:
    answer = api.admin.request(method, managed + name, json=body)
    assert answer.status_code == status
    assert told in answer.text


def test_administration_is_administrators(api: Api, managed: str) -> None:
    for method in ("GET", "POST"):
        assert api.demo.request(method, managed, json=of({"max_size": 1, "min_size": 0})).status_code == 401
    for method in ("GET", "PUT", "DELETE"):
        body = of({"max_size": 1, "min_size": 0})
        assert api.demo.request(method, f"{managed}/hz", json=body).status_code == 401
