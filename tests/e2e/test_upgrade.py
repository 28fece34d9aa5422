"""An instance moves to another version through the API, or stays on its own, running, with its data."""

from __future__ import annotations

import json
import os
import signal
import socket
from contextlib import suppress
from typing import Any

import psycopg
import pytest

from argosy import catalog
from tests.support.databases import connected
from tests.support.server import Client, Server, wait_until

USER = {"name": "ann", "password": "Ann-secret-77"}


def version_id(datastore: str, version: str) -> str:
    return catalog.files()[datastore].version(version).id


def made(argosy: Server, demo: Client, datastore: str, version: str) -> dict[str, Any]:
    more: dict[str, Any] = {"users": [USER]}
    if datastore in {"postgresql", "mariadb"}:
        more = {"users": [{**USER, "databases": [{"name": "shop"}]}], "databases": [{"name": "shop"}]}
    body = {
        "name": f"moved-{datastore}-{version}",
        "flavorRef": "2",
        "volume": {"size": 1},
        "datastore": {"type": datastore, "version": version},
        **more,
    }
    answer = demo.post("/instances", json={"instance": body})
    assert answer.status_code == 200, answer.text
    instance = argosy.wait_until_healthy(demo, answer.json()["instance"]["id"])
    with session(argosy, instance) as connection:
        connection.write("kept", "all along")
    return instance


def session(argosy: Server, instance: dict[str, Any]) -> Any:
    database = "shop" if instance["datastore"]["type"] in {"postgresql", "mariadb"} else None
    return connected(argosy, instance, USER["name"], USER["password"], database)


def upgrade(demo: Client, instance: dict[str, Any], to: str) -> None:
    answer = demo.patch(f"/instances/{instance['id']}", json={"instance": {"datastore_version": to}})
    assert answer.status_code == 202, answer.text
    assert demo.get(f"/instances/{instance['id']}").json()["instance"]["status"] in {"UPGRADE", "ACTIVE"}


def last(demo: Client, instance: dict[str, Any], kind: str) -> dict[str, Any]:
    """The newest operation of a kind, ended."""

    def ended() -> dict[str, Any] | None:
        listed = demo.get("/operations", params={"instance_id": instance["id"], "kind": kind}).json()
        newest: dict[str, Any] = listed["operations"][0]
        return newest if newest["state"] in {"succeeded", "failed"} else None

    found: dict[str, Any] = wait_until(f"{kind} ends", ended, 120)
    return found


def events(demo: Client, instance: dict[str, Any], kind: str) -> list[str]:
    listed = demo.get("/events", params={"instance_id": instance["id"], "kind": kind}).json()["events"]
    return [one["message"] for one in listed]


def take_away(argosy: Server, demo: Client, instance: dict[str, Any]) -> None:
    demo.delete(f"/instances/{instance['id']}")
    argosy.wait_until_gone(demo, instance["id"])
    assert instance["id"] not in argosy.leftovers()


@pytest.mark.parametrize(
    ("before", "after"),
    [("postgresql/15", "postgresql/18"), ("mariadb/10.11", "mariadb/11.8"), ("redis/7", "valkey/9")],
)
def test_an_instance_moves_to_a_newer_version_with_all_that_is_in_it(
    argosy: Server, demo: Client, before: str, after: str
) -> None:
    datastore, _, version = after.partition("/")
    instance = made(argosy, demo, *before.split("/"))
    listed = demo.get(f"/instances/{instance['id']}/upgrades").json()["upgrades"]
    assert {
        "id": version_id(datastore, version),
        "name": version,
        "datastore": datastore,
        "converts": True,
    } in listed
    body = {"rehearsal": {"datastore_version": version_id(datastore, version)}}
    answer = demo.post(f"/instances/{instance['id']}/upgrade-rehearsals", json=body)
    assert answer.status_code == 202, answer.text
    assert demo.get(f"/instances/{instance['id']}").json()["instance"]["status"] == "ACTIVE"
    rehearsed = last(demo, instance, "instance.rehearse_upgrade")
    assert rehearsed["state"] == "succeeded", rehearsed
    (told,) = events(demo, instance, "upgrade.rehearsed")
    assert "worked on a copy of the data" in told
    argosy.wait_until_healthy(demo, instance["id"])

    upgrade(demo, instance, version_id(datastore, version))
    operation = last(demo, instance, "instance.upgrade")
    assert operation["state"] == "succeeded", operation
    now = argosy.wait_until_healthy(demo, instance["id"])
    assert now["datastore"]["type"] == datastore
    assert now["datastore"]["version"] == version
    assert now["ip"] == instance["ip"]
    with session(argosy, now) as connection:
        assert connection.read() == {"kept": "all along"}
        connection.write("later", "too")
    take_away(argosy, demo, instance)


