"""The wire, field by field, as the contract has it; what guests and workflows would write is written by the test."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from argosy.domain.instance import Instance
from argosy.domain.operations import PullImage, RestartInstance
from argosy.domain.status import Report, Service
from tests.api.conftest import Api
from tests.support.server import Client

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, UTC)
DATE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d")

Make = Callable[..., str]

NOBODY = "00000000-0000-4000-8000-000000000000"  # an id that nothing has


@pytest.fixture
def make(api: Api) -> Iterator[Make]:
    """Writes an instance's row; healthy unless told otherwise."""

    def write(name: str = "db", *, service: Service | None = Service.HEALTHY, **more: Any) -> str:
        values: dict[str, Any] = {
            "id": str(uuid.uuid4()),
            "project_id": api.demo.project_id,
            "name": name,
            "datastore": "mariadb",
            "version": "11.8",
            "flavor_id": "2",
            "volume_gb": 2,
            "created_at": NOW,
            "updated_at": NOW,
            "access": {"is_public": False},
            "platform": {"name": "local", "limits": {"memory": "none"}},
        }
        instance = Instance(**values | more)
        with api.store.write() as tx:
            tx.instances.add(instance)
            if service is not None:
                tx.instances.set_address(instance.id, "127.77.1.9")
                report = Report(service, 1, datetime.now(UTC), 1 << 30, "11.8.3-MariaDB")
                tx.instances.report(instance.id, report)
        return instance.id

    yield write
    with api.store.write() as tx:
        for table in ("instances", "operations", "events", "idempotent_requests", "images"):
            tx.connection.exec_driver_sql(f"DELETE FROM {table}")


