"""What a user sees of a cloud: of one that refuses, fails or loses its answers, and of its networks.

Databases are on the tenant's network, agents on the management network; a router leads from outside to the former. The
cloud is simulated, and nothing is left in it after any of this.
"""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Iterator
from typing import Any

import pytest

from argosy.domain.guest import RPC_PORT
from tests.support.cloud import SimulatedCloud
from tests.support.machines import running_on, simulated
from tests.support.server import Client, Server, wait_until

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="agents give their servers accounts of their own")
ALLOWED, STRANGER = "127.88.0.1", "127.0.0.1"


@pytest.fixture(scope="module")
def both() -> Iterator[tuple[Server, SimulatedCloud]]:
    networks = {"ARGOSY_OPENSTACK__NETWORK": "tenant", "ARGOSY_OPENSTACK__FLOATING_NETWORK": "public"}
    with simulated("valkey") as (cloud, simulation), running_on(cloud, **networks) as argosy:
        yield argosy, simulation


@pytest.fixture(scope="module")
def argosy(both: tuple[Server, SimulatedCloud]) -> Server:
    return both[0]


@pytest.fixture
def simulation(both: tuple[Server, SimulatedCloud]) -> Iterator[SimulatedCloud]:
    simulation = both[1]
    yield simulation
    simulation.faults.forget()
    for service in (simulation.nova, simulation.cinder, simulation.neutron):
        simulation.change(service.quotas.clear)


@pytest.fixture(scope="module")
def demo(argosy: Server) -> Client:
    return argosy.client("demo")


def begin(demo: Client, **more: Any) -> str:
    body = {"name": "one", "flavorRef": "1", "volume": {"size": 1}, "datastore": {"type": "valkey"}, **more}
    answer = demo.post("/instances", json={"instance": body})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["instance"]["id"])


def ended(demo: Client, instance_id: str) -> dict[str, Any]:
    """The newest operation on it, once that has ended."""

    def newest() -> dict[str, Any] | None:
        operations = demo.get("/operations", params={"instance_id": instance_id}).json()["operations"]
        found: dict[str, Any] = operations[0]
        return found if found["state"] in {"succeeded", "failed"} else None

    operation: dict[str, Any] = wait_until("the operation ends", newest, 120)
    return operation


def take_away(argosy: Server, demo: Client, instance_id: str) -> None:
    assert demo.delete(f"/instances/{instance_id}").status_code == 202
    argosy.wait_until_gone(demo, instance_id)


def test_a_server_that_nova_gives_up_ends_the_operation_in_novas_words(
    argosy: Server, demo: Client, simulation: SimulatedCloud
) -> None:
    simulation.fail_next_server("No valid host was found. There are not enough hosts available.")
    instance_id = begin(demo)
    operation = ended(demo, instance_id)
    assert operation["state"] == "failed"
    assert "No valid host was found. There are not enough hosts available." in operation["error"]
    take_away(argosy, demo, instance_id)
    assert simulation.left() == {}


@pytest.mark.parametrize(
    ("service", "quota", "sentence"),
    [
        ("nova", {"instances": 0}, "Nova's quota instances has 0 left and 1 is asked for"),
        ("cinder", {"gigabytes": 0}, "Cinder's quota gigabytes has 0 left and 1 is asked for"),
        ("neutron", {"port": 0}, "Neutron's quota port has 0 left and 1 is asked for"),
    ],
)
def test_a_quota_of_the_cloud_that_is_spent_is_named(
    argosy: Server,
    demo: Client,
    simulation: SimulatedCloud,
    service: str,
    quota: dict[str, int],
    sentence: str,
) -> None:
    simulation.limit(service, **quota)
    instance_id = begin(demo)
    operation = ended(demo, instance_id)
    assert (operation["state"], sentence in operation["error"]) == ("failed", True), operation["error"]
    take_away(argosy, demo, instance_id)
    assert simulation.left() == {}


