"""Configuration groups on the wire; what the task manager and guests would write is written by the test."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest

from argosy.domain.instance import Instance
from argosy.domain.operations import RestartInstance
from argosy.domain.parameters import Catalogue, Parameter
from argosy.domain.status import Report, Service
from tests.api.conftest import Api
from tests.api.test_contract import DATE, NOBODY, fault, links

DATASTORE = {"type": "mariadb", "version": "10.11"}
CATALOGUE = [
    Parameter("max_connections", "integer", restart_required=False, minimum=10, maximum=100000),
    Parameter("long_query_time", "float", restart_required=False, minimum=0),
    Parameter("slow_query_log", "boolean", restart_required=False),
    Parameter("init_connect", "string", restart_required=False),
    Parameter("back_log", "integer", restart_required=True, minimum=1, maximum=65535),
    Parameter("wsrep_sst_auth", "string", restart_required=False),
    Parameter("port", "integer", restart_required=True, owned="the address is the instance's"),
]

Make = Callable[..., str]


@pytest.fixture(scope="module", autouse=True)
def catalogue(api: Api) -> Iterator[None]:
    with api.store.write() as tx:
        tx.parameters.publish("mariadb", "10.11", Catalogue("10.11.14", tuple(CATALOGUE)))
        tx.parameters.publish("mariadb", "11.8", Catalogue("11.8.3", tuple(CATALOGUE[:1])))
    yield
    with api.store.write() as tx:
        tx.connection.exec_driver_sql("DELETE FROM parameters")


@pytest.fixture(autouse=True)
def empty(api: Api) -> Iterator[None]:
    yield
    with api.store.write() as tx:
        for table in ("instances", "operations", "events", "configurations", "configuration_revisions"):
            tx.connection.exec_driver_sql(f"DELETE FROM {table}")


@pytest.fixture
def group(api: Api) -> Make:
    """Makes a group."""

    def make(values: dict[str, Any] | None = None, name: str = "big", **more: Any) -> str:
        body = {"name": name, "values": values or {}, "datastore": DATASTORE, **more}
        answer = api.demo.post("/configurations", json={"configuration": body})
        assert answer.status_code == 200, answer.text
        return str(answer.json()["configuration"]["id"])

    return make


@pytest.fixture
def instance(api: Api) -> Make:
    """Writes an instance's row, healthy and free."""

    def make(name: str = "db", *, service: Service = Service.HEALTHY, **more: Any) -> str:
        values: dict[str, Any] = {
            "id": str(uuid.uuid4()),
            "project_id": api.demo.project_id,
            "name": name,
            "datastore": "mariadb",
            "version": "10.11",
            "flavor_id": "2",
            "volume_gb": 1,
            "created_at": datetime.now(UTC),
            "updated_at": datetime.now(UTC),
            "access": {"is_public": False},
        }
        made = Instance(**values | more)
        with api.store.write() as tx:
            tx.instances.add(made)
            tx.instances.set_address(made.id, "127.77.1.9")
            tx.instances.report(made.id, Report(service, 1, datetime.now(UTC)))
        return made.id

    return make


def shown(api: Api, group_id: str) -> dict[str, Any]:
    found: dict[str, Any] = api.demo.get(f"/configurations/{group_id}").json()["configuration"]
    return found


def attach(api: Api, instance_id: str, group_id: str | None) -> int:
    return api.demo.put(
        f"/instances/{instance_id}", json={"instance": {"configuration": group_id}}
    ).status_code


def outcome(api: Api, instance_id: str) -> dict[str, Any]:
    found: dict[str, Any] = api.demo.get(f"/instances/{instance_id}").json()["instance"]["argosy"][
        "configuration"
    ]
    return found


def finish(api: Api, instance_id: str, *, error: str | None = None) -> None:
    """What the task manager does: apply the newest revision, and end the operation."""
    with api.store.write() as tx:
        one = tx.instances.get(instance_id)
        assert one.operation_id is not None
        assert one.operation_kind == "instance.configure"
        newest = one.configuration_newest or 0
        if error is None:
            tx.instances.applied(one.id, one.configuration_id, newest)
        else:
            tx.instances.not_applied(one.id, one.configuration_id, newest, error, refused=True)
        tx.operations.succeed(one.operation_id)


