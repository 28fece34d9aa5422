"""Creates that cannot succeed end in ERROR with the reason, and deleting them leaves nothing."""

from __future__ import annotations

import re
import shutil
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.support import images
from tests.support.scratch import new_home
from tests.support.server import Client, Server, running, wait_until


def fault_of_a_create(argosy: Server, client: Client, datastore: str, *, volume_gb: int = 1) -> str:
    """The fault of a create that fails; deletes it and looks that nothing stays."""
    body = {
        "name": "doomed",
        "flavorRef": "2",
        "volume": {"size": volume_gb},
        "datastore": {"type": datastore},
    }
    answer = client.post("/instances", json={"instance": body})
    assert answer.status_code == 200, answer.text
    instance_id = answer.json()["instance"]["id"]
    path = f"/instances/{instance_id}"
    wait_until("it fails", lambda: client.get(path).json()["instance"]["status"] != "BUILD", 180)
    shown = client.get(path).json()["instance"]
    assert shown["status"] == "ERROR"
    restart = client.post(f"{path}/action", json={"restart": {}})
    assert restart.status_code == 422, "what was never built cannot be restarted"
    assert client.delete(path).status_code == 202
    argosy.wait_until_gone(client, instance_id)
    assert instance_id not in argosy.leftovers()
    return str(shown["fault"]["message"])


def test_a_volume_larger_than_the_machine(argosy: Server, demo: Client) -> None:
    free_gb = shutil.disk_usage(argosy.home).free // 2**30
    fault = fault_of_a_create(argosy, demo, "valkey", volume_gb=free_gb + 100)
    told = re.search(r"A volume of (\d+) GB does not fit: .* has ([\d.]+) GB free", fault)
    assert told is not None, fault
    assert int(told[1]) == free_gb + 100
    # Other tests fill the same disk.
    assert float(told[2]) == pytest.approx(free_gb, abs=20)


@pytest.fixture(scope="module")
def poor() -> Iterator[Server]:
    """An Argosy without a source of software but one broken server, and room for two addresses."""
    root = new_home("broken")
    bundle, _ = images.image("redis", "7")
    shutil.copytree(bundle.parent, root / "redis-7", symlinks=True)
    broken = root / "redis-7" / "bundle" / "usr" / "bin" / "redis-server"
    broken.unlink()
    broken.write_text("#!/bin/sh\necho 'FATAL: no such thing as this configuration'\nexit 1\n")
    broken.chmod(0o755)
    try:
        with running(ARGOSY_LOCAL__IMAGES=str(root), ARGOSY_LOCAL__IMAGE_SOURCES="[]") as server:
            yield server
    finally:
        shutil.rmtree(root)


def test_no_software(poor: Server) -> None:
    fault = fault_of_a_create(poor, poor.client(), "mariadb")
    assert "mariadb" in fault.lower()


def test_a_server_that_refuses_its_configuration(poor: Server) -> None:
    assert "no such thing as this configuration" in fault_of_a_create(poor, poor.client(), "redis")


def test_every_address_taken(poor: Server) -> None:
    with ExitStack() as bound:
        for address in list(poor.network.hosts())[2:]:
            taken = bound.enter_context(socket.socket())
            taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            taken.bind((str(address), 6379))
            taken.listen()
        assert "address" in fault_of_a_create(poor, poor.client(), "redis")
