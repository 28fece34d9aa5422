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