def operations(api: Api, instance_id: str) -> list[str]:
    listed = api.demo.get("/operations", params={"instance_id": instance_id}).json()["operations"]
    return [one["kind"] for one in listed]


def test_a_group_is_made_shown_and_listed_field_by_field(api: Api) -> None:
    body = {
        "name": "big",
        "description": "for the shop",
        "datastore": DATASTORE,
        "values": {"MAX_CONNECTIONS": 555, "slow-query-log": True, "long_query_time": 0.5},
    }
    made = api.demo.post("/configurations", json={"configuration": body})
    assert made.status_code == 200
    detail = made.json()["configuration"]
    assert detail["values"] == {"max_connections": 555, "slow_query_log": "on", "long_query_time": 0.5}
    item = {
        key: value
        for key, value in detail.items()
        if key not in {"values", "instance_count", "datastore_version_number", "revision"}
    }
    version = api.demo.get("/datastores/mariadb/versions/10.11").json()["version"]
    assert item == {
        "id": detail["id"],
        "name": "big",
        "description": "for the shop",
        "created": detail["created"],
        "updated": detail["updated"],
        "datastore_version_id": version["id"],
        "datastore_name": "mariadb",
        "datastore_version_name": "10.11",
    }
    assert DATE.fullmatch(detail["created"])
    assert (detail["instance_count"], detail["datastore_version_number"]) == (0, "10.11")
    assert api.demo.get(f"/configurations/{detail['id']}").json()["configuration"] == detail
    assert api.demo.get("/configurations").json() == {"configurations": [item]}
    assert api.demo.get(f"/configurations/{detail['id']}/instances").json() == {"instances": []}


def test_every_value_that_cannot_be_is_named_in_one_error(api: Api) -> None:
    values = {"max_connections": 5, "back_log": "many", "nothing": 1, "port": 1, "init_connect": [1]}
    body = {"configuration": {"name": "bad", "values": values, "datastore": DATASTORE}}
    message = fault(api.demo.post("/configurations", json=body), 422, "unprocessableEntity")
    for told in ("max_connections", "from 10 to 100000", "back_log", "nothing", "port", "init_connect"):
        assert told in message
    assert api.demo.get("/configurations").json() == {"configurations": []}


@pytest.mark.parametrize(
    ("values", "status"),
    [
        ([], 400),
        ("max_connections=1", 400),
        (None, 400),
        ({"max_connections": {"a": 1}}, 422),
        ({"max_connections": None}, 422),
        ({"max_connections": True}, 422),
        ({"max_connections": "1; DROP TABLE x"}, 422),
        ({"init_connect": "a\nport=1"}, 422),
        ({"init_connect": "x" * 5000}, 422),
        ({"\x00": 1}, 422),
        ({"": 1}, 422),
        ({"max_connections": 20, "MAX-connections": 30}, 422),
        ({f"p{number}": 1 for number in range(10_000)}, 400),
        ({f"p{number}": 1 for number in range(900)}, 422),
        ({"x" * 900_000: 1}, 422),
        ({"init_connect": "y" * 1_100_000}, 413),
    ],
    ids=lambda value: str(value)[:40],
)
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
def test_hostile_values_are_refused_and_change_nothing(
    api: Api, group: Make, method: str, values: Any, status: int
) -> None:
    made = group({"max_connections": 20})
    path = "/configurations" if method == "POST" else f"/configurations/{made}"
    body = {"configuration": {"name": "x", "values": values, "datastore": DATASTORE}}
    answer = api.demo.request(method, path, json=body)
    assert answer.status_code == status, answer.text
    assert len(answer.text) < 20_000
    assert shown(api, made)["values"] == {"max_connections": 20}
    assert shown(api, made)["name"] == "big"


@pytest.mark.parametrize(
    ("number", "status"),
    [
        ("9" * 5000, {400, 422}),
        ("1" + "0" * 400, {422}),
        ("-1", {422}),
        ("1.5", {422}),
        ("1e400", {422}),
        ("NaN", {400, 422}),
    ],
)
def test_numbers_no_machine_holds_are_refused(api: Api, number: str, status: set[int]) -> None:
    body = f'{{"configuration": {{"name": "x", "values": {{"max_connections": {number}}}}}}}'
    answer = api.demo.post(
        "/configurations",
        content=body.replace('"values"', '"datastore": {"type": "mariadb", "version": "10.11"}, "values"'),
        headers={"Content-Type": "application/json"},
    )
    assert answer.status_code in status, answer.text


