"""A tenant's machine reaches the database on the tenant's network, from where it is allowed, and never the agent."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from openstack.exceptions import ConflictException, NotFoundException

from argosy.domain.guest import RPC_PORT
from tests.support.machines import Cloud
from tests.support.server import Client, Server, wait_until

CIDR = "10.88.0.0/24"
PLAIN_IMAGE = "debian-12"  # of ../shared/openstack/build-image.sh: its user data may be a script
DONE = "PROBE-DONE"
_PROBE = """#!/bin/bash
say() { echo "$*" > /dev/ttyS0; }
for turn in $(seq 60); do ip -4 -o addr show dev eth0 | grep -q inet && break; sleep 1; done
for place in PLACES; do
  host=${place%:*} port=${place#*:}
  if timeout 8 bash -c "exec 3<>/dev/tcp/$host/$port" 2>/dev/null; then say "PROBE $place open"; else say "PROBE $place closed"; fi
done
say DONE
"""


@pytest.fixture
def tenant(cloud: Cloud) -> Iterator[Tenant]:
    with ExitStack() as ending:
        yield Tenant(cloud, ending)


class Tenant:
    """A project's own network, which nothing leads out of, and machines on it."""

    def __init__(self, cloud: Cloud, ending: ExitStack) -> None:
        self._cloud = cloud.connect()
        self._ending = ending
        self._name = f"tenant-{secrets.token_hex(3)}"
        self.network = self._made(self._cloud.network, "network", name=self._name)
        self._made(
            self._cloud.network,
            "subnet",
            name=self._name,
            network_id=self.network.id,
            ip_version=4,
            cidr=CIDR,
            gateway_ip=None,
        )

    def sees(self, *places: str) -> dict[str, bool]:
        """Which of these HOST:PORT a machine on the network can connect to, and its own address under `self`."""
        image = self._cloud.image.find_image(PLAIN_IMAGE, ignore_missing=False)
        flavor = self._cloud.compute.find_flavor("db.tiny", ignore_missing=False)
        script = _PROBE.replace("PLACES", " ".join(places)).replace("DONE", DONE)
        port = self._made(self._cloud.network, "port", name=f"{self._name}-probe", network_id=self.network.id)
        server = self._made(
            self._cloud.compute,
            "server",
            name=f"{self._name}-probe",
            image_id=image.id,
            flavor_id=flavor.id,
            networks=[{"port": port.id}],
            config_drive=True,
            user_data=base64.b64encode(script.encode()).decode(),
        )
        said = wait_until("the probe is done", lambda: self._said(server), 300, every_s=2)
        self._cloud.compute.delete_server(server, ignore_missing=True)
        self._cloud.compute.wait_for_delete(server, wait=120)
        self._cloud.network.delete_port(port, ignore_missing=True)
        seen = [line.split() for line in said.splitlines() if line.startswith("PROBE ")]
        return {place: outcome.strip() == "open" for _, place, outcome in seen}

    def _said(self, server: Any) -> str | None:
        try:
            console = self._cloud.compute.get_server_console_output(server)
        except (ConflictException, NotFoundException):
            return None  # it is still being built
        text = console["output"] if isinstance(console, dict) else str(console.output)
        return text if DONE in text else None

    def _made(self, service: Any, kind: str, **fields: Any) -> Any:
        made = getattr(service, f"create_{kind}")(**fields)
        self._ending.callback(self._gone(service, kind, made))
        return made

    def _gone(self, service: Any, kind: str, made: Any) -> Callable[[], None]:
        def delete() -> None:
            getattr(service, f"delete_{kind}")(made, ignore_missing=True)
            if kind == "server":
                service.wait_for_delete(made, wait=120)

        return delete


def test_a_tenants_machine_reaches_the_database_and_nothing_else(
    argosy: Server, demo: Client, tenant: Tenant
) -> None:
    flavors = demo.get("/flavors").json()["flavors"]
    instance = argosy.create(
        demo,
        "among-tenants",
        "postgresql",
        flavorRef=next(str(one["id"]) for one in flavors if one["name"] == "db.tiny"),
        datastore={"type": "postgresql", "version": "17"},
        nics=[{"net-id": tenant.network.id}],
        access={"is_public": False, "allowed_cidrs": [CIDR]},
    )
    try:
        (address,) = instance["ip"]
        managed = argosy.client("admin").get(f"/mgmt/instances/{instance['id']}").json()["instance"]
        agent = managed["server"]["addresses"]["private"][0]["addr"]
        assert address.startswith("10.88.0.")
        assert agent != address
        assert tenant.sees(f"{address}:5432", f"{address}:{RPC_PORT}", f"{agent}:{RPC_PORT}") == {
            f"{address}:5432": True,
            f"{address}:{RPC_PORT}": False,
            f"{agent}:{RPC_PORT}": False,
        }
        elsewhere = {"instance": {"access": {"is_public": False, "allowed_cidrs": ["192.0.2.0/24"]}}}
        assert demo.put(f"/instances/{instance['id']}", json=elsewhere).status_code == 202
        argosy.wait_until_healthy(demo, instance["id"])
        assert tenant.sees(f"{address}:5432") == {f"{address}:5432": False}
    finally:
        demo.delete(f"/instances/{instance['id']}")
        argosy.wait_until_gone(demo, instance["id"])