def admin_session(argosy: Server, demo: Client, instance: dict[str, Any]) -> psycopg.Connection[Any]:
    root = demo.post(f"/instances/{instance['id']}/root").json()["user"]
    return psycopg.connect(
        host=instance["ip"][0],
        user=root["name"],
        password=root["password"],
        dbname="shop",
        sslmode="verify-full",
        sslrootcert=str(argosy.home / "database-ca.crt"),
        autocommit=True,
    )


def assert_as_before(argosy: Server, demo: Client, instance: dict[str, Any]) -> None:
    """It runs its old version, with its data, and takes more."""
    shown = argosy.wait_until_healthy(demo, instance["id"])
    assert shown["datastore"]["type"] == instance["datastore"]["type"]
    assert shown["datastore"]["version"] == instance["datastore"]["version"]
    with session(argosy, shown) as connection:
        assert connection.read() == {"kept": "all along"}
    volume = argosy.home / "instances" / instance["id"] / "volume"
    assert [path.name for path in volume.iterdir() if path.name in {"upgrade", "data.previous"}] == []


def test_what_stands_in_the_way_is_told_before_anything_stops(argosy: Server, demo: Client) -> None:
    instance = made(argosy, demo, "postgresql", "15")
    pid = argosy.server_pid(instance["id"])
    with admin_session(argosy, demo, instance) as root:
        root.execute("CREATE TABLE registered (what regproc)")
    upgrade(demo, instance, "18")
    operation = last(demo, instance, "instance.upgrade")
    assert operation["state"] == "failed"
    assert "public.registered.what (regproc)" in operation["error"]
    assert argosy.server_pid(instance["id"]) == pid
    assert_as_before(argosy, demo, instance)

    # What only the conversion itself finds: a view of what the newer server's catalogue has not.
    with admin_session(argosy, demo, instance) as root:
        root.execute("DROP TABLE registered")
        root.execute("CREATE VIEW gone AS SELECT checkpoints_timed FROM pg_stat_bgwriter")
    body = {"rehearsal": {"datastore_version": "17"}}
    assert demo.post(f"/instances/{instance['id']}/upgrade-rehearsals", json=body).status_code == 202
    assert "checkpoints_timed" in last(demo, instance, "instance.rehearse_upgrade")["error"]
    assert argosy.server_pid(instance["id"]) == pid
    upgrade(demo, instance, "17")
    operation = last(demo, instance, "instance.upgrade")
    assert "checkpoints_timed" in operation["error"]
    assert "The instance goes on with postgresql 15." in operation["error"]
    assert_as_before(argosy, demo, instance)

    with admin_session(argosy, demo, instance) as root:
        root.execute("DROP VIEW gone")
    upgrade(demo, instance, "17")
    assert last(demo, instance, "instance.upgrade")["state"] == "succeeded"
    take_away(argosy, demo, instance)


def test_without_room_for_a_copy_nothing_stops(argosy: Server, demo: Client) -> None:
    instance = made(argosy, demo, "valkey", "8")
    pid = argosy.server_pid(instance["id"])
    volume = argosy.home / "instances" / instance["id"] / "volume"
    if "file system" not in instance["argosy"]["limits"]["volume"]:
        pytest.skip("volumes have no size of their own here")
    with (volume / "filler").open("wb") as filler:
        space = os.statvfs(volume)
        os.posix_fallocate(filler.fileno(), 0, space.f_bavail * space.f_frsize - 50 * 2**20)
    upgrade(demo, instance, "9")
    operation = last(demo, instance, "instance.upgrade")
    assert operation["error_code"] == "out-of-space"
    assert "MB free" in operation["error"]
    assert argosy.server_pid(instance["id"]) == pid
    (volume / "filler").unlink()
    assert_as_before(argosy, demo, instance)
    take_away(argosy, demo, instance)


