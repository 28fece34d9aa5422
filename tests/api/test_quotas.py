"""How much a project may have: contract 2.18, 2.22, 3.11."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from argosy.domain.errors import Failed
from argosy.domain.operations import ResizeVolume
from argosy.domain.quotas import QuotaExceeded
from argosy.metadata.store import Store
from tests.api.conftest import FLAVORS, Api
from tests.support import metadata
from tests.support.server import Client, running

USUAL = {"ARGOSY_QUOTAS__INSTANCES": "10", "ARGOSY_QUOTAS__VOLUMES": "40"}


@pytest.fixture(scope="module")
def bounded() -> Iterator[Api]:
    """An API with the usual quotas, where what is asked for waits for a task manager that is not there."""
    with running("api", **USUAL) as server:
        store = Store(server.settings.database_url)
        try:
            with store.write() as tx:
                tx.flavors.publish(FLAVORS)
            yield Api(server, store, server.client("demo"), server.client("admin"))
        finally:
            store.close()


@pytest.fixture(autouse=True)
def afresh(bounded: Api) -> Iterator[None]:
    yield
    with bounded.store.write() as tx:
        for table in ("instances", "operations", "events", "idempotent_requests", "quotas"):
            tx.connection.exec_driver_sql(f"DELETE FROM {table}")


def create(
    client: Client, name: str, *, volume_gb: int = 1, headers: dict[str, str] | None = None
) -> httpx.Response:
    asked = {
        "name": name,
        "flavorRef": "2",
        "volume": {"size": volume_gb},
        "datastore": {"type": "valkey"},
    }
    return client.post("/instances", json={"instance": asked}, headers=headers)


def give(api: Api, **limits: Any) -> None:
    answer = api.admin.put(f"/mgmt/quotas/{api.demo.project_id}", json={"quotas": limits})
    assert answer.status_code == 200, answer.text


def has(client: Client) -> dict[str, tuple[int, int, int]]:
    """In use, reserved and limit of each resource."""
    shown = client.get(f"/mgmt/quotas/{client.project_id}").json()["quotas"]
    return {one["resource"]: (one["in_use"], one["reserved"], one["limit"]) for one in shown}


def refused(answer: httpx.Response) -> str:
    assert answer.status_code == 413, answer.text
    ((name, told),) = answer.json().items()
    assert (name, told["code"], told["argosy_code"]) == ("overLimit", 413, "quota-exceeded")
    # Tempest waits and tries again where this header is, or the word is not (contract 4.4).
    assert "retry-after" not in answer.headers
    assert "exceed" in told["message"]
    return str(told["message"])


def finish(api: Api, instance_id: str) -> None:
    """What a task manager would write at the end of a create."""
    with api.store.write() as tx:
        tx.operations.succeed(tx.instances.get(instance_id).operation_id or "")


def bury(api: Api, instance_id: str) -> None:
    with api.store.write() as tx:
        tx.operations.bury(tx.instances.get(instance_id).operation_id or "")


def test_of_twenty_creates_at_once_exactly_as_many_as_the_quota_succeed(bounded: Api) -> None:
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda number: create(bounded.demo, f"db{number}"), range(20)))
    assert Counter(answer.status_code for answer in answers) == {200: 10, 413: 10}
    assert all("['instances']" in refused(answer) for answer in answers if answer.status_code == 413)
    assert has(bounded.demo)["instances"] == (10, 0, 10)


def test_whichever_of_the_quotas_is_short_refuses_under_concurrency_too(bounded: Api) -> None:
    give(bounded, ram=2048, volumes=9)
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda number: create(bounded.demo, f"db{number}", volume_gb=2), range(12)))
    assert Counter(answer.status_code for answer in answers) == {200: 4, 413: 8}
    quotas = has(bounded.demo)
    assert (quotas["ram"], quotas["volumes"]) == ((2048, 0, 2048), (8, 0, 9))


def test_a_refusal_names_every_resource_that_is_short_with_the_numbers(bounded: Api) -> None:
    give(bounded, instances=0, volumes=3)
    message = refused(create(bounded.demo, "db", volume_gb=5))
    assert "['instances', 'volumes']" in message
    assert "volumes: 0 of 3 in use, 5 more asked" in message
    assert "ram" not in message


def test_minus_one_is_unlimited_and_what_was_not_given_stays_the_usual(bounded: Api) -> None:
    give(bounded, instances=-1, volumes=None)
    for number in range(11):
        assert create(bounded.demo, f"db{number}").status_code == 200
    assert has(bounded.demo) == {
        "instances": (11, 0, -1),
        "ram": (11 * 512, 0, -1),
        "volumes": (11, 0, 40),
        "backups": (0, 0, 50),
    }


def test_a_quota_below_what_is_there_takes_nothing_away_and_gives_nothing_more(bounded: Api) -> None:
    first = create(bounded.demo, "first").json()["instance"]["id"]
    second = create(bounded.demo, "second").json()["instance"]["id"]
    give(bounded, instances=1)
    assert has(bounded.demo)["instances"] == (2, 0, 1)
    assert bounded.demo.get(f"/instances/{first}").status_code == 200
    refused(create(bounded.demo, "third"))
    bury(bounded, second)
    refused(create(bounded.demo, "third"))
    bury(bounded, first)
    assert create(bounded.demo, "third").status_code == 200


def test_what_failed_counts_until_it_is_gone(bounded: Api) -> None:
    give(bounded, instances=1)
    made = create(bounded.demo, "first").json()["instance"]["id"]
    with bounded.store.write() as tx:
        tx.operations.fail(tx.instances.get(made).operation_id or "", Failed("no software"))
    refused(create(bounded.demo, "second"))
    assert bounded.demo.delete(f"/instances/{made}").status_code == 202
    refused(create(bounded.demo, "second"))
    bury(bounded, made)
    assert create(bounded.demo, "second").status_code == 200


def test_a_repeated_request_takes_nothing_twice(bounded: Api) -> None:
    give(bounded, instances=1)
    key = {"Idempotency-Key": "only-one"}
    first, again = (create(bounded.demo, "db", headers=key) for _ in range(2))
    assert first.json()["instance"]["id"] == again.json()["instance"]["id"]


def test_a_resize_counts_at_the_larger_size_until_it_ends(bounded: Api) -> None:
    give(bounded, volumes=10)
    instance_id = create(bounded.demo, "db", volume_gb=2).json()["instance"]["id"]
    finish(bounded, instance_id)
    with bounded.store.write() as tx:
        instance = tx.instances.get(instance_id)
        with pytest.raises(QuotaExceeded, match="2 of 10 in use, 9 more asked"):
            tx.quotas.grow(instance, volume_gb=11)
    # A store of our own has the usual limits too, and the project's are in the database.
    with bounded.store.write() as tx:
        tx.quotas.grow(instance, volume_gb=8)
        tx.operations.begin(instance, ResizeVolume("op", instance_id, 8), requested_by="demo")
    assert has(bounded.demo)["volumes"] == (2, 6, 10)
    refused(create(bounded.demo, "other", volume_gb=3))
    with bounded.store.write() as tx:
        tx.operations.fail("op", Failed("no space"))
    assert has(bounded.demo)["volumes"] == (2, 0, 10)
    with bounded.store.write() as tx:
        tx.quotas.grow(tx.instances.get(instance_id), memory_mb=256)
    assert has(bounded.demo)["ram"] == (512, 0, -1)


def test_limits_tell_the_quotas_first(bounded: Api) -> None:
    give(bounded, ram=4096)
    absolute = {"max_instances": 10, "max_ram": 4096, "max_volumes": 40, "max_backups": 50}
    assert bounded.demo.get("/limits").json() == {"limits": [{"verb": "ABSOLUTE", **absolute}]}


def test_quotas_are_seen_by_the_own_project_and_changed_by_administrators(bounded: Api) -> None:
    demo, admin = bounded.demo.project_id, bounded.admin.project_id
    assert bounded.admin.get(f"/mgmt/quotas/{demo}").status_code == 200
    assert bounded.demo.get(f"/mgmt/quotas/{admin}").status_code == 403
    body = {"quotas": {"instances": 99}}
    assert bounded.demo.put(f"/mgmt/quotas/{demo}", json=body).status_code == 401
    assert bounded.admin.put(f"/mgmt/quotas/{demo}", json=body).json() == body
    assert has(bounded.admin)["instances"] == (0, 0, 10)
    ((event),) = bounded.demo.get("/events").json()["events"]
    assert (event["kind"], event["actor"]) == ("quota.changed", "admin")


@pytest.mark.parametrize(
    ("quotas", "status", "words"),
    [
        ({"instances": -2}, 400, "quotas.instances"),
        ({"instances": 2**31}, 400, str(2**31 - 1)),
        ({"instances": True}, 400, "quotas.instances"),
        ({"instances": "5"}, 400, "quotas.instances"),
        ({"instances": 1.5}, 400, "quotas.instances"),
        ({"volumes": {}}, 400, "quotas.volumes"),
        ({"floppies": 1}, 404, "instances, ram, volumes, backups"),
        ([], 400, "quotas"),
        (None, 400, "quotas"),
    ],
)
def test_what_is_no_quota_is_refused_whole(bounded: Api, quotas: Any, status: int, words: str) -> None:
    if isinstance(quotas, dict):
        quotas = {"backups": 1, **quotas}
    answer = bounded.admin.put(f"/mgmt/quotas/{bounded.demo.project_id}", json={"quotas": quotas})
    assert answer.status_code == status, answer.text
    assert words in answer.text
    assert has(bounded.demo)["backups"] == (0, 0, 50)


def test_a_project_that_is_not_there_has_no_quotas(bounded: Api) -> None:
    for answer in (
        bounded.admin.get("/mgmt/quotas/nowhere"),
        bounded.admin.put("/mgmt/quotas/nowhere", json={"quotas": {}}),
    ):
        assert answer.status_code == 404, answer.text


def test_postgresql_keeps_quotas_under_concurrency_as_sqlite_does() -> None:
    """Its transactions overlap, where SQLite has one writer at a time."""
    with (
        metadata.postgresql() as database,
        running("api", **USUAL, ARGOSY_METADATA_URL=database.url) as server,
    ):
        url = database.url
        store = Store(url)
        with store.write() as tx:
            tx.flavors.publish(FLAVORS)
        store.close()
        demo, other = server.client("demo"), server.client("admin")
        with ThreadPoolExecutor(24) as pool:
            answers = list(pool.map(lambda number: create(demo if number % 6 else other, "db"), range(24)))
        assert Counter(answer.status_code for answer in answers) == {200: 14, 413: 10}
        assert has(demo)["instances"] == (10, 0, 10)
        assert has(other)["instances"] == (4, 0, 10)