@pytest.mark.parametrize(
    "change",
    [
        {"name": ""},
        {"name": "x" * 256},
        {"name": 7},
        {"name": "--"},
        {"description": ""},
        {"description": "x" * 256},
        {"note": 1},
        {"note": "x" * 256},
    ],
    ids=str,
)
def test_names_and_words_have_their_bounds(api: Api, group: Make, change: dict[str, Any]) -> None:
    made = group()
    body = {"name": "x", "values": {}, "datastore": DATASTORE} | change
    fault(api.demo.put(f"/configurations/{made}", json={"configuration": body}), 400, "badRequest")
    body["values"] = {"max_connections": 20}
    fault(api.demo.post("/configurations", json={"configuration": body}), 400, "badRequest")


def test_a_version_whose_parameters_are_not_known_takes_no_values(api: Api) -> None:
    body = {"name": "x", "values": {"a": 1}, "datastore": {"type": "valkey"}}
    answer = api.demo.post("/configurations", json={"configuration": body})
    assert "not known yet" in fault(answer, 422, "unprocessableEntity")
    for datastore, status in (({"type": "none"}, 404), ({"type": "mariadb", "version": "0"}, 400)):
        asked = {"name": "x", "values": {}, "datastore": datastore}
        assert api.demo.post("/configurations", json={"configuration": asked}).status_code == status


def test_put_replaces_patch_merges_and_unset_takes_away(api: Api, group: Make) -> None:
    made = group({"max_connections": 20, "back_log": 50})
    path = f"/configurations/{made}"
    answer = api.demo.patch(
        path, json={"configuration": {"values": {"Max_Connections": 30}, "name": "ignored"}}
    )
    assert (answer.status_code, answer.content) == (200, b"")
    assert shown(api, made)["values"] == {"max_connections": 30, "back_log": 50}
    assert shown(api, made)["name"] == "big"
    assert api.demo.patch(path, json={"configuration": {"unset": ["BACK-LOG"]}}).status_code == 200
    assert shown(api, made)["values"] == {"max_connections": 30}
    fault(api.demo.patch(path, json={"configuration": {"unset": ["back_log"]}}), 400, "badRequest")
    answer = api.demo.put(path, json={"configuration": {"values": {"back_log": "60"}, "name": "new"}})
    assert (answer.status_code, answer.content) == (202, b"")
    assert (shown(api, made)["values"], shown(api, made)["name"]) == ({"back_log": 60}, "new")
    assert api.demo.put(path, json={"configuration": {"description": "none left"}}).status_code == 202
    assert shown(api, made)["values"] == {}
    assert shown(api, made)["revision"] == 5
    fault(api.demo.put(f"/configurations/{NOBODY}", json={"configuration": {}}), 404, "itemNotFound")


def test_a_secret_is_masked_wherever_it_is_shown_and_kept_when_the_mask_comes_back(
    api: Api, group: Make
) -> None:
    made = group({"wsrep_sst_auth": "sst:Sesam-77"})
    path = f"/configurations/{made}"
    kept = {"wsrep_sst_auth": "***", "max_connections": 30}
    assert api.demo.put(path, json={"configuration": {"values": kept}}).status_code == 202
    for where in ("", "/revisions", "/revisions/1", "/diff?from=0", "/diff"):
        text = api.demo.get(path + where).text
        assert "Sesam" not in text
    assert shown(api, made)["values"] == kept
    tried = api.demo.post(
        path + "/dry_run", json={"configuration": {"values": {"wsrep_sst_auth": "sst:Sesam-78"}}}
    )
    assert "Sesam" not in tried.text
    with api.store.read() as tx:
        assert tx.configurations.get(made).values["wsrep_sst_auth"] == "sst:Sesam-77"