def test_a_version_that_does_not_come_up_gives_way_to_the_one_before(argosy: Server, demo: Client) -> None:
    instance = made(argosy, demo, "valkey", "8")
    where = f"/instances/{instance['id']}"
    upgrade(demo, instance, "9")
    with socket.socket() as taken:
        # In its port's way, from the moment the older server lets it go until the newer one was given up.
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)

        def take() -> bool:
            try:
                taken.bind((instance["ip"][0], 6379))
            except OSError:
                return False
            taken.listen()
            return True

        def version() -> str:
            return str(demo.get(where).json()["instance"]["datastore"]["version"])

        wait_until("the port is free", take, 60, every_s=0.001)
        wait_until("the newer version is tried", lambda: version() == "9", 60)
        wait_until("it is given up", lambda: version() == "8", 60)
    operation = last(demo, instance, "instance.upgrade")
    assert operation["state"] == "failed", operation
    assert_as_before(argosy, demo, instance)
    take_away(argosy, demo, instance)


def test_an_agent_killed_in_the_middle_leaves_one_version_or_the_other(argosy: Server, demo: Client) -> None:
    turns = [
        ("valkey", "8", "9", "making"),
        ("valkey", "8", "9", "starting"),
        ("postgresql", "17", "18", "converting"),
    ]
    for datastore, old, new, moment in turns:
        instance = made(argosy, demo, datastore, old)
        upgrade(demo, instance, new)

        def reached(instance: dict[str, Any] = instance, moment: str = moment) -> bool:
            where = {"instance_id": instance["id"], "kind": "instance.upgrade"}
            operation = demo.get("/operations", params=where).json()["operations"][0]
            return moment in operation["doing"] or operation["state"] in {"succeeded", "failed"}

        wait_until(f"it is {moment}", reached, 60, every_s=0.005)
        agent = argosy.agent_pid(instance["id"])
        if agent is not None:
            with suppress(ProcessLookupError):
                os.kill(agent, signal.SIGKILL)
        operation = last(demo, instance, "instance.upgrade")
        shown = argosy.wait_until_healthy(demo, instance["id"])
        assert shown["datastore"]["version"] == (new if operation["state"] == "succeeded" else old)
        with session(argosy, shown) as connection:
            assert connection.read() == {"kept": "all along"}
        take_away(argosy, demo, instance)


def test_a_configuration_groups_values_move_along_or_keep_the_instance_where_it_is(
    argosy: Server, demo: Client
) -> None:
    instance = made(argosy, demo, "mariadb", "10.11")

    def attach(values: dict[str, Any]) -> None:
        group = {
            "name": "moved",
            "values": values,
            "datastore": {"type": "mariadb", "version": "10.11"},
        }
        answer = demo.post("/configurations", json={"configuration": group})
        assert answer.status_code == 200, answer.text
        chosen = {"instance": {"configuration": answer.json()["configuration"]["id"]}}
        assert demo.put(f"/instances/{instance['id']}", json=chosen).status_code == 202
        last(demo, instance, "instance.configure")

    # 11.8 does not know it.
    attach({"innodb_change_buffering": "none", "max_connect_errors": 4321})
    upgrade(demo, instance, "11.8")
    operation = last(demo, instance, "instance.upgrade")
    assert operation["state"] == "failed"
    assert "configuration group's values" in operation["error"]
    assert "innodb_change_buffering" in operation["error"]
    assert_as_before(argosy, demo, instance)
    demo.put(f"/instances/{instance['id']}", json={"instance": {"configuration": None}})
    last(demo, instance, "instance.configure")

    attach({"max_connect_errors": 4321})
    upgrade(demo, instance, "11.8")
    assert last(demo, instance, "instance.upgrade")["state"] == "succeeded"
    shown = argosy.wait_until_healthy(demo, instance["id"])
    with session(argosy, shown) as connection:
        assert connection.read() == {"kept": "all along"}
    kept = demo.get(f"/instances/{instance['id']}/parameters").json()
    assert "4321" in json.dumps(kept)
    take_away(argosy, demo, instance)


