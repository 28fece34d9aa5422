"""How often a project may ask: contract 2.18 and 4.4."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from argosy.api.rates import Rates
from tests.support.server import Client, Server, running


@pytest.fixture
def limited() -> Iterator[Server]:
    settings = {
        "ARGOSY_RATE_LIMITS__GET": "6",
        "ARGOSY_RATE_LIMITS__PUT": "2",
        "ARGOSY_RATE_LIMITS__MGMT_POST": "1",
    }
    with running("api", **settings) as server:
        yield server


def too_many(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 413, answer.text
    told: dict[str, Any] = answer.json()["overLimit"]
    assert set(told) == {"code", "message", "details", "retryAfter", "argosy_code"}
    assert answer.headers["retry-after"] == told["retryAfter"]
    assert 1 <= int(told["retryAfter"]) <= 60
    # Where the word is, tempest takes it for a quota and does not try again.
    assert "exceed" not in told["message"]
    return told


def remaining(client: Client) -> dict[tuple[str, str], int]:
    rates = client.get("/limits").json()["limits"][1:]
    return {(rate["verb"], rate["uri"]): rate["remaining"] for rate in rates}


def test_each_project_may_ask_so_often_by_verb(limited: Server) -> None:
    demo, admin = limited.client("demo"), limited.client("admin")
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: demo.get("/flavors"), range(8)))
    assert Counter(answer.status_code for answer in answers) == {200: 6, 413: 2}
    told = too_many(demo.get("/limits"))
    assert "6 GET requests" in told["details"]
    # Other verbs, and others' requests, are counted apart; those that were refused are not.
    for method in ("PUT", "PATCH"):
        assert demo.request(method, "/instances/x", json={"instance": {}}).status_code == 404
    too_many(demo.put("/instances/x", json={"instance": {}}))
    for _ in range(10):
        assert demo.delete("/instances/x").status_code == 404
    where = "/mgmt/instances/x/action"
    assert admin.post(where, json={"reboot": {}}).status_code == 404
    too_many(admin.post(where, json={"reboot": {}}))
    assert admin.post("/instances/x/action", json={"restart": {}}).status_code == 404
    assert remaining(admin) == {("GET", "*"): 5, ("PUT", "*"): 2, ("POST", "*/mgmt"): 0}
    shown = admin.get("/limits").json()["limits"]
    assert shown[0]["verb"] == "ABSOLUTE"
    of_get = next(rate for rate in shown if rate["verb"] == "GET")
    assert (of_get["value"], of_get["unit"], of_get["regex"]) == (6, "MINUTE", ".*")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", of_get["nextAvailable"])
    listed = limited.command("openstack", "database", "limit", "list", cloud="argosy-admin")
    assert re.search(r"6 \| GET  \|\s+3 \| MINUTE", listed.stdout), listed.stdout + listed.stderr
    # Nobody is kept from logging in, or from looking whether it is up.
    assert limited.client("demo").token
    assert httpx.get(f"{limited.url}/healthcheck").status_code == 200


def test_the_window_moves_along(monkeypatch: pytest.MonkeyPatch) -> None:
    # By a clock of its own: three questions may take a second on a machine that is busy.
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now)
    rates = Rates({"get": 2}, "second")
    assert [rates.refuse("p", "GET", "flavors") is None for _ in range(3)] == [True, True, False]
    now += 1.01
    assert rates.refuse("p", "GET", "flavors") is None
