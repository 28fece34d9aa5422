"""A volume that fills up: said in status and events, nothing acknowledged is lost, and a resize mends it by itself.

MariaDB waits up to a minute before it tries again to write: with ARGOSY_TEST_LONG set that is waited for.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.e2e.test_resize import SECRET, made, place, resize, show
from tests.support.databases import connected
from tests.support.engines import Refused
from tests.support.server import Client, Server, wait_until
from tests.support.writer import writing

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root has volumes with a size of their own")
LONG = bool(os.environ.get("ARGOSY_TEST_LONG"))


def leave_room(argosy: Server, instance: dict[str, Any], left: int) -> Path:
    """Take all of a volume's room but so many bytes, by a file beside the data."""
    volume: Path = argosy.home / "instances" / instance["id"] / "volume"
    told = os.statvfs(volume)
    ballast = volume / "ballast"
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, told.f_bavail * told.f_frsize - left)
    return ballast


def events(demo: Client, instance: dict[str, Any], kind: str) -> list[str]:
    listed = demo.get(f"/events?instance_id={instance['id']}").json()["events"]
    return [event["message"] for event in listed if event["kind"] == kind]


def begin_to_fill(argosy: Server, instance: dict[str, Any]) -> None:
    """A client that stores more than there is room for, until it is refused; where it has to wait, it waits."""
    session = connected(argosy, instance, "ann", SECRET, place(argosy, instance).database or None)

    def store() -> None:
        with suppress(Refused), session:
            for number in range(5000):
                session.write(f"big-{number}", "x" * 50_000)

    threading.Thread(target=store, daemon=True).start()


@pytest.fixture(params=["valkey", "postgresql", "mariadb"])
def instance(request: pytest.FixtureRequest, argosy: Server, demo: Client) -> Iterator[dict[str, Any]]:
    instance = made(argosy, demo, request.param)
    yield instance
    demo.delete(f"/instances/{instance['id']}")
    argosy.wait_until_gone(demo, instance["id"])


def test_it_is_blocked_until_it_is_larger(argosy: Server, demo: Client, instance: dict[str, Any]) -> None:
    agent = argosy.agent_pid(instance["id"])
    with writing(place(argosy, instance)) as writer:
        leave_room(argosy, instance, 4 * 2**20)
        begin_to_fill(argosy, instance)
        wait_until("it is blocked", lambda: show(demo, instance["id"])["operating_status"] == "BLOCKED", 60)
        wait_until("an event says so", lambda: events(demo, instance, "volume.full"))
        assert show(demo, instance["id"])["volume"]["used_percent"] > 95
        slow = instance["datastore"]["type"] == "mariadb"
        answer = demo.post(f"/instances/{instance['id']}/action", json={"resize": {"volume": 2}})
        assert answer.status_code == 202
        wait_until("it is resized", lambda: show(demo, instance["id"])["volume"]["size"] == 2)
        server = argosy.server_pid(instance["id"])
        if slow and not LONG and server is not None:
            # It would try again after a minute: instead it dies as it waits, and must have lost nothing either.
            os.kill(server, signal.SIGKILL)
        argosy.wait_until_healthy(demo, instance["id"])
        writer.goes_on(90)
        wait_until("an event says so", lambda: events(demo, instance, "volume.room"))
        assert argosy.agent_pid(instance["id"]) == agent
    assert writer.missing() == []


def test_postgresql_without_room_for_its_log_can_be_read_and_made_smaller(
    argosy: Server, demo: Client
) -> None:
    """It gives up, and the reserve that is kept for it lets it start again."""
    instance = made(argosy, demo, "postgresql")
    where = place(argosy, instance)

    def session() -> psycopg.Connection[Any]:
        return psycopg.connect(
            host=where.address, user="ann", password=SECRET, dbname="shop", autocommit=True, connect_timeout=5
        )

    acknowledged = -1
    with session() as writing_one:
        writing_one.execute("create table t (n int primary key, v text) with (fillfactor = 30)")
        writing_one.execute("insert into t select n, repeat('x', 500) from generate_series(1, 200) n")
        leave_room(argosy, instance, 200 * 1024)
        with suppress(psycopg.Error):
            for number in range(5000):
                writing_one.execute("update t set v = repeat(md5(%s::text), 15)", [str(number)])
                acknowledged = number
    assert 0 < acknowledged < 4999

    def is_read_only() -> bool:
        with suppress(psycopg.Error), session() as one:
            return one.execute("show default_transaction_read_only").fetchone() == ("on",)
        return False

    wait_until("it is back, read-only", is_read_only, 60)
    wait_until("it is blocked", lambda: show(demo, instance["id"])["operating_status"] == "BLOCKED", 60)
    with session() as reading:
        held = reading.execute("select v from t where n = 1").fetchone()
        same = reading.execute("select repeat(md5(%s::text), 15)", [str(acknowledged)]).fetchone()
        assert held == same
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            reading.execute("insert into t values (0, '')")
        reading.execute("set default_transaction_read_only = off")
        reading.execute("delete from t where n = 200")
    assert resize(argosy, demo, instance["id"], {"volume": 2})["operation"]["state"] == "succeeded"

    def writes() -> bool:
        with suppress(psycopg.Error), session() as one:
            one.execute("insert into t values (0, '')")
            return True
        return False

    wait_until("it can be written again", writes)
    demo.delete(f"/instances/{instance['id']}")
    argosy.wait_until_gone(demo, instance["id"])


def test_it_grows_by_itself_up_to_its_limit(argosy: Server, demo: Client, valkey: dict[str, Any]) -> None:
    change = {"instance": {"volume": {"autogrow_limit": 2}}}
    assert demo.put(f"/instances/{valkey['id']}", json=change).status_code == 202
    with writing(place(argosy, valkey)) as writer:
        ballast = leave_room(argosy, valkey, 60 * 2**20)
        wait_until("it has grown", lambda: show(demo, valkey["id"])["volume"]["size"] == 2)
        operation = demo.get(f"/operations?instance_id={valkey['id']}").json()["operations"][0]
        assert operation["requested_by"] == "autogrow"
        writer.goes_on()
        assert writer.failures == []
    ballast.unlink()