def fault(answer: httpx.Response, status: int, key: str) -> str:
    """The message of a failure that has the documented form."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    ((name, told),) = answer.json().items()
    assert (name, told["code"]) == (key, status)
    message = told["message"]
    assert isinstance(message, str)
    assert message
    return message


def links(client: Client, collection: str, identity: str) -> list[dict[str, str]]:
    base = str(client.base_url).rstrip("/")
    host = base.partition("/v1.0")[0]
    return [
        {"rel": "self", "href": f"{base}/{collection}/{identity}"},
        {"rel": "bookmark", "href": f"{host}/{collection}/{identity}"},
    ]


# Versions and transport: contract 1.1 and 1.2.


def test_versions_are_told_to_anybody(api: Api) -> None:
    version = {
        "id": "v1.0",
        "status": "CURRENT",
        "updated": "2012-08-01T00:00:00Z",
        "links": [{"rel": "self", "href": f"{api.server.url}/v1.0/"}],
    }
    assert httpx.get(f"{api.server.url}/").json() == {"versions": [version]}
    for path in ("/v1.0", "/v1.0/"):
        assert httpx.get(api.server.url + path).json() == {"version": version}
    assert httpx.get(f"{api.server.url}/healthcheck").text == "OK"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/nothing"),
        ("DELETE", "/instances"),
        ("PUT", "/instances/x/action"),
        ("PATCH", "/limits"),
        ("GET", "/instances/"),
        ("GET", "/Instances"),
        ("OPTIONS", "/instances"),
        ("GET", "/mgmt/hosts"),
        ("GET", "/instances/x/metadata"),
    ],
)
def test_an_unknown_path_or_method_is_not_found(api: Api, method: str, path: str) -> None:
    fault(api.demo.request(method, path), 404, "itemNotFound")


def test_another_media_type_is_refused(api: Api) -> None:
    answer = api.demo.post("/instances", content="<xml/>", headers={"Content-Type": "application/xml"})
    fault(answer, 415, "badMediaType")
    answer = api.demo.get(
        "/instances", headers={"Accept": "application/vnd.openstack.trove+json;version=2.0"}
    )
    fault(answer, 406, "notAcceptable")


def test_a_body_without_a_media_type_is_no_body(api: Api, make: Make) -> None:
    answer = api.demo.put(f"/instances/{make()}", content=b'{"instance": {}}')
    assert "content-type" not in answer.request.headers
    assert "instance: Field required" in fault(answer, 400, "badRequest")


def test_malformed_json_is_refused_with_its_place(api: Api) -> None:
    answer = api.demo.post("/instances", content="{", headers={"Content-Type": "application/json"})
    assert fault(answer, 400, "badRequest").startswith("Validation error: body: Invalid JSON")


def test_the_project_of_the_address_must_be_the_tokens(api: Api) -> None:
    other = f"{api.server.url}/v1.0/{api.demo.project_id}/instances"
    answer = httpx.get(other, headers={"X-Auth-Token": api.admin.token})
    assert api.demo.project_id in fault(answer, 403, "forbidden")


def test_http_basic_is_taken_too(api: Api) -> None:
    answer = httpx.get(
        f"{api.demo.base_url}instances", auth=("demo", api.server.password("demo")), timeout=60
    )
    assert answer.status_code == 200


# Instances: contract 2.1.


def short_view(api: Api, instance_id: str, name: str = "db") -> dict[str, Any]:
    return {
        "id": instance_id,
        "name": name,
        "status": "ACTIVE",
        "operating_status": "HEALTHY",
        "links": links(api.demo, "instances", instance_id),
        "flavor": {"id": "2", "links": links(api.demo, "flavors", "2")},
        "datastore": {"type": "mariadb", "version": "11.8"},
        "region": "RegionOne",
        "access": {"is_public": False},
        "volume": {"size": 2},
        "ip": ["127.77.1.9"],
        "addresses": [{"address": "127.77.1.9", "type": "private", "network": "local", "port": 3306}],
    }


def test_a_list_holds_short_views(api: Api, make: Make) -> None:
    instance_id = make()
    assert api.demo.get("/instances").json() == {"instances": [short_view(api, instance_id)]}


def test_an_instance_is_shown_in_detail(api: Api, make: Make) -> None:
    instance_id = make()
    shown = api.demo.get(f"/instances/{instance_id}").json()["instance"]
    assert DATE.fullmatch(shown.pop("service_status_updated"))
    ours = shown.pop("argosy")
    assert (ours["port"], ours["operation"], ours["name"]) == (3306, None, "local")
    expected = short_view(api, instance_id)
    expected["datastore"]["version_number"] = "11.8.3-MariaDB"
    expected["volume"] |= {"used": 1.0, "used_percent": 50.0}
    expected |= {"created": "2026-01-02T03:04:05", "updated": "2026-01-02T03:04:05"}
    assert shown == expected
    detail = api.demo.get("/instances/detail").json()["instances"]
    assert detail[0]["created"] == "2026-01-02T03:04:05"


def test_an_administrator_sees_more(api: Api, make: Make) -> None:
    instance_id = make()
    shown = api.admin.get(f"/instances/{instance_id}").json()["instance"]
    assert shown["tenant_id"] == api.demo.project_id
    assert {"server_id", "volume_id", "encrypted_rpc_messaging"} <= shown.keys()
    assert api.admin.get("/instances").json() == {"instances": []}


def test_an_instance_without_a_server_has_no_addresses(api: Api, make: Make) -> None:
    shown = api.demo.get(f"/instances/{make(service=None)}").json()["instance"]
    assert not {"ip", "addresses", "service_status_updated"} & shown.keys()


@pytest.mark.parametrize("unknown", ["db", "no-uuid", NOBODY, "%20", "x" * 300])
def test_an_unknown_instance_is_not_found(api: Api, make: Make, unknown: str) -> None:
    make("db")
    fault(api.demo.get(f"/instances/{unknown}"), 404, "itemNotFound")


def test_somebody_elses_instance_is_not_found(api: Api, make: Make) -> None:
    theirs = make(project_id=api.admin.project_id)
    for method, path in (("GET", ""), ("DELETE", ""), ("PUT", ""), ("GET", "/databases"), ("GET", "/root")):
        answer = api.demo.request(method, f"/instances/{theirs}{path}", json={"instance": {"name": "mine"}})
        fault(answer, 404, "itemNotFound")


def test_a_failure_is_told_and_its_details_to_administrators(api: Api, make: Make) -> None:
    instance_id = make()
    with api.store.write() as tx:
        tx.connection.exec_driver_sql(
            "UPDATE instances SET fault_message='No space.', fault_details='trace', fault_at='2026-01-02 03:04:05'"
        )
    expected = {"message": "No space.", "created": "2026-01-02T03:04:05", "details": None}
    assert api.demo.get(f"/instances/{instance_id}").json()["instance"]["fault"] == expected
    shown = api.admin.get(f"/instances/{instance_id}").json()["instance"]["fault"]
    assert shown["details"] == "trace"


def walk(client: Client, path: str, name: str) -> list[list[Any]]:
    """Every page, following the links as they are."""
    pages = []
    url: str | None = path
    while url is not None:
        answer = client.get(url)
        assert answer.status_code == 200, answer.text
        page = answer.json()
        pages.append(page[name])
        following = page.get("links", [])
        url = following[0]["href"] if following else None
        assert "links" not in page or following[0]["rel"] == "next"
    return pages


def test_pages_are_cut_by_id_and_newest_first_inside(api: Api, make: Make) -> None:
    ids = [make(f"db{number}", created_at=NOW + timedelta(hours=number)) for number in range(5)]
    pages = walk(api.demo, "/instances?limit=2&include_clustered=False", "instances")
    assert [len(page) for page in pages] == [2, 2, 1]
    assert [sorted(one["id"] for one in page) for page in pages] == [
        sorted(ids)[start : start + 2] for start in (0, 2, 4)
    ]
    for page in pages:
        order = [ids.index(one["id"]) for one in page]
        assert order == sorted(order, reverse=True)
    href = api.demo.get("/instances?limit=2&include_clustered=False").json()["links"][0]["href"]
    assert href.startswith(f"{api.server.url}/v1.0/")
    query = parse_qs(urlsplit(href).query)
    assert query == {"limit": ["2"], "include_clustered": ["False"], "marker": [sorted(ids)[1]]}


def test_a_page_has_twenty_at_most(api: Api, make: Make) -> None:
    for number in range(21):
        make(f"db{number}")
    assert [len(page) for page in walk(api.demo, "/instances?limit=1000", "instances")] == [20, 1]


CREATE: dict[str, Any] = {"name": "new", "flavorRef": "2", "volume": {"size": 1}}


def create(api: Api, **changes: Any) -> httpx.Response:
    body = {key: value for key, value in (CREATE | changes).items() if value is not ...}
    return api.demo.post("/instances", json={"instance": body})


def test_a_new_instance_is_shown_building(api: Api, make: Make) -> None:
    answer = create(api)
    assert answer.status_code == 200
    shown = answer.json()["instance"]
    assert (shown["status"], shown["operating_status"]) == ("BUILD", "")
    assert (shown["datastore"]["type"], shown["volume"]) == ("postgresql", {"size": 1})
    assert "password" not in shown
    running = api.demo.get(f"/instances/{shown['id']}").json()["instance"]["argosy"]["operation"]
    assert (running["kind"], running["state"]) == ("instance.create", "queued")
    fault(api.demo.delete(f"/instances/{shown['id']}"), 422, "unprocessableEntity")


@pytest.mark.parametrize(
    "changes",
    [
        {"flavorRef": 2},
        {"flavorRef": "http://cloud/flavors/2"},
        {"flavorRef": ..., "flavor": "2"},
        {"flavorRef": ..., "flavor": {"id": 2}},
        {"volume": {"size": "1"}},
        {"volume": {"size": 1, "type": None}},
        {"databases": [], "users": []},
        {"datastore": {"type": "mariadb", "version": "11.8"}},
        {"nics": [{"net-id": NOBODY}]},
        {"access": {"is_public": True, "allowed_cidrs": ["10.0.0.0/8", "192.168.1.1"]}},
        {"locality": "affinity", "availability_zone": "nova", "region_name": "RegionOne"},
        {"unknown": {"is": "ignored"}},
        {"name": "größe 1"},
    ],
)
def test_what_clients_send_is_taken(api: Api, make: Make, changes: dict[str, Any]) -> None:
    answer = create(api, **changes)
    assert answer.status_code == 200, answer.text
    assert answer.json()["instance"]["flavor"]["id"] == "2"


@pytest.mark.parametrize(
    ("changes", "status", "told"),
    [
        ({"name": ...}, 400, "instance.name"),
        ({"name": ""}, 400, "1 to 255"),
        ({"name": "x" * 256}, 400, "1 to 255"),
        ({"name": "!!!"}, 400, "letter or digit"),
        ({"name": 5}, 400, "instance.name"),
        ({"flavorRef": ...}, 400, "flavorRef"),
        ({"flavorRef": "99"}, 400, "99"),
        ({"flavorRef": "tiny-64", "datastore": {"type": "mariadb"}}, 400, "128 MB"),
        ({"volume": ...}, 400, "volume"),
        ({"volume": {}}, 400, "instance.volume.size"),
        ({"volume": {"size": 0}}, 400, "instance.volume.size"),
        ({"volume": {"size": True}}, 400, "instance.volume.size"),
        ({"volume": {"size": 1.5}}, 400, "instance.volume.size"),
        ({"volume": {"size": "1 GB"}}, 400, "instance.volume.size"),
        ({"volume": {"size": 1001}}, 413, "1000 GB"),
        ({"datastore": {"type": "nothing"}}, 404, "nothing"),
        ({"datastore": {"type": "mariadb", "version": "1"}}, 400, "11.8"),
        ({"datastore": {"type": 5}}, 400, "instance.datastore.type"),
        ({"databases": [{"name": "a"}, {"name": "a"}]}, 400, "twice"),
        ({"databases": [{"name": "postgres"}]}, 400, "reserved"),
        ({"databases": {}}, 400, "instance.databases"),
        ({"users": [{"name": "ann"}]}, 400, "instance.users[0].password"),
        ({"users": [{"name": "ann", "password": "!!"}]}, 400, "letter or digit"),
        ({"users": [{"name": "ann", "password": "pw", "databases": [{"name": "shop"}]}]}, 400, "shop"),
        ({"users": [{"name": "ann", "password": "pw"}] * 2}, 400, "twice"),
        ({"users": [{"name": "ann", "password": "pw", "host": "10.%"}]}, 400, "host"),
        ({"nics": [{}, {}]}, 400, "instance.nics"),
        ({"nics": [{"other": 1}]}, 400, "instance.nics[0].other"),
        ({"locality": "near"}, 400, "instance.locality"),
        ({"access": {"is_public": 1}}, 400, "instance.access.is_public"),
        ({"access": {"allowed_cidrs": ["10.0.0.0/33"]}}, 400, "instance.access.allowed_cidrs[0]"),
        ({"access": {"allowed_cidrs": ["10.0.0.0/8"] * 2}}, 400, "instance.access.allowed_cidrs"),
        ({"access": {"other": 1}}, 400, "instance.access.other"),
        ({"replica_count": 2}, 400, "replica_of"),
        ({"replica_count": 4}, 400, "instance.replica_count"),
        ({"replica_of": NOBODY}, 501, "Replicas"),
        ({"restorePoint": {"backupRef": NOBODY}}, 404, "Backup"),
        ({"configuration": NOBODY}, 404, "Configuration group"),
    ],
)
def test_what_cannot_be_created_is_refused_with_field_and_bound(
    api: Api, make: Make, changes: dict[str, Any], status: int, told: str
) -> None:
    keys = {400: "badRequest", 404: "itemNotFound", 413: "overLimit", 501: "notImplemented"}
    answer = create(api, **changes)
    assert told in fault(answer, status, keys[status])
    assert "retry-after" not in answer.headers
    assert api.demo.get("/instances").json() == {"instances": []}


def test_a_repeated_request_with_its_key_makes_one_instance(api: Api, make: Make) -> None:
    body = {"instance": CREATE}
    key = {"Idempotency-Key": "once"}
    first, again = (api.demo.post("/instances", json=body, headers=key).json() for _ in range(2))
    assert first["instance"]["id"] == again["instance"]["id"]
    other = api.demo.post("/instances", json={"instance": CREATE | {"name": "other"}}, headers=key)
    fault(other, 409, "conflict")
    for bad in ("", "x" * 256, "a b"):
        fault(api.demo.post("/instances", json=body, headers={"Idempotency-Key": bad}), 400, "badRequest")


@pytest.mark.parametrize("method", ["PUT", "PATCH"])
def test_an_instance_is_renamed(api: Api, make: Make, method: str) -> None:
    instance_id = make()
    answer = api.demo.request(method, f"/instances/{instance_id}", json={"instance": {"name": "renamed"}})
    assert (answer.status_code, answer.content) == (202, b"")
    assert answer.headers["content-type"] == "application/json"
    assert api.demo.get(f"/instances/{instance_id}").json()["instance"]["name"] == "renamed"


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"instance": {}}, 202),
        ({"instance": {"other": 1}}, 400),
        ({"instance": {"name": ""}}, 400),
        ({"instance": {"name": None}}, 400),
        ({}, 400),
        ({"instance": {"replica_of": None}}, 501),
        ({"instance": {"configuration": NOBODY}}, 404),
        ({"instance": {"datastore_version": "10.11"}}, 400),
    ],
)
def test_an_update_that_is_not_a_rename(api: Api, make: Make, body: Any, status: int) -> None:
    assert api.demo.put(f"/instances/{make()}", json=body).status_code == status


def begin_restart(api: Api, instance_id: str) -> str:
    with api.store.write() as tx:
        instance = tx.instances.get(instance_id)
        request = RestartInstance(operation_id=str(uuid.uuid4()), instance_id=instance_id)
        tx.operations.begin(instance, request, requested_by="demo")
    return request.operation_id


def test_deleting_shows_shutdown_and_may_be_asked_for_again(api: Api, make: Make) -> None:
    instance_id = make()
    assert api.demo.delete(f"/instances/{instance_id}").status_code == 202
    assert api.demo.get(f"/instances/{instance_id}").json()["instance"]["status"] == "SHUTDOWN"
    assert api.demo.delete(f"/instances/{instance_id}").status_code == 202
    operations = api.demo.get(f"/operations?instance_id={instance_id}").json()["operations"]
    assert [operation["kind"] for operation in operations] == ["instance.delete"]


def test_deleting_gives_up_what_is_under_way(api: Api, make: Make) -> None:
    instance_id = make()
    restart = begin_restart(api, instance_id)
    assert api.demo.delete(f"/instances/{instance_id}").status_code == 202
    given_up = api.demo.get(f"/operations/{restart}").json()["operation"]
    assert (given_up["state"], given_up["error_code"]) == ("failed", "deleted")


# Actions: contract 2.2.


def act(api: Api, instance_id: str, body: Any, *, client: Client | None = None) -> httpx.Response:
    return (client or api.demo).post(f"/instances/{instance_id}/action", json=body)


@pytest.mark.parametrize("details", [{}, None])
def test_a_restart_shows_reboot_and_holds_the_instance(api: Api, make: Make, details: Any) -> None:
    instance_id = make()
    answer = act(api, instance_id, {"restart": details})
    assert (answer.status_code, answer.content) == (202, b"")
    shown = api.demo.get(f"/instances/{instance_id}").json()["instance"]
    assert (shown["status"], shown["operating_status"]) == ("REBOOT", "")
    told = fault(act(api, instance_id, {"restart": {}}), 422, "unprocessableEntity")
    assert instance_id in told
    assert "REBOOT" in told
    fault(api.demo.get(f"/instances/{instance_id}/databases"), 422, "unprocessableEntity")


@pytest.mark.parametrize(
    "body", [{}, {"fly": {}}, {"restart": {}, "resize": {}}, {"restart": 1}, {"resize": 3}]
)
def test_an_unknown_action_is_refused(api: Api, make: Make, body: Any) -> None:
    fault(act(api, make(), body), 400, "badRequest")


@pytest.mark.parametrize(
    "asked",
    [{"volume": {"size": 3}}, {"volume": {"size": "3"}}, {"volume": 3}, {"flavorRef": 1},
     {"flavorRef": "1"}, {"flavorRef": "http://x/v1.0/p/flavors/1"}],
)  # fmt: skip
def test_a_resize_shows_resize_and_holds_the_instance(api: Api, make: Make, asked: Any) -> None:
    instance_id = make()
    answer = act(api, instance_id, {"resize": asked})
    assert (answer.status_code, answer.content) == (202, b"")
    shown = api.demo.get(f"/instances/{instance_id}").json()["instance"]
    assert (shown["status"], shown["operating_status"]) == ("RESIZE", "")
    fault(act(api, instance_id, {"resize": {"volume": 4}}), 422, "unprocessableEntity")


@pytest.mark.parametrize(
    ("asked", "status", "told"),
    [
        ({}, 400, "either volume or flavorRef"),
        (None, 400, "either volume or flavorRef"),
        ({"volume": 3, "flavorRef": "1"}, 400, "either volume or flavorRef"),
        ({"volume": {"size": 2}}, 400, "must be larger than the 2 GB"),
        ({"volume": {"size": 1}}, 400, "must be larger than the 2 GB"),
        ({"volume": {"size": 0}}, 400, "resize.volume.size"),
        ({"volume": {"size": True}}, 400, "resize.volume.size"),
        ({"volume": {"size": "3x"}}, 400, "resize.volume.size"),
        ({"volume": {"size": 3.5}}, 400, "resize.volume.size"),
        ({"volume": {"size": 10**30}}, 413, "1000 GB"),
        ({"volume": {}}, 400, "resize.volume.size"),
        ({"volume": []}, 400, "resize.volume"),
        ({"volume": 3, "speed": 1}, 400, "resize.speed"),
        ({"flavorRef": "2"}, 400, "has flavor 2 (db.small) already"),
        ({"flavorRef": "99"}, 400, "99"),
        ({"flavorRef": {"id": "1"}}, 400, "resize.flavorRef"),
        ({"flavorRef": "tiny-64"}, 400, "needs 128 MB or more"),
    ],
)
def test_a_resize_that_cannot_be_is_refused_with_the_bound(
    api: Api, make: Make, asked: Any, status: int, told: str
) -> None:
    key = {400: "badRequest", 413: "overLimit"}[status]
    assert told in fault(act(api, make(), {"resize": asked}), status, key)


def test_a_volume_may_grow_by_itself_up_to_a_limit(api: Api, make: Make) -> None:
    new = {"name": "db", "flavorRef": "2", "datastore": {"type": "valkey"}}
    asked = {**new, "volume": {"size": 2, "autogrow_limit": "5"}}
    made = api.demo.post("/instances", json={"instance": asked}).json()["instance"]
    assert made["volume"] == {"size": 2, "autogrow_limit": 5}
    for limit, told in (
        (1, "2 GB or more"),
        (0, "autogrow_limit"),
        ("x", "autogrow_limit"),
        (2000, "1000 GB"),
    ):
        asked = {**new, "volume": {"size": 2, "autogrow_limit": limit}}
        assert told in api.demo.post("/instances", json={"instance": asked}).text
    instance_id = make()
    for limit, told in ((1, "must be 2 GB or more"), (0, "autogrow_limit"), (2000, "1000 GB")):
        change = {"instance": {"volume": {"autogrow_limit": limit}}}
        assert told in api.demo.put(f"/instances/{instance_id}", json=change).text
    changes: list[tuple[int | None, dict[str, int]]] = [(3, {"autogrow_limit": 3}), (None, {})]
    for wanted, volume in changes:
        body = {"instance": {"volume": {"autogrow_limit": wanted}}}
        assert api.demo.put(f"/instances/{instance_id}", json=body).status_code == 202
        shown = api.demo.get(f"/instances/{instance_id}").json()["instance"]["volume"]
        assert {key: shown[key] for key in shown if key == "autogrow_limit"} == volume
    for nonsense in ({"size": 9}, {}):
        answer = api.demo.put(f"/instances/{instance_id}", json={"instance": {"volume": nonsense}})
        fault(answer, 400, "badRequest")


def test_only_an_administrator_resets_a_status(api: Api, make: Make) -> None:
    instance_id = make()
    begin_restart(api, instance_id)
    fault(act(api, instance_id, {"reset_status": {}}), 403, "forbidden")
    assert act(api, instance_id, {"reset_status": {}}, client=api.admin).status_code == 202
    shown = api.demo.get(f"/instances/{instance_id}").json()["instance"]
    assert (shown["status"], shown["operating_status"]) == ("ACTIVE", "ERROR")
    assert act(api, instance_id, {"reset_status": {"force_delete": True}}).status_code == 202


# What is inside: contract 2.5 to 2.8, as far as it needs no guest; the rest is in test_openstack_client.py


@pytest.mark.parametrize("service", [Service.CRASHED, Service.SHUTDOWN, Service.STARTING, None])
@pytest.mark.parametrize("path", ["databases", "users", "root", "users/ann", "users/ann/databases"])
def test_a_server_that_does_not_answer_is_not_asked(
    api: Api, make: Make, path: str, service: Service | None
) -> None:
    instance_id = make(service=service)
    fault(api.demo.get(f"/instances/{instance_id}/{path}"), 422, "unprocessableEntity")


def test_a_datastore_without_databases_says_so(api: Api, make: Make) -> None:
    instance_id = make(datastore="valkey", version="9")
    told = fault(api.demo.get(f"/instances/{instance_id}/databases"), 422, "unprocessableEntity")
    assert "Valkey" in told
    answer = api.demo.put(f"/instances/{instance_id}/users/a/databases", json={"databases": []})
    fault(answer, 422, "unprocessableEntity")


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "databases", {}, 400),
        ("POST", "databases", {"databases": [{}]}, 400),
        ("POST", "databases", {"databases": [{"name": "mysql"}]}, 400),
        ("POST", "databases", {"databases": [{"name": "a"}] * 2}, 400),
        ("POST", "databases", {"databases": [{"name": "a", "collate": "x'; drop"}]}, 400),
        ("POST", "databases", {"databases": []}, 202),
        ("DELETE", "databases/mysql", None, 400),
        ("DELETE", "databases/" + "x" * 200, None, 404),
        ("GET", "databases/shop", None, 501),
        ("POST", "users", {}, 400),
        ("POST", "users", {"users": [{"name": "root", "password": "secret"}]}, 400),
        ("POST", "users", {"users": [{"name": "a", "password": "pw", "host": "a/24"}]}, 400),
        ("PUT", "users", {"users": [{"name": "a"}]}, 400),
        ("PUT", "users/ann", {"user": {}}, 400),
        ("PUT", "users/ann", {"user": {"name": "root"}}, 400),
        ("PUT", "users/ann", {"user": {"password": "!!"}}, 400),
        ("GET", "users/root", None, 400),
        ("GET", "users/" + "x" * 200, None, 404),
        ("DELETE", "users/root%40%25", None, 400),
        ("PUT", "users/ann/databases", {"databases": [{"name": "mysql"}]}, 400),
        ("DELETE", "users/ann/databases/" + "x" * 200, None, 404),
        ("POST", "root", {"password": 5}, 400),
        ("POST", "root", {"password": "!!"}, 400),
        ("DELETE", "root", None, 404),
        ("GET", "root", None, 200),
        ("GET", "configuration", None, 503),
        ("GET", "parameters", None, 503),
        ("GET", "log", None, 200),
        ("GET", "ssl", None, 501),
        ("GET", "modules", None, 501),
    ],
)
def test_what_the_api_knows_by_itself(
    api: Api, make: Make, method: str, path: str, body: Any, status: int
) -> None:
    answer = api.demo.request(method, f"/instances/{make()}/{path}", json=body)
    assert answer.status_code == status, answer.text


def test_root_was_never_enabled_at_first(api: Api, make: Make) -> None:
    instance_id = make()
    assert api.demo.get(f"/instances/{instance_id}/root").json() == {"rootEnabled": False}
    history = api.admin.get(f"/mgmt/instances/{instance_id}/root").json()
    assert history == {"root_history": {"id": instance_id, "enabled": "Never", "user": "Nobody"}}


def test_roots_history_outlives_root_and_the_instance(api: Api, make: Make) -> None:
    instance_id = make()
    with api.store.write() as tx:
        tx.instances.enable_root(instance_id, by="u1")
    assert api.demo.get(f"/instances/{instance_id}/root").json() == {"rootEnabled": True}
    assert api.admin.get(f"/mgmt/instances/{instance_id}").json()["instance"]["root_enabled_by"] == "u1"
    with api.store.write() as tx:
        tx.instances.disable_root(instance_id)
        tx.connection.exec_driver_sql("UPDATE instances SET deleted_at='2026-01-02 03:04:05'")
    history = api.admin.get(f"/mgmt/instances/{instance_id}/root").json()["root_history"]
    assert history["user"] == "u1"
    assert DATE.fullmatch(history["enabled"])


def test_a_guest_that_does_not_answer_is_unavailable_and_root_may_be_on(api: Api, make: Make) -> None:
    instance_id = make()
    fault(api.demo.post(f"/instances/{instance_id}/root"), 503, "serviceUnavailable")
    assert api.demo.get(f"/instances/{instance_id}/root").json() == {"rootEnabled": True}


# Datastores, flavors, limits: contract 2.15 to 2.18.


def test_datastores_are_listed_with_their_versions(api: Api) -> None:
    listed = api.demo.get("/datastores").json()["datastores"]
    mariadb = next(one for one in listed if one["name"] == "mariadb")
    assert mariadb["links"] == links(api.demo, "datastores", mariadb["id"])
    versions = {version["name"]: version for version in mariadb["versions"]}
    assert mariadb["default_version"] == versions["11.8"]["id"]
    newest = versions["11.8"]
    assert newest == {
        "id": newest["id"],
        "name": "11.8",
        "version": "11.8",
        "links": links(api.demo, "datastores/versions", newest["id"]),
    }
    assert "guarantees" in mariadb["argosy"]
    for key in ("mariadb", mariadb["id"]):
        assert api.demo.get(f"/datastores/{key}").json()["datastore"] == mariadb
    full = newest | {"datastore": mariadb["id"]}
    for path in (
        "/datastores/mariadb/versions/11.8",
        f"/datastores/{mariadb['id']}/versions/{newest['id']}",
        f"/datastores/versions/{newest['id']}",
    ):
        assert api.demo.get(path).json() == {"version": full}
    shown = api.admin.get("/datastores/mariadb/versions/11.8").json()["version"]
    assert shown["active"] is True
    assert isinstance(shown["packages"], str)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/datastores/nothing", 404),
        ("/datastores/nothing/versions", 404),
        ("/datastores/mariadb/versions/1", 400),
        (f"/datastores/mariadb/versions/{NOBODY}", 404),
        (f"/datastores/versions/{NOBODY}", 404),
        ("/datastores/mariadb/versions/11.8/parameters", 200),
        ("/datastores/mariadb/versions/11.8/parameters/max_connections", 404),
        ("/datastores/mariadb/versions/11.8/volume-types", 200),
        ("/flavors/99", 404),
        ("/flavors/db.small", 404),
        ("/volume-types", 200),
        ("/volume-types/ssd", 404),
        ("/backups?limit=x", 400),
        ("/backups/nightly", 404),
        ("/configurations", 200),
        ("/configurations/big", 404),
        ("/clusters/c", 404),
        ("/modules/m", 404),
        ("/operations/x", 404),
        (f"/operations/{NOBODY}", 404),
        ("/operations?marker=x", 400),
        ("/events?marker=x", 400),
    ],
)
def test_what_is_not_there_is_told_as_the_contract_says(api: Api, path: str, status: int) -> None:
    assert api.demo.get(path).status_code == status


def test_a_datastore_with_versions_stays(api: Api) -> None:
    fault(api.demo.delete("/datastores/mariadb"), 403, "forbidden")
    fault(api.admin.delete("/datastores/mariadb"), 400, "badRequest")
    fault(api.admin.delete("/datastores/nothing"), 404, "itemNotFound")


def test_a_flavor_has_a_number_only_where_its_id_is_one(api: Api) -> None:
    listed = {one["str_id"]: one for one in api.demo.get("/flavors").json()["flavors"]}
    assert listed["2"] == {
        "id": 2,
        "str_id": "2",
        "name": "db.small",
        "ram": 512,
        "vcpus": 1,
        "disk": 0,
        "ephemeral": 0,
        "links": links(api.demo, "flavors", "2"),
    }
    assert listed["tiny-64"]["id"] is None
    assert api.demo.get("/flavors/2").json() == {"flavor": listed["2"]}
    of_version = api.demo.get("/datastores/mariadb/versions/11.8/flavors").json()["flavors"]
    assert [one["str_id"] for one in of_version] == ["1", "2"]


def test_limits_are_the_quotas_where_no_rate_is_limited(api: Api) -> None:
    absolute = {"max_instances": -1, "max_volumes": -1, "max_backups": 50, "max_ram": -1}
    assert api.demo.get("/limits").json() == {"limits": [{"verb": "ABSOLUTE", **absolute}]}


# Management: contract 2.21.


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/mgmt/instances"),
        ("GET", "/mgmt/instances/{id}"),
        ("GET", "/mgmt/instances/{id}/root"),
        ("POST", "/mgmt/instances/{id}/action"),
        ("GET", "/mgmt/instances/{id}/diagnostics"),
        ("GET", "/mgmt/datastore-versions"),
    ],
)
def test_management_is_for_administrators(api: Api, make: Make, method: str, path: str) -> None:
    answer = api.demo.request(method, path.replace("{id}", make()), json={"stop": {}})
    fault(answer, 401, "unauthorized")


def test_management_lists_every_project_and_what_is_gone(api: Api, make: Make) -> None:
    ours, theirs, gone = make("a"), make("b", project_id=api.admin.project_id), make("c")
    with api.store.write() as tx:
        tx.connection.exec_driver_sql(f"UPDATE instances SET deleted_at=updated_at WHERE id='{gone}'")

    def listed(query: str = "") -> set[str]:
        return {one["id"] for one in api.admin.get(f"/mgmt/instances{query}").json()["instances"]}

    assert listed() == {ours, theirs, gone}
    assert listed("?deleted=False") == {ours, theirs}
    assert listed("?deleted=true") == {gone}
    assert listed(f"?project_id={api.demo.project_id}&deleted=false") == {ours}
    fault(api.admin.get(f"/mgmt/instances/{gone}"), 404, "itemNotFound")
    shown = api.admin.get(f"/mgmt/instances/{gone}?deleted=true").json()["instance"]
    assert (shown["deleted"], shown["deleted_at"]) == (True, "2026-01-02T03:04:05")
    shown = api.admin.get(f"/mgmt/instances/{ours}").json()["instance"]
    assert shown["server"]["id"] == ours
    assert (shown["deleted"], shown["deleted_at"], shown["tenant_id"]) == (False, None, api.demo.project_id)
    assert shown["volume"] | {"size": 2, "used": 1.0, "total": 2} == shown["volume"]


def test_management_pages_by_number(api: Api, make: Make) -> None:
    ids = [make(f"db{number}", updated_at=NOW + timedelta(hours=number)) for number in range(5)]
    pages = walk(api.admin, "/mgmt/instances?limit=2&deleted=False", "instances")
    assert [{one["id"] for one in page} for page in pages] == [{ids[4], ids[3]}, {ids[2], ids[1]}, {ids[0]}]
    assert "marker=2" in api.admin.get("/mgmt/instances?limit=2").json()["links"][0]["href"]


def test_management_lets_go_of_an_instance(api: Api, make: Make) -> None:
    instance_id = make()
    begin_restart(api, instance_id)
    where = f"/mgmt/instances/{instance_id}/action"
    fault(api.admin.post(where, json={"fly": {}}), 400, "badRequest")
    for action in ("stop", "reboot", "migrate"):
        fault(api.admin.post(where, json={action: {}}), 422, "unprocessableEntity")
    assert api.admin.post(where, json={"reset-task-status": {}}).status_code == 202
    shown = api.demo.get(f"/instances/{instance_id}").json()["instance"]
    assert (shown["status"], shown["operating_status"]) == ("ACTIVE", "HEALTHY")


# Ours


def test_operations_and_events_are_paged_newest_first(api: Api, make: Make) -> None:
    for number in range(3):
        assert act(api, make(f"db{number}"), {"restart": {}}).status_code == 202
    pages = walk(api.demo, "/operations?limit=2", "operations")
    assert [len(page) for page in pages] == [2, 1]
    kinds = {operation["kind"] for page in pages for operation in page}
    assert kinds == {"instance.restart"}
    events = [event for page in walk(api.demo, "/events?limit=1", "events") for event in page]
    assert [event["id"] for event in events] == sorted((event["id"] for event in events), reverse=True)
    assert {event["kind"] for event in events} == {"instance.restart.requested"}
    assert api.admin.get("/operations").json() == {"operations": []}
    one = pages[0][0]
    assert api.demo.get(f"/operations/{one['id']}").json() == {"operation": one}
    of_one = api.demo.get(f"/events?instance_id={one['instance_id']}").json()["events"]
    assert [event["instance_id"] for event in of_one] == [one["instance_id"]]


def test_images_are_shown_as_the_task_manager_published_them(api: Api, make: Make) -> None:
    with api.store.write() as tx:
        tx.images.publish("redis", "7", phase="pulling", detail="unpacking", source=None)
        tx.images.publish("redis", "7", phase="ready", detail="", source="bookworm")
    (image,) = api.demo.get("/images").json()["images"]
    assert DATE.fullmatch(image.pop("updated"))
    assert image == {
        "datastore": "redis",
        "version": "7",
        "phase": "ready",
        "detail": "",
        "source": "bookworm",
    }


def test_only_an_administrator_pulls_an_image(api: Api, make: Make) -> None:
    asked = {"image": {"datastore": "redis", "version": "7"}}
    fault(api.demo.post("/images", json=asked), 403, "forbidden")
    answer = api.admin.post("/images", json=asked)
    assert answer.status_code == 202
    assert answer.json()["operation"]["kind"] == PullImage.kind
    unknown = {"image": {"datastore": "redis", "version": "1"}}
    fault(api.admin.post("/images", json=unknown), 404, "itemNotFound")


def test_the_authority_of_databases_is_a_certificate(api: Api) -> None:
    pem = api.demo.get("/certificate-authority").json()["certificate_authority"]["pem"]
    assert pem == (api.server.home / "database-ca.crt").read_text()


# Roles


@pytest.fixture(scope="module")
def reader(api: Api) -> Iterator[Client]:
    """A user who may only look, in demo's project."""
    identity = httpx.Client(
        base_url=f"{api.server.url}/identity/v3", headers={"X-Auth-Token": api.admin.token}, timeout=60
    )
    with identity:
        user = identity.post("/users", json={"user": {"name": "eyes", "password": "l00k-0nly"}}).json()[
            "user"
        ]
        roles = {role["name"]: role["id"] for role in identity.get("/roles").json()["roles"]}
        path = f"/projects/{api.demo.project_id}/users/{user['id']}/roles/{roles['reader']}"
        assert identity.put(path).status_code == 204
        with Client(api.server.url, "eyes", "l00k-0nly", project="demo") as client:
            yield client
        identity.delete(f"/users/{user['id']}")