def test_attaching_and_detaching_begin_operations_and_show_at_once(
    api: Api, group: Make, instance: Make
) -> None:
    made, db = group({"max_connections": 20}), instance()
    assert attach(api, db, made) == 202
    view = api.demo.get(f"/instances/{db}").json()["instance"]
    assert view["configuration"] == {
        "id": made,
        "name": "big",
        "links": links(api.demo, "configurations", made),
    }
    assert (view["status"], view["operating_status"]) == ("ACTIVE", "")
    assert shown(api, made)["instance_count"] == 1
    (follower,) = api.demo.get(f"/configurations/{made}/instances").json()["instances"]
    assert (follower["id"], follower["name"], follower["argosy"]["state"]) == (db, "db", "applying")
    finish(api, db)
    assert outcome(api, db)["state"] == "applied"
    again = api.demo.put(f"/instances/{db}", json={"instance": {"configuration": made}})
    assert "detach it first" in fault(again, 400, "badRequest")
    assert attach(api, db, None) == 202
    assert "configuration" not in api.demo.get(f"/instances/{db}").json()["instance"]
    assert shown(api, made)["instance_count"] == 0
    finish(api, db)
    assert operations(api, db) == ["instance.configure"] * 2
    assert attach(api, db, None) == 202, "nothing to detach is no error"
    assert operations(api, db) == ["instance.configure"] * 2


def test_an_empty_object_detaches_and_a_name_alone_does_not(api: Api, group: Make, instance: Make) -> None:
    made, db = group(), instance()
    url = f"https://elsewhere/v1.0/x/configurations/{made}"
    assert api.demo.patch(f"/instances/{db}", json={"instance": {"configuration": url}}).status_code == 202
    finish(api, db)
    assert api.demo.put(f"/instances/{db}", json={"instance": {"name": "other"}}).status_code == 202
    assert shown(api, made)["instance_count"] == 1
    assert api.demo.put(f"/instances/{db}", json={"instance": {}}).status_code == 202
    assert shown(api, made)["instance_count"] == 0


def test_what_cannot_be_attached_is_refused_and_leaves_nothing(api: Api, group: Make, instance: Make) -> None:
    made, db = group(), instance()
    newer = instance("newer", version="11.8")
    fault(api.demo.put(f"/instances/{newer}", json={"instance": {"configuration": made}}), 400, "badRequest")
    fault(api.demo.put(f"/instances/{db}", json={"instance": {"configuration": NOBODY}}), 404, "itemNotFound")
    fault(api.demo.put(f"/instances/{db}", json={"instance": {"configuration": "big"}}), 404, "itemNotFound")
    impossible: list[Any] = [7.5, [], {}, "", True]
    for value in impossible:
        answer = api.demo.put(f"/instances/{db}", json={"instance": {"configuration": value}})
        fault(answer, 400, "badRequest")
    two = {"configuration": made, "datastore_version": "11.8"}
    fault(api.demo.put(f"/instances/{db}", json={"instance": two}), 400, "badRequest")
    foreign = api.admin.post(
        "/configurations", json={"configuration": {"name": "theirs", "values": {}, "datastore": DATASTORE}}
    ).json()["configuration"]["id"]
    for client in (api.demo, api.admin):
        path = f"{api.demo.base_url}/instances/{db}" if client is api.demo else f"/instances/{db}"
        fault(client.put(path, json={"instance": {"configuration": foreign}}), 404, "itemNotFound")
    assert shown(api, made)["instance_count"] == 0
    assert operations(api, db) == []


def test_a_busy_instance_is_refused_with_400_and_one_that_is_being_configured_goes_on(
    api: Api, group: Make, instance: Make
) -> None:
    first, second, db = group({"max_connections": 20}), group({"max_connections": 30}), instance()
    with api.store.write() as tx:
        request = RestartInstance(operation_id=str(uuid.uuid4()), instance_id=db)
        tx.operations.begin(tx.instances.get(db), request, requested_by="demo")
    fault(api.demo.put(f"/instances/{db}", json={"instance": {"configuration": first}}), 400, "badRequest")
    with api.store.write() as tx:
        tx.operations.succeed(request.operation_id)
    assert attach(api, db, first) == 202
    # Terraform detaches and attaches another without waiting.
    assert attach(api, db, None) == 202
    assert attach(api, db, second) == 202
    assert operations(api, db).count("instance.configure") == 1
    assert shown(api, second)["instance_count"] == 1
    finish(api, db)
    assert outcome(api, db)["state"] == "applied"


