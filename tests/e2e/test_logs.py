"""Logs with the clients people have: `openstack database log …`, and `argosy logs -f` through every trouble."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pymysql
import pytest

from tests.support.server import Client, Server, wait_until

SECRET = "Hidden-secret-411"


@pytest.fixture(scope="module")
def maria(argosy: Server, demo: Client) -> Iterator[dict[str, Any]]:
    instance = argosy.create(
        demo,
        "logged",
        "mariadb",
        databases=[{"name": "shop"}],
        users=[{"name": "ann", "password": SECRET, "databases": [{"name": "shop"}]}],
    )
    yield instance
    demo.delete(f"/instances/{instance['id']}")
    argosy.wait_until_gone(demo, instance["id"])


def query(instance: dict[str, Any], *statements: str) -> None:
    with (
        pymysql.connect(
            host=instance["ip"][0], user="ann", password=SECRET, database="shop", autocommit=True
        ) as connection,
        connection.cursor() as cursor,
    ):
        for statement in statements:
            cursor.execute(statement)


def openstack(argosy: Server, *words: str, cloud: str = "argosy") -> str:
    done = argosy.command("openstack", "database", "log", *words, cloud=cloud)
    assert done.returncode == 0, done.stderr
    return done.stdout


def act(client: Client, instance: dict[str, Any], **asked: Any) -> dict[str, Any]:
    def answered() -> Any:
        answer = client.post(f"/instances/{instance['id']}/log", json=asked)
        # Its agent may be on its way up again.
        return answer if answer.status_code != 503 else None

    answer = wait_until("the guest answers", answered)
    assert answer.status_code == 200, answer.text
    log: dict[str, Any] = answer.json()["log"]
    return log


def test_the_openstack_client_switches_publishes_tails_and_saves(
    argosy: Server, demo: Client, maria: dict[str, Any], tmp_path: Path
) -> None:
    listed = json.loads(openstack(argosy, "list", "logged", "-f", "json"))
    assert {row["Name"]: row["Status"] for row in listed} == {
        "general": "Disabled",
        "slow_query": "Disabled",
        "audit": "Disabled",
    }
    assert {row["Prefix"] for row in listed} == {"None"}
    assert "No published" in openstack(argosy, "tail", "logged", "general")
    shown = json.loads(openstack(argosy, "set", "logged", "general", "--enable", "-f", "json"))
    assert shown["status"] in {"Enabled", "Ready"}
    query(maria, *(f"SELECT 'mark {number}'" for number in range(30)))
    shown = json.loads(openstack(argosy, "set", "logged", "general", "--publish", "-f", "json"))
    assert shown["container"] == "database_logs"
    assert shown["prefix"] == f"{maria['id']}/mariadb-general/"
    assert shown["published"] > 0
    query(maria, "SELECT 'mark 30'")
    openstack(argosy, "set", "logged", "general", "--publish")
    tail = openstack(argosy, "tail", "logged", "general", "--lines", "4")
    assert "mark 30" in tail
    assert "mark 3'" not in tail
    saved = tmp_path / "saved.log"
    openstack(argosy, "save", "logged", "general", "--file", str(saved))
    text = saved.read_text()
    assert [number for number in range(31) if text.count(f"'mark {number}'") != 1] == []
    assert json.loads(openstack(argosy, "show", "logged", "general", "-f", "json"))["status"] == "Published"
    metafile = demo.get(
        f"{argosy.url}/swift/v1/AUTH_{demo.project_id}/database_logs/{maria['id']}/mariadb-general_metafile"
    ).json()
    assert (metafile["log_name"], metafile["log_type"]) == ("general", "USER")
    shown = json.loads(openstack(argosy, "set", "logged", "general", "--disable", "-f", "json"))
    assert shown["status"] == "Disabled"
    shown = json.loads(openstack(argosy, "set", "logged", "general", "--publish", "--discard", "-f", "json"))
    assert shown["published"] > 0
    openstack(argosy, "set", "logged", "general", "--disable", "--discard")
    assert "No published" in openstack(argosy, "tail", "logged", "general")


def test_who_may_see_what(argosy: Server, demo: Client, maria: dict[str, Any]) -> None:
    path = f"/instances/{maria['id']}"
    for name in ("error", "guest"):
        assert demo.post(f"{path}/log", json={"name": name}).status_code == 403
    assert demo.get(f"{path}/logs/error/lines").status_code == 200
    assert demo.get(f"{path}/logs/guest/lines").status_code == 403
    admin = argosy.client("admin")
    names = {log["name"] for log in admin.get(f"{path}/log").json()["logs"]}
    assert names == {"general", "slow_query", "audit", "error", "guest"}
    for name in ("error", "guest"):
        assert admin.post(f"{path}/log", json={"name": name, "publish": 1}).json()["log"]["published"] > 0
        assert admin.post(f"{path}/log", json={"name": name, "disable": 1}).status_code == 400
    assert "agent serves" in admin.get(f"{path}/logs/guest/lines?lines=1000").json()["lines"]["text"]
    assert demo.post(f"{path}/log", json={"name": "nothing"}).status_code == 400
    assert demo.post(f"{path}/log", json={"name": "general", "enable": 1, "disable": 1}).status_code == 400
    assert demo.post(f"{path}/log", json={"name": "general", "enable": 2}).status_code == 400


def test_publishing_twice_at_once_publishes_everything_once(
    argosy: Server, demo: Client, maria: dict[str, Any]
) -> None:
    act(demo, maria, name="general", enable=1, discard=1)
    filler = "y" * 90_000
    query(maria, *(f"SELECT 'twice {number} {filler}'" for number in range(40)))
    with ThreadPoolExecutor(4) as pool:
        told = list(pool.map(lambda _: act(demo, maria, name="general", publish=1, enable=1), range(4)))
    assert {log["status"] for log in told} <= {"Published", "Partial"}
    swift = f"{argosy.url}/swift/v1/AUTH_{demo.project_id}/database_logs"
    parts = demo.get(f"{swift}?format=json&prefix={told[0]['prefix']}").json()
    assert len(parts) > 3
    assert all(part["bytes"] <= 1_000_000 for part in parts)
    text = "".join(
        demo.get(f"{swift}/{part['name']}").text
        for part in sorted(parts, key=lambda part: str(part["last_modified"]))
    )
    assert [number for number in range(40) if text.count(f"'twice {number} ") != 1] == []
    act(demo, maria, name="general", disable=1, discard=1)


def test_a_guest_that_is_down_shows_its_logs_as_unavailable(
    argosy: Server, demo: Client, maria: dict[str, Any]
) -> None:
    pid = argosy.agent_pid(maria["id"])
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        # The frozen agent's socket still takes connections.
        os.kill(pid, signal.SIGKILL)
        shown = demo.get(f"/instances/{maria['id']}/log").json()["logs"]
        assert {log["status"] for log in shown} <= {"Unavailable", "Disabled"}
    finally:
        wait_until("the agent is back", lambda: argosy.agent_pid(maria["id"]) not in {None, pid})
    argosy.wait_until_healthy(demo, maria["id"])


def test_logs_are_followed_through_the_deaths_of_agent_and_server(
    argosy: Server, demo: Client, maria: dict[str, Any], tmp_path: Path
) -> None:
    act(demo, maria, name="general", enable=1)
    seen = tmp_path / "seen"
    with seen.open("wb") as file:
        child = subprocess.Popen(
            [
                # Whoever started these tests in the background may have had them ignore Ctrl-C.
                *("env", "--default-signal=INT"),
                Path(sys.executable).with_name("argosy"),
                *("logs", "logged", "--log", "gen", "-f", "-n", "0"),
                *("--home", str(argosy.home)),
            ],
            env={**argosy.environment, "LC_ALL": "C.UTF-8"},
            stdout=file,
            stderr=subprocess.PIPE,
        )
    try:

        def shows(mark: str) -> None:
            wait_until(f"{mark} is shown", lambda: mark in seen.read_text(errors="replace"), 60)

        def marked(mark: str) -> bool:
            try:
                query(maria, f"SELECT '{mark}'")
            except pymysql.MySQLError:
                return False
            return True

        # It begins where the log ends when it has come up: until then marks go by.
        wait_until("it follows", lambda: marked("first") and "first" in seen.read_text(), 60, every_s=0.3)
        agent = argosy.agent_pid(maria["id"])
        assert agent is not None
        os.kill(agent, signal.SIGKILL)
        marked("without an agent")
        shows("without an agent")
        demo.post(f"/instances/{maria['id']}/action", json={"restart": {}})
        argosy.wait_until_healthy(demo, maria["id"])
        wait_until("it takes queries", lambda: marked("after the restart"))
        shows("after the restart")
        filler = "z" * 1_000_000
        query(maria, *(f"SELECT '{filler}'" for _ in range(12)), "SELECT 'behind much'")
        shows("behind much")
        assert seen.read_text(errors="replace").count("'without an agent'") == 1
        assert child.poll() is None
        child.send_signal(signal.SIGINT)
        assert child.wait(20) == 130
    finally:
        child.kill()
        child.communicate()
    act(demo, maria, name="general", disable=1)


def test_a_secret_of_argosys_own_is_in_no_log(argosy: Server, demo: Client, maria: dict[str, Any]) -> None:
    path = f"/instances/{maria['id']}"
    for name in ("general", "audit", "slow_query"):
        act(demo, maria, name=name, enable=1)
    demo.post(f"{path}/users", json={"users": [{"name": "eve", "password": "Eves-secret-77"}]})
    demo.put(f"{path}/users/eve", json={"user": {"password": "Other-secret-78"}})
    demo.post(f"{path}/root", json={"password": "Roots-secret-79"})
    query(maria, "CREATE TABLE IF NOT EXISTS audited (id int)", "SELECT SLEEP(1.1)")
    admin = argosy.client("admin")

    def text(name: str) -> str:
        return str(admin.get(f"{path}/logs/{name}/lines?lines=10000").json()["lines"]["text"])

    wait_until("the audit log has it", lambda: "CREATE TABLE" in text("audit"))
    wait_until("the slow log has it", lambda: "SLEEP(1.1)" in text("slow_query"))
    for name in ("general", "audit", "slow_query", "error", "guest"):
        for secret in ("Eves-secret", "Other-secret", "Roots-secret", SECRET):
            assert secret not in text(name), name
    # That the agent connects is told, what it does is not.
    assert "eve" not in text("audit")
    demo.delete(f"{path}/root")
    for name in ("general", "audit", "slow_query"):
        act(demo, maria, name=name, disable=1)


def test_postgresqls_one_stream_is_shown_as_three_logs(argosy: Server, demo: Client) -> None:
    import psycopg

    instance = argosy.create(
        demo,
        "stream",
        "postgresql",
        databases=[{"name": "shop"}],
        users=[{"name": "ann", "password": SECRET, "databases": [{"name": "shop"}]}],
    )
    path = f"/instances/{instance['id']}"

    def text(name: str) -> str:
        return str(demo.get(f"{path}/logs/{name}/lines?lines=1000").json()["lines"]["text"])

    act(demo, instance, name="general", enable=1)
    act(demo, instance, name="slow_query", enable=1)
    with psycopg.connect(
        host=instance["ip"][0], user="ann", password=SECRET, dbname="shop", autocommit=True
    ) as connection:
        connection.execute("SELECT 'plain\nand on a second line'")
        connection.execute("SELECT pg_sleep(1.1)")
        with pytest.raises(psycopg.Error):
            connection.execute("SELECT broken")
    slow = re.compile(r"duration: \d{4,}\.")  # for how many seconds is the machine's affair
    wait_until("the slow one is told", lambda: slow.search(text("slow_query")))
    assert "and on a second line" in text("general")
    assert "duration:" not in text("general")
    assert "plain" not in text("slow_query")
    assert "plain" not in text("error")
    assert 'column "broken" does not exist' in text("error")
    assert "STATEMENT:  SELECT broken" in text("error")
    log = act(demo, instance, name="general", publish=1)
    assert log["status"] in {"Published", "Partial"}
    assert "second line" in openstack(argosy, "tail", "stream", "general")
    demo.delete(path)
    argosy.wait_until_gone(demo, instance["id"])
    swift = f"{argosy.url}/swift/v1/AUTH_{demo.project_id}/database_logs"
    assert demo.get(f"{swift}?prefix={log['prefix']}").text, "what is published outlives its instance"