def test_a_reader_looks_and_changes_nothing(api: Api, make: Make, reader: Client) -> None:
    instance_id = make()
    for path in ("/instances", f"/instances/{instance_id}", "/datastores", "/flavors", "/limits", "/events"):
        assert reader.get(path).status_code == 200
    for method, path, body in (
        ("POST", "/instances", {"instance": CREATE}),
        ("PUT", f"/instances/{instance_id}", {"instance": {"name": "x"}}),
        ("DELETE", f"/instances/{instance_id}", None),
        ("POST", f"/instances/{instance_id}/action", {"restart": {}}),
        ("POST", f"/instances/{instance_id}/databases", {"databases": []}),
        ("POST", f"/instances/{instance_id}/root", None),
    ):
        fault(reader.request(method, path, json=body), 403, "forbidden")


# The OpenAPI document


def test_every_route_is_documented(api: Api) -> None:
    document = httpx.get(f"{api.server.url}/openapi.json", timeout=60).json()
    names = []
    for path, methods in document["paths"].items():
        for method, route in methods.items():
            where = f"{method} {path}"
            assert route["summary"], where
            assert route["tags"], where
            names.append(route["operationId"])
            if "{project_id}" in path:
                assert {"401", "403", "500"} <= route["responses"].keys(), where
                assert "HTTPValidationError" not in str(route), where
                assert any(status.startswith("2") for status in route["responses"]), where
    assert len(names) == len(set(names))


def test_the_documentation_page_needs_nothing_from_elsewhere(api: Api) -> None:
    page = httpx.get(f"{api.server.url}/docs").text
    needed = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert needed
    for path in needed:
        assert httpx.get(f"{api.server.url}{path}").is_success, path