def test_a_group_in_use_is_not_deleted_and_a_free_one_is(api: Api, group: Make, instance: Make) -> None:
    made, db = group(), instance()
    attach(api, db, made)
    message = fault(api.demo.delete(f"/configurations/{made}"), 400, "badRequest")
    assert "in use" in message
    finish(api, db)
    attach(api, db, None)
    answer = api.demo.delete(f"/configurations/{made}")
    assert (answer.status_code, answer.content) == (202, b"")
    fault(api.demo.get(f"/configurations/{made}"), 404, "itemNotFound")
    fault(api.demo.delete(f"/configurations/{made}"), 404, "itemNotFound")


def test_a_deleted_instance_follows_no_group(api: Api, group: Make, instance: Make) -> None:
    made, db = group(), instance()
    attach(api, db, made)
    finish(api, db)
    assert api.demo.delete(f"/instances/{db}").status_code == 202
    fault(api.demo.delete(f"/configurations/{made}"), 400, "badRequest")
    with api.store.write() as tx:
        tx.operations.bury(tx.instances.get(db).operation_id or "")
    assert shown(api, made)["instance_count"] == 0
    assert api.demo.delete(f"/configurations/{made}").status_code == 202


def test_a_change_is_applied_to_all_that_can_take_it_now(api: Api, group: Make, instance: Make) -> None:
    made = group({"max_connections": 20})
    free, busy, starting = instance("free"), instance("busy"), instance("starting")
    for one in (free, busy, starting):
        attach(api, one, made)
        finish(api, one)
    with api.store.write() as tx:
        request = RestartInstance(operation_id=str(uuid.uuid4()), instance_id=busy)
        tx.operations.begin(tx.instances.get(busy), request, requested_by="demo")
        tx.instances.report(starting, Report(Service.STARTING, 2, datetime.now(UTC)))
    body = {"configuration": {"values": {"max_connections": 30}}}
    assert api.demo.patch(f"/configurations/{made}", json=body).status_code == 200
    states = {
        one["name"]: one["argosy"]["state"]
        for one in api.demo.get(f"/configurations/{made}/instances").json()["instances"]
    }
    assert states == {"free": "applying", "busy": "waiting", "starting": "waiting"}
    with api.store.write() as tx:
        tx.operations.succeed(request.operation_id)
        assert {one.name for one in tx.instances.behind()} == {"busy", "starting"}
    finish(api, free)
    assert outcome(api, free)["newest"] == outcome(api, free)["revision"] == 2


def test_a_refused_revision_is_told_and_not_tried_again_until_something_changes(
    api: Api, group: Make, instance: Make
) -> None:
    made, db = group({"max_connections": 20}), instance()
    attach(api, db, made)
    finish(api, db, error="The database server refused it.")
    how = outcome(api, db)
    assert (how["state"], how["error"]) == ("refused", "The database server refused it.")
    with api.store.write() as tx:
        assert tx.instances.behind() == []
        request = RestartInstance(operation_id=str(uuid.uuid4()), instance_id=db)
        tx.operations.begin(tx.instances.get(db), request, requested_by="demo")
        tx.operations.succeed(request.operation_id)
        assert [one.id for one in tx.instances.behind()] == [db]
    assert outcome(api, db)["state"] == "waiting"
    body = {"configuration": {"values": {"max_connections": 30}}}
    assert api.demo.patch(f"/configurations/{made}", json=body).status_code == 200
    finish(api, db)
    assert (outcome(api, db)["state"], outcome(api, db)["error"]) == ("applied", None)


def test_values_a_server_does_not_start_with_are_told(api: Api, group: Make, instance: Make) -> None:
    made, db = group({"back_log": 20}), instance()
    attach(api, db, made)
    finish(api, db)
    with api.store.write() as tx:
        tx.instances.report(db, Report(Service.HEALTHY, 2, datetime.now(UTC), restart_required=True))
    assert outcome(api, db)["state"] == "restart-required"
    assert api.demo.get(f"/instances/{db}").json()["instance"]["status"] == "RESTART_REQUIRED"
    # It serves: what needs its database server is let through to its guest, which is not there.
    assert api.demo.get(f"/instances/{db}/databases").status_code == 503
    with api.store.write() as tx:
        said = Report(
            Service.HEALTHY, 3, datetime.now(UTC), configuration_error="It does not start with back_log."
        )
        tx.instances.report(db, said)
        assert tx.instances.behind() == []
    how = outcome(api, db)
    assert (how["state"], how["error"]) == ("given-up", "It does not start with back_log.")