def test_a_rebuild_makes_all_but_the_data_anew(argosy: Server, demo: Client) -> None:
    instance = made(argosy, demo, "postgresql", "17")
    place = argosy.home / "instances" / instance["id"]
    before = (argosy.server_pid(instance["id"]), argosy.agent_pid(instance["id"]))
    certificate = (place / "etc/tls/server.crt").read_text()
    admin = argosy.client("admin")
    where = f"/mgmt/instances/{instance['id']}/action"
    for wrong in ({}, {"image_id": "x"}, {"image_id": version_id("postgresql", "18")}, {"image_id": 7}):
        assert admin.post(where, json={"rebuild": wrong}).status_code == 400
    assert demo.post(where, json={"rebuild": {"image_id": version_id("postgresql", "17")}}).status_code == 401
    answer = admin.post(where, json={"rebuild": {"image_id": version_id("postgresql", "17")}})
    assert answer.status_code == 202, answer.text
    assert last(demo, instance, "instance.rebuild")["state"] == "succeeded"
    assert_as_before(argosy, demo, instance)
    after = (argosy.server_pid(instance["id"]), argosy.agent_pid(instance["id"]))
    assert None not in after
    assert not set(before) & set(after)
    assert (place / "etc/tls/server.crt").read_text() != certificate
    take_away(argosy, demo, instance)


def test_what_cannot_be_is_refused_at_once(argosy: Server, demo: Client, valkey: dict[str, Any]) -> None:
    where = f"/instances/{valkey['id']}"

    def refused(wanted: Any) -> str:
        answer = demo.patch(where, json={"instance": {"datastore_version": wanted}})
        assert answer.status_code == 400, answer.text
        return str(answer.json()["badRequest"]["message"])

    assert "choose one of 9" in refused("10")
    assert "runs valkey 8 already" in refused("8")
    assert "does not read its data" in refused(version_id("redis", "7"))
    for wrong in (None, 9, "", "x" * 300, ["9"], {"9": 9}):
        assert "datastore_version" in refused(wrong)
    both = {"instance": {"datastore_version": "9", "configuration": None}}
    assert demo.patch(where, json=both).status_code == 400
    bodies: list[dict[str, Any]] = [
        {},
        {"rehearsal": {}},
        {"rehearsal": {"datastore_version": 9}},
        {"rehearsal": 9},
    ]
    for body in bodies:
        assert demo.post(f"{where}/upgrade-rehearsals", json=body).status_code == 400
    assert demo.post(f"{where}/action", json={"stop": {}}).status_code == 202
    # Busy, and then stopped: what stands in the way can only be seen in a server that runs.
    assert demo.patch(where, json={"instance": {"datastore_version": "9"}}).status_code == 422
    last(demo, valkey, "instance.stop")
    assert demo.patch(where, json={"instance": {"datastore_version": "9"}}).status_code == 422
    assert demo.post(f"{where}/action", json={"start": {}}).status_code == 202
    argosy.wait_until_healthy(demo, valkey["id"])


def test_command_lines_upgrade_and_rebuild(argosy: Server, demo: Client) -> None:
    instance = made(argosy, demo, "valkey", "8")
    name = instance["name"]

    def run(program: str, *words: str, cloud: str = "argosy") -> str:
        done = argosy.command(program, *words, cloud=cloud)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "converts a copy" in run("argosy", "upgrade", name)
    assert "worked on a copy" in run("argosy", "upgrade", name, "--to", "9", "--check")
    refused = argosy.command("argosy", "upgrade", name, "--to", "7")
    assert refused.returncode == 2
    assert "choose one of 9" in refused.stderr
    run("openstack", "database", "instance", "upgrade", name, "9")
    assert last(demo, instance, "instance.upgrade")["state"] == "succeeded"
    argosy.wait_until_healthy(demo, instance["id"])
    assert "valkey 9" in run("argosy", "show", name)
    image = version_id("valkey", "9")
    admin = "argosy-admin"
    run("openstack", "database", "instance", "rebuild", instance["id"], image, cloud=admin)
    assert last(demo, instance, "instance.rebuild")["state"] == "succeeded"
    assert "was rebuilt" in run("argosy", "admin", "rebuild", instance["id"], cloud=admin)
    shown = argosy.wait_until_healthy(demo, instance["id"])
    with session(argosy, shown) as connection:
        assert connection.read() == {"kept": "all along"}
    take_away(argosy, demo, instance)