def test_an_instance_comes_up_on_a_cloud_that_fails_and_loses_answers(
    argosy: Server, demo: Client, simulation: SimulatedCloud
) -> None:
    simulation.faults.refuse("POST /v2.0/ports", 503, times=2)
    simulation.faults.refuse("POST /volumes", 429, retry_after=1)
    simulation.faults.cut("POST /servers", acts=True)
    simulation.expire_tokens()
    instance_id = begin(demo)
    assert ended(demo, instance_id)["state"] == "succeeded"
    argosy.wait_until_healthy(demo, instance_id)
    assert {kind: len(some) for kind, some in simulation.left().items()} == {
        "port": 2,
        "security_group": 2,
        "server": 1,
        "volume": 1,
    }
    # What it cannot be given leaves it as it was.
    simulation.fail_next_server("No valid host was found. ")
    assert (
        demo.post(f"/instances/{instance_id}/action", json={"resize": {"flavorRef": "2"}}).status_code == 202
    )
    operation = ended(demo, instance_id)
    assert (operation["state"], "No valid host was found" in operation["error"]) == ("failed", True)
    shown = argosy.wait_until_healthy(demo, instance_id)
    assert shown["flavor"]["id"] == "1"
    take_away(argosy, demo, instance_id)
    assert simulation.left() == {}


def answers(argosy: Server, address: str, port: int, source: str) -> bool:
    """Whether a client from there gets through to a server whose certificate names the address."""
    context = ssl.create_default_context(cafile=str(argosy.home / "database-ca.crt"))
    try:
        with (
            socket.create_connection((address, port), timeout=5, source_address=(source, 0)) as plain,
            context.wrap_socket(plain, server_hostname=address) as connection,
        ):
            connection.sendall(b"PING\r\n")
            return bool(connection.recv(1))
    except (ConnectionError, ssl.SSLEOFError):
        return False


def allow(argosy: Server, demo: Client, instance_id: str, access: dict[str, Any]) -> dict[str, Any]:
    answer = demo.put(f"/instances/{instance_id}", json={"instance": {"access": access}})
    assert answer.status_code == 202, answer.text
    wait_until(
        "the operation ends",
        lambda: demo.get(f"/instances/{instance_id}").json()["instance"]["argosy"]["operation"] is None,
    )
    return argosy.wait_until_healthy(demo, instance_id)


def by_type(instance: dict[str, Any]) -> dict[str, str]:
    return {one["type"]: one["address"] for one in instance["addresses"]}


def test_a_public_instance_is_reached_at_its_public_address_by_whom_it_allows(
    argosy: Server, demo: Client, simulation: SimulatedCloud
) -> None:
    instance = argosy.create(
        demo,
        "open",
        "valkey",
        flavorRef="1",
        access={"is_public": True, "allowed_cidrs": [f"{ALLOWED}/32"]},
    )
    addresses, port = by_type(instance), instance["addresses"][0]["port"]
    assert set(addresses) == {"private", "public"}
    (floating,) = simulation.left()["floatingip"]
    assert floating["floating_ip_address"] == addresses["public"]
    assert floating["fixed_ip_address"] == addresses["private"]
    assert answers(argosy, addresses["public"], port, ALLOWED)
    assert answers(argosy, addresses["private"], port, ALLOWED)
    assert not answers(argosy, addresses["public"], port, STRANGER)
    # Its agent is on another network, which nobody outside is told of, and has no way in from there.
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((addresses["public"], RPC_PORT), timeout=5)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((addresses["private"], RPC_PORT), timeout=5)

    shown = allow(argosy, demo, instance["id"], {"is_public": False, "allowed_cidrs": [f"{ALLOWED}/32"]})
    assert set(by_type(shown)) == {"private"}
    assert "floatingip" not in simulation.left()
    take_away(argosy, demo, instance["id"])
    assert simulation.left() == {}