def test_of_many_changes_at_once_none_is_lost(api: Api, group: Make, instance: Make) -> None:
    made, db = group(), instance()
    attach(api, db, made)
    names = ["max_connections", "back_log", "long_query_time", "slow_query_log", "init_connect"]
    values = dict(zip(names, [20, 20, 1, True, "SELECT 1"], strict=True))

    def change(name: str) -> int:
        body = {"configuration": {"values": {name: values[name]}}}
        return api.demo.patch(f"/configurations/{made}", json=body).status_code

    with ThreadPoolExecutor(5) as pool:
        assert set(pool.map(change, names)) == {200}
    detail = shown(api, made)
    assert set(detail["values"]) == set(names)
    assert detail["revision"] == 6


def test_of_attach_and_delete_at_once_one_wins_and_no_id_dangles(
    api: Api, group: Make, instance: Make
) -> None:
    db = instance()
    for _ in range(5):
        made = group()
        with ThreadPoolExecutor(2) as pool:
            attached = pool.submit(attach, api, db, made)
            deleted = pool.submit(api.demo.delete, f"/configurations/{made}")
        assert (attached.result(), deleted.result().status_code) in {(202, 400), (404, 202)}
        if attached.result() == 202:
            assert shown(api, made)["instance_count"] == 1
            finish(api, db)
            attach(api, db, None)
            finish(api, db)
        else:
            assert "configuration" not in api.demo.get(f"/instances/{db}").json()["instance"]


def test_groups_are_their_projects_own_and_an_administrator_sees_all(api: Api, group: Make) -> None:
    mine = group()
    body = {"configuration": {"name": "theirs", "values": {}, "datastore": DATASTORE}}
    theirs = api.admin.post("/configurations", json=body).json()["configuration"]["id"]
    for path in ("", "/instances", "/revisions", "/diff"):
        fault(api.demo.get(f"/configurations/{theirs}{path}"), 404, "itemNotFound")
        assert api.admin.get(f"/configurations/{mine}{path}").status_code == 200
    for method in ("PUT", "PATCH", "DELETE"):
        fault(
            api.demo.request(method, f"/configurations/{theirs}", json={"configuration": {}}),
            404,
            "itemNotFound",
        )
    assert [one["id"] for one in api.demo.get("/configurations").json()["configurations"]] == [mine]
    assert {one["id"] for one in api.admin.get("/configurations").json()["configurations"]} == {mine, theirs}


def test_lists_of_groups_are_paged(api: Api, group: Make) -> None:
    made = {group(name=f"g{number}") for number in range(5)}
    seen, path = set(), "/configurations?limit=2"
    while path:
        page = api.demo.get(path).json()
        seen |= {one["id"] for one in page["configurations"]}
        path = "".join(link["href"] for link in page.get("links", []))
    assert seen == made
    fault(api.demo.get("/configurations?limit=0"), 400, "badRequest")


def test_an_instance_is_made_with_a_group_of_its_version(api: Api, group: Make) -> None:
    made = group({"max_connections": 20})
    body = {
        "name": "db",
        "flavorRef": "2",
        "volume": {"size": 1},
        "datastore": DATASTORE,
        "configuration": made,
    }
    answer = api.demo.post("/instances", json={"instance": body})
    assert answer.status_code == 200, answer.text
    assert answer.json()["instance"]["configuration"]["id"] == made
    assert shown(api, made)["instance_count"] == 1
    wrong = body | {"datastore": {"type": "mariadb", "version": "11.8"}}
    fault(api.demo.post("/instances", json={"instance": wrong}), 400, "badRequest")
    for unknown in (NOBODY, "big"):
        answer = api.demo.post("/instances", json={"instance": body | {"configuration": unknown}})
        fault(answer, 404, "itemNotFound")
    assert shown(api, made)["instance_count"] == 1


