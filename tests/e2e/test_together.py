"""Many requests at once: each ends as it would have alone, or is told why not."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.support.databases import connected
from tests.support.server import Client, Server

USER = {"name": "ann", "password": "Ann-secret-77"}


def test_ten_creates_at_once_all_succeed_with_addresses_of_their_own(argosy: Server, demo: Client) -> None:
    def create(number: int) -> dict[str, Any]:
        datastore = ("valkey", "valkey", "postgresql")[number % 3]
        body = {"flavorRef": "1", "volume": {"size": 1}, "datastore": {"type": datastore}, "users": [USER]}
        answer = demo.post("/instances", json={"instance": {"name": f"crowd-{number}", **body}})
        assert answer.status_code == 200, answer.text
        return argosy.wait_until_healthy(demo, answer.json()["instance"]["id"])

    with ThreadPoolExecutor(10) as pool:
        made = list(pool.map(create, range(10)))
    try:
        assert len({instance["ip"][0] for instance in made}) == 10
        for instance in made:
            with connected(argosy, instance, USER["name"], USER["password"], None) as session:
                assert session.encrypted
    finally:
        for instance in made:
            demo.delete(f"/instances/{instance['id']}")
        for instance in made:
            argosy.wait_until_gone(demo, instance["id"])
    assert not {instance["id"] for instance in made} & set(argosy.leftovers())


def test_of_two_heavy_requests_at_once_one_wins_and_the_other_is_told(
    argosy: Server, demo: Client, valkey: dict[str, Any]
) -> None:
    def restart(_: int) -> int:
        return demo.post(f"/instances/{valkey['id']}/action", json={"restart": {}}).status_code

    with ThreadPoolExecutor(8) as pool:
        answers = sorted(pool.map(restart, range(8)))
    argosy.wait_until_healthy(demo, valkey["id"])
    assert answers[0] == 202
    assert answers[-1] == 422
    listed = demo.get("/operations", params={"instance_id": valkey["id"]}).json()["operations"]
    restarts = [one for one in listed if one["kind"] == "instance.restart"]
    assert len(restarts) == answers.count(202)


def test_an_idempotency_key_makes_one_instance_of_many_requests(argosy: Server, demo: Client) -> None:
    body = {"name": "once", "flavorRef": "1", "volume": {"size": 1}, "datastore": {"type": "valkey"}}

    def create(_: int) -> str:
        answer = demo.post("/instances", json={"instance": body}, headers={"Idempotency-Key": "once-1"})
        assert answer.status_code == 200, answer.text
        return str(answer.json()["instance"]["id"])

    with ThreadPoolExecutor(6) as pool:
        ids = set(pool.map(create, range(6)))
    assert len(ids) == 1
    other = demo.post(
        "/instances", json={"instance": {**body, "name": "two"}}, headers={"Idempotency-Key": "once-1"}
    )
    assert other.status_code == 409
    (instance_id,) = ids
    argosy.wait_until_healthy(demo, instance_id)
    demo.delete(f"/instances/{instance_id}")
    argosy.wait_until_gone(demo, instance_id)


def test_of_more_creates_than_the_quota_has_room_for_as_many_as_fit_come_up(
    argosy: Server, demo: Client
) -> None:
    """And what is deleted makes room again. Twenty at a quota of ten, without their databases: tests/api."""
    admin = argosy.client("admin")
    quotas = f"/mgmt/quotas/{demo.project_id}"

    def used() -> int:
        shown = demo.get(quotas).json()["quotas"]
        return int(next(one["in_use"] for one in shown if one["resource"] == "instances"))

    def create(number: int) -> Any:
        body = {"flavorRef": "1", "volume": {"size": 1}, "datastore": {"type": "valkey"}}
        return demo.post("/instances", json={"instance": {"name": f"rationed-{number}", **body}})

    before = used()
    try:
        assert admin.put(quotas, json={"quotas": {"instances": before + 3}}).status_code == 200
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(create, range(8)))
        made = [answer.json()["instance"]["id"] for answer in answers if answer.status_code == 200]
        assert len(made) == 3
        assert {answer.status_code for answer in answers} == {200, 413}
        for instance_id in made:
            argosy.wait_until_healthy(demo, instance_id)
        assert demo.delete(f"/instances/{made[0]}").status_code == 202
        argosy.wait_until_gone(demo, made.pop(0))
        made.append(create(8).json()["instance"]["id"])
        assert create(9).status_code == 413
        argosy.wait_until_healthy(demo, made[-1])
    finally:
        assert admin.put(quotas, json={"quotas": {"instances": -1}}).status_code == 200
    for instance_id in made:
        demo.delete(f"/instances/{instance_id}")
        argosy.wait_until_gone(demo, instance_id)
    assert used() == before
