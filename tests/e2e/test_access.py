"""Who may connect is what its owner said, through the API and every client, whatever dies meanwhile."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.databases import connected
from tests.support.server import Client, Server, wait_until

USER = {"name": "ann", "password": "Ann-secret-77"}
HERE, NEIGHBOUR = "127.0.0.1", "127.88.0.1"


@pytest.fixture(scope="module")
def mariadb(argosy: Server, demo: Client) -> Iterator[dict[str, Any]]:
    """Made for its neighbour alone."""
    instance = argosy.create(
        demo,
        "guarded",
        "mariadb",
        databases=[{"name": "shop"}],
        users=[{**USER, "databases": [{"name": "shop"}]}],
        access={"is_public": True, "allowed_cidrs": ["127.88.0.0/16"]},
        tls={"mode": "required"},
    )
    yield instance
    demo.delete(f"/instances/{instance['id']}")
    argosy.wait_until_gone(demo, instance["id"])


def is_heard(instance: dict[str, Any], source: str) -> bool:
    try:
        place = (instance["ip"][0], instance["addresses"][0]["port"])
        socket.create_connection(place, timeout=0.3, source_address=(source, 0)).close()
    except TimeoutError:
        return False
    return True


def update(client: Client, instance: dict[str, Any], **access: Any) -> None:
    answer = client.put(f"/instances/{instance['id']}", json={"instance": {"access": access}})
    assert answer.status_code == 202, answer.text


def test_an_instance_is_made_for_the_networks_asked_for(demo: Client, mariadb: dict[str, Any]) -> None:
    assert mariadb["access"] == {"is_public": True, "allowed_cidrs": ["127.88.0.0/16"]}
    assert not is_heard(mariadb, HERE)
    assert is_heard(mariadb, NEIGHBOUR)
    told = mariadb["argosy"]["access"]
    assert told["networks"] == "a filter in the kernel on the server's socket, 1 network"
    assert told["tls"] == "required"
    assert "this machine only" in told["reach"]
    assert [address["type"] for address in mariadb["addresses"]] == ["private"]
    tls = demo.get(f"/instances/{mariadb['id']}/tls").json()["tls"]
    assert tls == {"mode": "required", "enforced": "required"}


def test_an_update_replaces_what_was_said_and_leaves_the_instance_active(
    argosy: Server, demo: Client, mariadb: dict[str, Any]
) -> None:
    update(demo, mariadb, allowed_cidrs=[HERE])
    shown = demo.get(f"/instances/{mariadb['id']}").json()["instance"]
    assert shown["status"] == "ACTIVE"
    shown = argosy.wait_until_healthy(demo, mariadb["id"])
    assert shown["access"] == {"is_public": False, "allowed_cidrs": [HERE]}
    assert not is_heard(mariadb, NEIGHBOUR)
    with connected(argosy, mariadb, USER["name"], USER["password"], "shop") as session:
        assert session.encrypted
    update(demo, mariadb, is_public=True)
    shown = argosy.wait_until_healthy(demo, mariadb["id"])
    assert shown["access"] == {"is_public": True}
    assert shown["argosy"]["access"]["networks"] == "any address"
    assert is_heard(mariadb, NEIGHBOUR)


def test_the_rules_outlive_the_server_and_the_agent(
    argosy: Server, demo: Client, mariadb: dict[str, Any]
) -> None:
    update(demo, mariadb, allowed_cidrs=["127.88.0.0/16"])
    argosy.wait_until_healthy(demo, mariadb["id"])
    agent, server = argosy.agent_pid(mariadb["id"]), argosy.server_pid(mariadb["id"])
    assert agent is not None
    assert server is not None
    os.kill(agent, signal.SIGKILL)
    os.kill(server, signal.SIGKILL)
    wait_until(
        "another agent has started another server",
        lambda: argosy.server_pid(mariadb["id"]) not in {None, server},
    )
    wait_until("the neighbour is heard", lambda: _heard_or_refused(mariadb, NEIGHBOUR))
    assert not is_heard(mariadb, HERE)
    update(demo, mariadb)
    argosy.wait_until_healthy(demo, mariadb["id"])
    assert is_heard(mariadb, HERE)


def _heard_or_refused(instance: dict[str, Any], source: str) -> bool:
    try:
        return is_heard(instance, source)
    except ConnectionRefusedError:
        return False


def test_what_cannot_be_is_refused_with_the_reason(demo: Client, valkey: dict[str, Any]) -> None:
    answer = demo.put(f"/instances/{valkey['id']}/tls", json={"tls": {"mode": "allowed"}})
    assert answer.status_code == 501
    assert "its port speaks TLS alone" in answer.json()["notImplemented"]["message"]
    for access, field in (
        ({"allowed_cidrs": ["10.0.0.0/33"]}, "allowed_cidrs"),
        ({"allowed_cidrs": ["::/0"]}, "allowed_cidrs"),
        ({"allowed_cidrs": ["10.0.0.1", "10.0.0.1"]}, "allowed_cidrs"),
        ({"allowed_cidrs": [f"10.0.{each}.0/24" for each in range(101)]}, "allowed_cidrs"),
        ({"is_public": "yes"}, "is_public"),
        ({"tls": "required"}, "tls"),
        (None, "access"),
    ):
        answer = demo.put(f"/instances/{valkey['id']}", json={"instance": {"access": access}})
        assert answer.status_code == 400, answer.text
        assert field in answer.json()["badRequest"]["message"]
    both = {"access": {}, "datastore_version": "9"}
    answer = demo.put(f"/instances/{valkey['id']}", json={"instance": both})
    assert answer.status_code == 400
    answer = demo.put(f"/instances/{valkey['id']}/tls", json={"tls": {"mode": "off"}})
    assert answer.status_code == 400


def said_by(argosy: Server, line: str) -> str:
    program, *arguments = line.split()
    told = argosy.command(program, *arguments)
    assert told.returncode == 0, told.stderr
    return told.stdout


def test_the_openstack_client_changes_who_may_connect(
    argosy: Server, demo: Client, valkey: dict[str, Any]
) -> None:
    said_by(argosy, "openstack database instance update quick --is-public --allowed-cidr 127.88.0.0/16")
    argosy.wait_until_healthy(demo, valkey["id"])
    assert not is_heard(valkey, HERE)
    assert '"127.88.0.0/16"' in said_by(argosy, "openstack database instance show quick -f json")


def test_the_command_line_changes_who_may_connect(
    argosy: Server, demo: Client, valkey: dict[str, Any]
) -> None:
    assert '"127.0.0.0/8"' in said_by(argosy, "argosy access quick --allow 127.0.0.0/8 --no-public --json")
    assert is_heard(valkey, HERE)
    told = said_by(argosy, "argosy access quick --allow-all --tls required")
    assert "its port speaks TLS alone" in told
    assert demo.get(f"/instances/{valkey['id']}").json()["instance"]["access"] == {"is_public": False}
    pem = said_by(argosy, "argosy ca")
    assert pem == (argosy.home / "database-ca.crt").read_text()
    assert demo.get("/certificate-authority", headers={"Accept": "text/plain"}).text == pem


def test_an_administrator_changes_the_password_of_the_management_account(
    argosy: Server, demo: Client, valkey: dict[str, Any], mariadb: dict[str, Any]
) -> None:
    for instance in (valkey, mariadb):
        file = argosy.home / "instances" / instance["id"] / "etc" / "os_admin.password"
        before, server = file.read_text(), argosy.server_pid(instance["id"])
        told = argosy.command("argosy", "admin", "rotate", instance["id"], cloud="argosy-admin")
        assert told.returncode == 0, told.stderr
        assert file.read_text() != before
        assert argosy.server_pid(instance["id"]) == server
        assert demo.get(f"/instances/{instance['id']}/users").status_code == 200
    refused = demo.post(f"/mgmt/instances/{valkey['id']}/action", json={"rotate_password": {}})
    assert refused.status_code == 401


def test_an_account_without_a_password_is_not_given_one(argosy: Server, demo: Client) -> None:
    instance = argosy.create(demo, "peered", "postgresql")
    told = argosy.command("argosy", "admin", "rotate", instance["id"], cloud="argosy-admin")
    assert told.returncode != 0
    assert "has no password to change" in told.stderr
    demo.delete(f"/instances/{instance['id']}")
    argosy.wait_until_gone(demo, instance["id"])