def test_history_diff_and_rollback(api: Api, group: Make, instance: Make) -> None:
    made, db = group({"max_connections": 20}, note="first"), instance()
    path = f"/configurations/{made}"
    attach(api, db, made)
    finish(api, db)
    change = {"values": {"max_connections": 30, "back_log": 50}, "note": "load test"}
    api.demo.patch(path, json={"configuration": change})
    finish(api, db)
    history = api.demo.get(f"{path}/revisions").json()["revisions"]
    assert [(one["revision"], one["by"], one["note"]) for one in history] == [
        (2, "demo", "load test"),
        (1, "demo", "first"),
    ]
    assert DATE.fullmatch(history[0]["at"])
    assert history[1]["values"] == {"max_connections": 20}
    diff = api.demo.get(f"{path}/diff").json()["diff"]
    assert (diff["old"], diff["new"]) == (1, 2)
    assert diff["changes"] == [
        {"name": "back_log", "old": None, "new": "50", "restart_required": True},
        {"name": "max_connections", "old": "20", "new": "30", "restart_required": False},
    ]
    back = api.demo.post(f"{path}/rollback", json={"rollback": {"revision": 1}})
    assert back.status_code == 200
    assert back.json()["configuration"]["values"] == {"max_connections": 20}
    assert back.json()["configuration"]["revision"] == 3
    assert outcome(api, db)["state"] == "applying"
    finish(api, db)
    assert api.demo.get(f"{path}/diff?from=1&to=3").json()["diff"]["changes"] == []
    page = api.demo.get(f"{path}/revisions?limit=1").json()
    assert page["revisions"][0]["note"] == "back to revision 1"
    assert api.demo.get(page["links"][0]["href"]).json()["revisions"][0]["revision"] == 2
    for number in (0, -1, 2**31, "1", 1.5, None, True):
        body = {"rollback": {"revision": number}}
        fault(api.demo.post(f"{path}/rollback", json=body), 400, "badRequest")
    fault(api.demo.post(f"{path}/rollback", json={"rollback": {"revision": 9}}), 404, "itemNotFound")
    for query in ("from=x", "to=0", "from=-1", "to=99999999999"):
        fault(api.demo.get(f"{path}/diff?{query}"), 400, "badRequest")
    fault(api.demo.get(f"{path}/diff?from=9"), 404, "itemNotFound")
    for number in ("9", "x", "1.0", "9" * 30):
        fault(api.demo.get(f"{path}/revisions/{number}"), 404, "itemNotFound")


def test_a_dry_run_says_what_would_happen_and_does_nothing(api: Api, group: Make, instance: Make) -> None:
    made = group({"max_connections": 20})
    path = f"/configurations/{made}"
    free, down = instance("free"), instance("down")
    for one in (free, down):
        attach(api, one, made)
        finish(api, one)
    with api.store.write() as tx:
        tx.instances.report(down, Report(Service.STARTING, 2, datetime.now(UTC)))
    before = (shown(api, made), operations(api, free))

    def tried(**asked: Any) -> dict[str, Any]:
        answer = api.demo.post(f"{path}/dry_run", json={"configuration": asked})
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()["dry_run"]
        return found

    result = tried(values={"max_connections": 30, "back_log": 50})
    assert (result["valid"], [one["name"] for one in result["changes"]]) == (
        True,
        ["back_log", "max_connections"],
    )
    by_name = {one["name"]: one for one in result["instances"]}
    assert (by_name["free"]["when"], by_name["down"]["when"]) == ("restart", "later")
    assert by_name["free"]["at_once"] == ["max_connections"]
    assert by_name["free"]["after_restart"] == ["back_log"]
    assert tried(values={"max_connections": 20})["changes"] == []
    assert [one["new"] for one in tried(replace=True)["changes"]] == [None]
    assert tried(unset=["max_connections"])["instances"][0]["when"] in {"now", "later"}
    wrong = tried(values={"max_connections": 1, "nothing": 2})
    assert wrong["valid"] is False
    assert len(wrong["errors"]) == 2
    lonely = instance("lonely")
    assert tried(instance=lonely)["instances"][0]["at_once"] == ["max_connections"]
    fault(api.demo.post(f"{path}/dry_run", json={"configuration": {"instance": NOBODY}}), 404, "itemNotFound")
    new = {"name": "x", "values": {"back_log": 70}, "datastore": DATASTORE}
    answer = api.demo.post("/configurations/dry_run", json={"configuration": new})
    assert answer.json()["dry_run"]["changes"][0]["restart_required"] is True
    assert (shown(api, made), operations(api, free)) == before
    assert len(api.demo.get("/configurations").json()["configurations"]) == 1
