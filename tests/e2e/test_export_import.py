"""Exports and imports through the API: streamed whatever their size, and clean when one side hangs up or is wrong."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import httpx
import pytest

from argosy import marks
from argosy.engines.dumped import MARK
from tests.support.backups import SECRET, Shop, made
from tests.support.databases import connected
from tests.support.server import Client, Server, wait_until

_BINARY = {"Content-Type": "application/octet-stream"}


@pytest.fixture(scope="module")
def maria(argosy: Server, demo: Client) -> Iterator[dict[str, Any]]:
    instance = made(argosy, demo, "dumped", "mariadb")
    yield instance
    demo.delete(f"/instances/{instance['id']}")
    argosy.wait_until_gone(demo, instance["id"])


def path(instance: dict[str, Any], what: str) -> str:
    return f"/instances/{instance['id']}/{what}"


def programs(instance: dict[str, Any]) -> list[int]:
    return marks.marked({marks.INSTANCE: instance["id"], **MARK})


def events(client: Client, instance: dict[str, Any]) -> list[str]:
    told = client.get("/events", params={"instance_id": instance["id"]}).json()["events"]
    return [one["message"] for one in told if one["kind"].startswith("dump.")]


def script(rows: int, last: bytes = b"-- Dump completed on today\n") -> Iterator[bytes]:
    yield b"CREATE TABLE things (id int primary key, word text);\n"
    for number in range(rows):
        yield b"INSERT INTO things VALUES (%d, '%s');\n" % (number, b"x" * 10_000)
    yield last


def test_a_dump_travels_both_ways_and_into_the_store(
    demo: Client, argosy: Server, maria: dict[str, Any]
) -> None:
    with closing(Shop(argosy, maria)) as shop:
        shop.put(1, 2, 3)
    answer = demo.get(path(maria, "export"), params={"database": "shop"})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/octet-stream"
    assert 'filename="shop.dump"' in answer.headers["content-disposition"]
    assert b"Dump completed" in answer.content
    assert demo.post(path(maria, "databases"), json={"databases": [{"name": "copy"}]}).status_code == 202
    loaded = demo.put(path(maria, "import?database=copy"), content=answer.content)
    assert (loaded.status_code, loaded.json()) == (
        200,
        {"import": {"size": len(answer.content), "remarks": []}},
    )
    place = {"container": "dumps", "name": "of/shop"}
    asked = {"export": {"database": "copy", "table": "written", "object": place}}
    stored = demo.post(path(maria, "export"), json=asked)
    assert stored.status_code == 200, stored.text
    assert stored.json()["export"].items() >= place.items()
    user = {"name": "bob", "password": SECRET, "databases": [{"name": "copy"}]}
    assert demo.post(path(maria, "users"), json={"users": [user]}).status_code == 202
    assert demo.post(path(maria, "databases"), json={"databases": [{"name": "third"}]}).status_code == 202
    back = demo.post(path(maria, "import"), json={"import": {"database": "third", "object": place}})
    assert (back.status_code, back.json()["import"]["size"]) == (200, stored.json()["export"]["size"])
    assert (
        demo.put(path(maria, "users/bob/databases"), json={"databases": [{"name": "third"}]}).status_code
        == 202
    )
    with closing(connected(argosy, maria, "bob", SECRET, "third")) as session:
        assert set(session.read()) == {"1", "2", "3"}
    assert any("Database 'shop' was exported" in told for told in events(demo, maria))
    for name in ("copy", "third"):
        demo.delete(path(maria, f"databases/{name}"))


@pytest.mark.parametrize(
    ("method", "what", "more", "status", "told"),
    [
        ("GET", "export?database=nowhere", {}, 404, "nowhere"),
        ("GET", "export?database=mysql", {}, 404, "mysql"),
        ("GET", "export?database=shop&table=nothing", {}, 404, "nothing"),
        ("GET", f"export?database={'x' * 300}", {}, 400, "255"),
        ("GET", "export?database=--help", {}, 404, "--help"),
        ("PUT", "import?database=nowhere", {"content": b"SELECT 1;"}, 404, "nowhere"),
        ("PUT", "import?database=shop", {"content": b""}, 400, "empty"),
        ("PUT", "import?database=shop", {"content": b"PGDMP" * 9}, 400, "PostgreSQL"),
        ("PUT", "import?database=shop", {"content": b"DROP DATABASE mysql;"}, 400, "denied"),
        ("POST", "export", {"json": {"export": {"database": "shop"}}}, 400, "export.object"),
        ("POST", "export", {"json": {"export": {"object": {"container": "a/b", "name": "x"}}}}, 400, "slash"),
        ("POST", "import", {"json": {"import": {"object": {"container": "no", "name": "x"}}}}, 404, "'x'"),
        ("POST", "import", {"json": []}, 400, "Validation error"),
        ("POST", "import", {"content": b"x", "headers": _BINARY}, 415, "application/json"),
    ],
)
def test_what_cannot_be_is_refused_in_the_documented_form(
    demo: Client, maria: dict[str, Any], method: str, what: str, more: dict[str, Any], status: int, told: str
) -> None:
    answer = demo.request(method, path(maria, what), **more)
    assert answer.status_code == status, answer.text
    (fault,) = answer.json().values()
    assert fault["code"] == status
    assert told in fault["message"]


def test_a_dump_is_its_projects_own(argosy: Server, demo: Client, maria: dict[str, Any]) -> None:
    stranger = argosy.client("admin")
    assert (
        stranger.get(f"{argosy.url}/v1.0/{demo.project_id}/instances/{maria['id']}/export").status_code == 403
    )
    assert httpx.get(f"{argosy.url}/v1.0/{demo.project_id}/instances/{maria['id']}/export").status_code == 401
    assert (
        httpx.put(f"{demo.base_url}instances/{maria['id']}/import", content=b"SELECT 1;").status_code == 401
    )


def test_an_import_larger_than_any_other_body_is_taken_and_a_wrong_one_ends_it_at_once(
    argosy: Server, demo: Client, maria: dict[str, Any]
) -> None:
    answer = demo.put(path(maria, "import?database=shop"), content=script(1000))
    assert answer.status_code == 200, answer.text
    assert answer.json()["import"]["size"] > 10_000_000
    taken = 0

    def endless() -> Iterator[bytes]:
        nonlocal taken
        yield b"CREATE TABLE things (a int);\n"
        while taken < 2**32:
            taken += 10_000
            yield b"-- " + b"x" * 9_996 + b"\n"

    refused = demo.put(path(maria, "import?database=shop"), content=endless())
    assert refused.status_code == 400, refused.text
    assert "already exists" in refused.text
    assert taken < 2**30
    assert any("import of database 'shop' failed" in told for told in events(demo, maria))
    with closing(connected(argosy, maria, "ann", SECRET, "shop")) as session:
        session.write("still", "serving")
    wait_until("nothing runs", lambda: not programs(maria))


def test_a_client_that_hangs_up_in_the_middle_ends_everything(
    argosy: Server, demo: Client, maria: dict[str, Any]
) -> None:
    def hanging() -> Iterator[bytes]:
        yield b"CREATE TABLE halves (id int primary key, word text);\n"
        for number in range(100):
            yield b"INSERT INTO halves VALUES (%d, '%s');\n" % (number, b"x" * 10_000)
        wait_until("the program runs", lambda: programs(maria))
        raise ConnectionError("hung up")

    with pytest.raises(ConnectionError):
        demo.put(path(maria, "import?database=shop"), content=hanging())
    wait_until("the import has ended", lambda: not programs(maria))
    wait_until("it is told", lambda: any("hung up" in told for told in events(demo, maria)))

    drop = b"DROP TABLE IF EXISTS things;"
    wait_until(
        "the next import is let in",
        lambda: demo.put(path(maria, "import?database=shop"), content=drop).status_code == 200,
    )
    demo.put(path(maria, "import?database=shop"), content=script(500, b"")).raise_for_status()
    with demo.stream("GET", path(maria, "export"), params={"database": "shop"}) as answer:
        assert answer.status_code == 200
        next(answer.iter_bytes(1000))
    wait_until("the export has ended", lambda: not programs(maria))


def test_an_agent_that_dies_in_the_middle_of_an_export_is_told_by_a_dump_without_its_end(
    argosy: Server, demo: Client, maria: dict[str, Any]
) -> None:
    demo.put(path(maria, "import?database=shop"), content=b"DROP TABLE IF EXISTS things;")
    demo.put(path(maria, "import?database=shop"), content=script(2500)).raise_for_status()
    agent = argosy.agent_pid(maria["id"])
    assert agent is not None
    with demo.stream("GET", path(maria, "export"), params={"database": "shop"}) as answer:
        parts = answer.iter_bytes(1000)
        next(parts)
        os.kill(agent, 9)
        with pytest.raises(httpx.RemoteProtocolError):
            list(parts)
    wait_until("nothing runs", lambda: not programs(maria))
    asked = path(maria, "export?database=shop")
    wait_until("another agent exports", lambda: demo.get(asked).status_code == 200)
