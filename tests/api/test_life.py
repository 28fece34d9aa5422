"""Protection, tags, and what is known of instances that were deleted; and how long history is kept."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from argosy.domain.instance import Instance
from argosy.domain.operations import DeleteInstance, RestartInstance
from argosy.domain.status import Report, Service
from argosy.taskmanager.parts import Retention
from argosy.taskmanager.retention import forget_what_is_old
from tests.api.conftest import Api
from tests.support.server import Client

Make = Callable[..., str]
NOBODY = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
def make(api: Api) -> Iterator[Make]:
    """Writes the row of a healthy instance."""

    def write(name: str = "db", *, service: Service = Service.HEALTHY, **more: Any) -> str:
        values: dict[str, Any] = {
            "id": str(uuid.uuid4()),
            "project_id": api.demo.project_id,
            "name": name,
            "datastore": "valkey",
            "version": "8",
            "flavor_id": "2",
            "volume_gb": 2,
            "created_at": datetime.now(UTC),
            "updated_at": datetime.now(UTC),
            "access": {"is_public": False},
        }
        instance = Instance(**values | more)
        with api.store.write() as tx:
            tx.instances.add(instance)
            tx.instances.set_address(instance.id, "127.77.1.9")
            tx.instances.report(instance.id, Report(service, 1, datetime.now(UTC)))
        return instance.id

    yield write
    with api.store.write() as tx:
        for table in ("instances", "operations", "operation_changes", "events", "idempotent_requests"):
            tx.connection.exec_driver_sql(f"DELETE FROM {table}")


def delete(api: Api, instance_id: str) -> None:
    """What the workflow of a deletion comes to."""
    request = DeleteInstance(str(uuid.uuid4()), instance_id)
    with api.store.write() as tx:
        tx.operations.begin(tx.instances.get(instance_id), request, requested_by="demo")
        tx.operations.bury(request.operation_id)
        tx.operations.succeed(request.operation_id)


def listed(client: Client, path: str = "/instances", **query: Any) -> list[str]:
    answer = client.get(path, params=query)
    assert answer.status_code == 200, answer.text
    return [one["name"] for one in answer.json()["instances"]]


def sentence(answer: httpx.Response, status: int) -> str:
    assert answer.status_code == status, answer.text
    (told,) = answer.json().values()
    return str(told["message"])


def send(client: Client, method: str, path: str, body: Any) -> httpx.Response:
    """As JSON in ASCII, which can hold what UTF-8 cannot."""
    headers = {"Content-Type": "application/json"}
    return client.request(method, path, content=json.dumps(body).encode(), headers=headers)


# Stopping and starting


@pytest.mark.parametrize(
    ("action", "service", "status"),
    [
        ("stop", Service.HEALTHY, 202),
        ("stop", Service.BLOCKED, 202),
        ("stop", Service.STARTING, 202),
        ("stop", Service.CRASHED, 202),
        ("stop", Service.SHUTDOWN, 422),
        ("start", Service.SHUTDOWN, 202),
        ("start", Service.CRASHED, 202),
        ("start", Service.HEALTHY, 422),
        ("start", Service.STARTING, 422),
        ("restart", Service.SHUTDOWN, 202),
    ],
)
def test_a_database_server_is_stopped_when_it_runs_and_started_when_it_does_not(
    api: Api, make: Make, action: str, service: Service, status: int
) -> None:
    instance_id = make(service=service)
    answer = api.demo.post(f"/instances/{instance_id}/action", json={action: {}})
    assert answer.status_code == status, answer.text
    if status == 202:
        assert answer.content == b""
        kinds = [
            one["kind"] for one in api.demo.get(f"/operations?instance_id={instance_id}").json()["operations"]
        ]
        assert kinds == [f"instance.{action}"]
        busy = api.demo.post(f"/instances/{instance_id}/action", json={action: {}})
        assert sentence(busy, 422)


# Protection


def test_a_protected_instance_is_deleted_by_nobody(api: Api, make: Make) -> None:
    instance_id = make()
    answer = api.demo.put(f"/instances/{instance_id}/protection", json={"protected": True})
    assert (answer.status_code, answer.json()) == (200, {"protected": True})
    assert api.demo.get(f"/instances/{instance_id}").json()["instance"]["argosy"]["protected"] is True
    for client in (api.demo, api.admin):
        refused = client.delete(f"/instances/{instance_id}")
        assert "protected" in sentence(refused, 403)
        assert refused.json()["forbidden"]["argosy_code"] == "instance-protected"
    # Trove's force delete is a reset, and then a delete.
    assert api.admin.post(f"/instances/{instance_id}/action", json={"reset_status": {}}).status_code == 202
    assert sentence(api.admin.delete(f"/instances/{instance_id}"), 403)

    assert api.demo.put(f"/instances/{instance_id}/protection", json={"protected": False}).is_success
    assert api.demo.delete(f"/instances/{instance_id}").status_code == 202
    assert sentence(api.demo.put(f"/instances/{instance_id}/protection", json={"protected": True}), 422)
    kinds = [one["kind"] for one in api.demo.get("/events").json()["events"]]
    assert {"instance.protected", "instance.unprotected"} <= set(kinds)


def test_a_refused_deletion_leaves_the_operation_under_way_alone(api: Api, make: Make) -> None:
    instance_id = make(protected=True)
    assert api.demo.post(f"/instances/{instance_id}/action", json={"restart": {}}).status_code == 202
    assert sentence(api.demo.delete(f"/instances/{instance_id}"), 403)
    (operation,) = api.demo.get("/operations").json()["operations"]
    assert (operation["kind"], operation["state"]) == ("instance.restart", "queued")


def test_of_a_protection_and_a_deletion_at_once_one_wins(api: Api, make: Make) -> None:
    clients = [api.server.client("demo"), api.server.client("demo")]
    for _ in range(12):
        instance_id = make()
        with ThreadPoolExecutor(2) as pool:
            protected = pool.submit(
                clients[0].put, f"/instances/{instance_id}/protection", json={"protected": True}
            )
            deleted = pool.submit(clients[1].delete, f"/instances/{instance_id}")
        outcome = (protected.result().status_code, deleted.result().status_code)
        assert outcome in {(200, 403), (422, 202)}


def test_protection_is_part_of_a_create_and_says_what_is_wrong_with_it(api: Api, make: Make) -> None:
    asked = {"name": "kept", "flavorRef": "1", "volume": {"size": 1}, "datastore": {"type": "valkey"}}
    made = api.demo.post("/instances", json={"instance": {**asked, "protected": True}}).json()["instance"]
    assert made["argosy"]["protected"] is True
    bodies: list[Any] = [{}, {"protected": "yes"}, {"protected": 1}, {"protected": None}, []]
    for body in bodies:
        answer = api.demo.put(f"/instances/{make()}/protection", json=body)
        assert "protected" in sentence(answer, 400) or body == []
    assert sentence(api.demo.put(f"/instances/{NOBODY}/protection", json={"protected": True}), 404)


# Tags


def test_tags_are_set_at_a_create_shown_changed_and_removed(api: Api, make: Make) -> None:
    asked = {"name": "t", "flavorRef": "1", "volume": {"size": 1}, "datastore": {"type": "valkey"}}
    tags = {"stage": "test", "team": "Käse & Brot", "empty": ""}
    made = api.demo.post("/instances", json={"instance": {**asked, "tags": tags}}).json()["instance"]
    assert made["argosy"]["tags"] == tags
    path = f"/instances/{make()}/tags"
    assert api.demo.get(path).json() == {"tags": {}}
    assert api.demo.put(path, json={"tags": {"a": "1", "b": "2"}}).json() == {"tags": {"a": "1", "b": "2"}}
    assert api.demo.patch(path, json={"tags": {"b": None, "c/d": "3", "gone": None}}).json() == {
        "tags": {"a": "1", "c/d": "3"}
    }
    assert api.demo.delete(f"{path}/c/d").json() == {"tags": {"a": "1"}}
    assert "no tag" in sentence(api.demo.delete(f"{path}/c"), 404)
    assert api.demo.delete(path).json() == {"tags": {}}
    assert api.demo.get(path).json() == {"tags": {}}


@pytest.mark.parametrize(
    ("tags", "told"),
    [
        ({"": "x"}, "1 to 128"),
        ({"k" * 129: "x"}, "1 to 128"),
        ({"-k": "x"}, "a letter or digit"),
        ({"a b": "x"}, "'a b'"),
        ({"a=b": "x"}, "'a=b'"),
        ({"ä": "x"}, "of ASCII"),
        ({"k": "x" * 256}, "255"),
        ({"k": "a\nb"}, "control"),
        ({"k": "a\ud800b"}, "JSON"),
        ({f"k{number}": "" for number in range(51)}, "50 tags at most"),
        ({"k": 1}, "tags.k"),
        ({"k": ["x"]}, "tags.k"),
        (["k"], "tags"),
        ("k=v", "tags"),
    ],
)
def test_a_tag_that_is_out_of_bounds_is_refused_by_its_name_and_the_bound(
    api: Api, make: Make, tags: Any, told: str
) -> None:
    instance_id = make()
    for method in ("PUT", "PATCH"):
        answer = send(api.demo, method, f"/instances/{instance_id}/tags", {"tags": tags})
        assert told in sentence(answer, 400)
    asked = {"name": "t", "flavorRef": "1", "volume": {"size": 1}, "datastore": {"type": "valkey"}}
    answer = send(api.demo, "POST", "/instances", {"instance": {**asked, "tags": tags}})
    assert told in sentence(answer, 400)


def test_many_changes_of_tags_at_once_lose_none(api: Api, make: Make) -> None:
    instance_id = make()
    clients = [api.server.client("demo") for _ in range(4)]

    def change(number: int) -> int:
        body = {"tags": {f"k{number}": str(number)}}
        return clients[number % 4].patch(f"/instances/{instance_id}/tags", json=body).status_code

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(change, range(40))) == {200}
    tags = api.demo.get(f"/instances/{instance_id}/tags").json()["tags"]
    assert tags == {f"k{number}": str(number) for number in range(40)}


def test_lists_choose_by_tags_page_after_page(api: Api, make: Make) -> None:
    for number in range(5):
        make(f"web{number}", tags={"team": "web", "stage": "test" if number % 2 else "production"})
    make("other", tags={"team": 'it\'s "quoted" % _'})
    make("bare")
    for path in ("/instances", "/instances/detail"):
        assert set(listed(api.demo, path, tag="team=web")) == {f"web{number}" for number in range(5)}
        assert set(listed(api.demo, path, tag=["team=web", "stage=test"])) == {"web1", "web3"}
        assert len(listed(api.demo, path, tag="team")) == 6
        assert listed(api.demo, path, tag='team=it\'s "quoted" % _') == ["other"]
        assert listed(api.demo, path, tag="team=") == []
        assert listed(api.demo, path, tag="unknown") == []
    seen: list[str] = []
    link: str | None = f"{api.demo.base_url}instances?limit=2&tag=team%3Dweb&tag=stage"
    while link:
        page = api.demo.get(link).json()
        seen += [one["name"] for one in page["instances"]]
        link = next((one["href"] for one in page.get("links", [])), None)
    assert sorted(seen) == [f"web{number}" for number in range(5)]
    for wrong in ("=x", "a b=x", "k" * 129, '"]', "a'"):
        assert "tag" in sentence(api.demo.get("/instances", params={"tag": wrong}), 400)
    assert sentence(api.demo.get("/instances", params={"tag": ["a=1", "a=2"]}), 400)
    assert sentence(api.demo.get("/instances", params={"tag": [f"k{n}" for n in range(51)]}), 400)


# Deleted instances


def test_deleted_instances_are_listed_and_shown_to_those_who_ask_for_them(api: Api, make: Make) -> None:
    alive = make("alive")
    gone = [make(f"gone{number}", tags={"n": str(number)}) for number in range(5)]
    for instance_id in gone:
        delete(api, instance_id)
    assert listed(api.demo) == ["alive"]
    assert listed(api.demo, deleted="false") == ["alive"]
    assert sentence(api.demo.get(f"/instances/{gone[0]}"), 404)
    assert listed(api.demo, deleted="true") == [f"gone{number}" for number in (4, 3, 2, 1, 0)]
    assert listed(api.demo, "/instances/detail", deleted="True", tag="n=2") == ["gone2"]
    assert listed(api.admin, deleted="true") == []

    seen: list[str] = []
    link: str | None = f"{api.demo.base_url}instances?limit=2&deleted=true"
    while link:
        page = api.demo.get(link).json()
        seen += [one["name"] for one in page["instances"]]
        link = next((one["href"] for one in page.get("links", [])), None)
    assert seen == [f"gone{number}" for number in (4, 3, 2, 1, 0)]
    for marker in (alive, NOBODY, "x"):
        answer = api.demo.get("/instances", params={"deleted": "true", "marker": marker})
        assert "marker" in sentence(answer, 400)

    shown = api.demo.get(f"/instances/{gone[0]}", params={"deleted": "true"}).json()["instance"]
    assert (shown["name"], shown["status"], shown["operating_status"]) == ("gone0", "SHUTDOWN", "DELETED")
    assert shown["argosy"]["deleted"] is not None
    assert shown["argosy"]["tags"] == {"n": "0"}
    assert "addresses" not in shown
    alive_too = api.demo.get(f"/instances/{alive}", params={"deleted": "true"}).json()["instance"]
    assert "deleted" not in alive_too["argosy"]
    for method, path in (("POST", "/action"), ("PUT", "/tags"), ("PUT", "/protection"), ("DELETE", "")):
        body: Any = {"": None, "/action": {"restart": {}}, "/tags": {"tags": {}}}.get(
            path, {"protected": True}
        )
        assert sentence(api.demo.request(method, f"/instances/{gone[0]}{path}", json=body), 404)


def test_history_knows_what_an_instance_was_called_after_it_is_forgotten(api: Api, make: Make) -> None:
    instance_id = make("first")
    assert api.demo.put(f"/instances/{instance_id}", json={"instance": {"name": "second"}}).is_success
    delete(api, instance_id)
    forget_what_is_old(api.store, Retention(deleted_instances=timedelta(seconds=-1)))
    assert sentence(api.demo.get(f"/instances/{instance_id}", params={"deleted": "true"}), 404)
    (operation,) = api.demo.get("/operations").json()["operations"]
    assert (operation["instance_id"], operation["instance_name"]) == (instance_id, "second")
    assert {one["instance_name"] for one in api.demo.get("/events").json()["events"]} == {"second"}


def test_what_is_old_is_forgotten_and_nothing_else(api: Api, make: Make) -> None:
    old, new, alive = make("old"), make("new"), make("alive")
    delete(api, old)
    running = RestartInstance(str(uuid.uuid4()), alive)
    with api.store.write() as tx:
        tx.operations.begin(tx.instances.get(alive), running, requested_by="demo")
        long_ago = "'2020-01-01 00:00:00'"
        for change in (
            f"update instances set deleted_at = {long_ago} where id = '{old}'",
            f"update operations set created_at = {long_ago}",
            f"update operations set ended_at = {long_ago} where ended_at is not null",
            f"update events set at = {long_ago}",
            f"update operation_changes set at = {long_ago}",
        ):
            tx.connection.exec_driver_sql(change)
    delete(api, new)
    forget_what_is_old(api.store, Retention())
    assert listed(api.demo, deleted="true") == ["new"]
    assert listed(api.demo) == ["alive"]
    kept = {one["instance_name"]: one["state"] for one in api.demo.get("/operations").json()["operations"]}
    assert kept == {"new": "succeeded", "alive": "queued"}
    assert {one["instance_name"] for one in api.demo.get("/events").json()["events"]} == {"new"}
    with api.store.read() as tx:
        told = [entry.item.instance_name for entry in tx.operations.journal.after(0)]
    assert set(told) == {"new"}
    forget_what_is_old(api.store, Retention(*[timedelta(seconds=-1)] * 3))
    with api.store.read() as tx:
        last = tx.events.journal.bounds()
    assert last[0] == last[1] > 0, "the newest stays, or its number would come again"
