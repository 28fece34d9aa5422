"""Argosy as a service is deployed: what operators set up, ask, and restart, with users in front."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from tests.e2e.test_rolling_upgrade import Polling, make, replace
from tests.support.installation import Installation, installation
from tests.support.metadata import PASSWORD
from tests.support.server import wait_until


@pytest.fixture(scope="module")
def deployed() -> Iterator[Installation]:
    with installation() as argosy:
        argosy.start()
        yield argosy


def log_in(url: str, user: str, *, seen_as: str | None = None) -> int:
    asked = {
        "identity": {
            "methods": ["password"],
            "password": {"user": {"name": user, "domain": {"id": "default"}, "password": "wrong"}},
        }
    }
    headers = {} if seen_as is None else {"X-Forwarded-For": seen_as}
    answer = httpx.post(f"{url}/identity/v3/auth/tokens", json={"auth": asked}, headers=headers, timeout=30)
    return 429 if "Too many failed attempts" in answer.text else answer.status_code


def test_every_process_says_whether_it_is_well(deployed: Installation) -> None:
    told = [httpx.get(url).json() for host in deployed.hosts for url in host.health.values()]
    assert all(one["ready"] for one in told)
    assert sorted(one["part"] for one in told) == ["conductor", "conductor", "taskmanager", "taskmanager"]
    assert wait_until(
        "one of them leads",
        lambda: (
            [httpx.get(host.health["taskmanager"]).json()["leads"] for host in deployed.hosts].count(True)
            == 1
        ),
    )


def test_the_password_of_the_metadata_database_is_seen_by_nobody(deployed: Installation) -> None:
    for host in deployed.hosts:
        assert PASSWORD not in host.log()
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            assert PASSWORD.encode() not in place.read_bytes()


def test_a_host_with_other_secrets_does_not_start_and_says_why(
    deployed: Installation, tmp_path: Path
) -> None:
    environment = {**deployed.hosts[0].environment, "ARGOSY_SECRETS": str(tmp_path / "secrets")}
    done = subprocess.run(
        [sys.executable, "-m", "argosy.processes", "serve", "conductor", "--home", str(tmp_path)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("argosy: The metadata database is in use, and its secrets are not all in")
    assert "Traceback" not in done.stderr


def test_who_guesses_passwords_is_known_by_the_address_before_the_balancer(deployed: Installation) -> None:
    """To each API, and never by an address that the guesser made up."""
    api = f"http://{deployed.hosts[0].api}"
    # From a trusted proxy's address, as 127.0.0.1 is here.
    for _ in range(5):
        assert log_in(api, "nobody", seen_as="203.0.113.7") == 401
    assert log_in(api, "nobody", seen_as="203.0.113.7") == 429
    assert log_in(api, "nobody", seen_as="203.0.113.8") == 401
    # What the client before the balancer claims is thrown away by it.
    tried = [log_in(deployed.url, "noone", seen_as=f"198.51.100.{number}") for number in range(12)]
    # Each API counts what it is asked: of twelve one was asked six, and which has the last is the balancer's choice.
    assert 429 in tried


@pytest.mark.timeout(280)
def test_processes_are_restarted_one_by_one_and_no_client_notices(deployed: Installation) -> None:
    client = deployed.hosts[0].client()
    made: list[str] = []
    failed: list[str] = []
    ended = threading.Event()

    def ask_for_instances() -> None:
        """What changes something is not asked twice by the balancer, and must go through all the same."""
        while not ended.wait(0.2):
            try:
                answer = client.post("/configurations", json={"configuration": {}})
                if answer.status_code != 400:
                    failed.append(f"{answer.status_code} {answer.text}")
            except httpx.TransportError as error:
                failed.append(repr(error))

    asking = threading.Thread(target=ask_for_instances)
    with Polling(client) as polling:
        asking.start()
        for part in ("api", "conductor", "taskmanager"):
            for host in deployed.hosts:
                made.append(make(client, f"{part}-{host.home.name}"))
                replace(host, part)
        ended.set()
        asking.join()
        for one in made:
            deployed.hosts[0].wait_until_healthy(client, one)
    assert polling.failures == []
    assert failed == []
    operations = client.get("/operations").json()["operations"]
    assert [one for one in operations if one["state"] != "succeeded"] == []
    for one in made:
        client.delete(f"/instances/{one}")
    for one in made:
        deployed.hosts[0].wait_until_gone(client, one)
    assert deployed.hosts[0].leftovers() == []


def test_when_the_last_task_manager_stops_the_next_goes_on(deployed: Installation) -> None:
    client = deployed.hosts[0].client()
    for host in deployed.hosts:
        host.kill("taskmanager", signal.SIGTERM)
    one = make(client, "waiting")
    deployed.hosts[1].begin("taskmanager")
    deployed.hosts[1].wait_until_ready("taskmanager")
    deployed.hosts[1].wait_until_healthy(client, one)
    client.delete(f"/instances/{one}")
    deployed.hosts[1].wait_until_gone(client, one)
