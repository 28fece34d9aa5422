"""/instances/{id}/log, by the contract: what can be refused before a guest is asked, and what a status says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from argosy.domain.logs import GuestLog, Published, cut, pending, status
from tests.api.conftest import Api

NOBODY = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
def instance_id(api: Api) -> Iterator[str]:
    yield api.silent_mariadb("logged")
    with api.store.write() as tx:
        for table in ("instances", "instance_logs", "events"):
            tx.connection.exec_driver_sql(f"DELETE FROM {table}")


def test_a_guest_that_does_not_answer_has_its_logs_listed(api: Api, instance_id: str) -> None:
    logs = api.demo.get(f"/instances/{instance_id}/log").json()["logs"]
    assert [log["name"] for log in logs] == ["general", "slow_query", "audit"]
    assert logs[0] == {
        "name": "general",
        "type": "USER",
        "status": "Unavailable",
        "published": 0,
        "pending": 0,
        "container": "None",
        "prefix": "None",
        "metafile": f"{instance_id}/mariadb-general_metafile",
    }
    seen = api.admin.get(f"/instances/{instance_id}/log").json()["logs"]
    assert [log["name"] for log in seen if log["type"] == "SYS"] == ["error", "guest"]


REFUSED: list[tuple[dict[str, Any], int]] = [
    ({}, 400),
    ({"name": ""}, 400),
    ({"name": "x" * 65}, 400),
    ({"name": "nothing"}, 400),
    ({"name": "../general"}, 400),
    ({"name": 1}, 400),
    ({"name": "general", "enable": 2}, 400),
    ({"name": "general", "enable": "1"}, 400),
    ({"name": "general", "enable": None}, 400),
    ({"name": "general", "enable": 1, "disable": 1}, 400),
    ({"name": "error"}, 403),
    ({"name": "guest", "publish": 1}, 403),
    ({"name": "general", "publish": 1}, 503),
    ({"name": "general", "enable": 1}, 503),
]


@pytest.mark.parametrize(("body", "refusal"), REFUSED, ids=[str(body) for body, _ in REFUSED])
def test_what_cannot_be_is_refused(api: Api, instance_id: str, body: dict[str, Any], refusal: int) -> None:
    answer = api.demo.post(f"/instances/{instance_id}/log", json=body)
    assert answer.status_code == refusal, answer.text


def test_an_instance_that_is_not_there_has_no_logs(api: Api) -> None:
    for where in (NOBODY, "no-id"):
        assert api.demo.get(f"/instances/{where}/log").status_code == 404
        assert api.demo.post(f"/instances/{where}/log", json={"name": "general"}).status_code == 404
        assert api.demo.get(f"/instances/{where}/logs/error/lines").status_code == 404


@pytest.mark.parametrize("query", ["position=x", "position=-1", "lines=x", "lines=-1", "position=1.5"])
def test_no_query_of_lines_is_a_surprise(api: Api, instance_id: str, query: str) -> None:
    answer = api.demo.get(f"/instances/{instance_id}/logs/general/lines?{query}")
    assert answer.status_code == 400, answer.text


def test_a_dead_publisher_does_not_hold_a_log_for_ever(api: Api, instance_id: str) -> None:
    with api.store.write() as tx:
        assert tx.logs.claim(instance_id, "p", "general", "one") == (True, None)
        assert tx.logs.begin_part(instance_id, "p", "general", "one", "part-1")
        assert tx.logs.claim(instance_id, "p", "general", "two") == (False, "part-1")
        assert tx.logs.claim(instance_id, "q", "general", "two") == (True, None)
        tx.connection.exec_driver_sql("UPDATE instance_logs SET claimed_at = '2020-01-01 00:00:00.000000'")
        assert tx.logs.claim(instance_id, "p", "general", "two") == (True, "part-1")
        assert not tx.logs.note(instance_id, "p", "general", "one", Published(0, 9, 0, 1, "c", "p/"))
        assert tx.logs.published(instance_id, "p") == {}


def log(*, begins: int = 0, ends: int = 100, rotated: int = 0, **more: bool) -> GuestLog:
    switches = {"is_on": True, "waits": False} | more
    return GuestLog("general", begins=begins, ends=ends, rotated=rotated, digest="", file="x", **switches)


def published(begins: int, ends: int, rotated: int = 0) -> Published:
    return Published(begins, ends, rotated, 1, "database_logs", "x/")


@pytest.mark.parametrize(
    ("told", "stored", "shown", "left"),
    [
        (None, None, "Unavailable", 0),
        (log(is_on=False), None, "Disabled", 100),
        (log(waits=True), None, "Restart Required", 100),
        (log(ends=0), None, "Enabled", 0),
        (log(), None, "Ready", 100),
        (log(), published(0, 40), "Partial", 60),
        (log(), published(0, 100), "Published", 0),
        (log(begins=50, rotated=100, ends=120), published(0, 100), "Rotated", 70),
        (log(ends=10), published(0, 100), "Rotated", 10),
    ],
)
def test_a_status_follows_from_the_log_and_what_is_published(
    told: GuestLog | None, stored: Published | None, shown: str, left: int
) -> None:
    assert status(told, stored) == shown
    assert pending(told, stored) == left


def test_text_is_cut_at_line_ends_and_never_within_a_character() -> None:
    text = b"one\ntwo\nthree\n" + "ä".encode() * 20
    for most in range(4, 60):
        parts = list(cut(text, most))
        assert b"".join(parts) == text
        assert all(len(part) <= most for part in parts)
        for part in parts:
            part.decode()
