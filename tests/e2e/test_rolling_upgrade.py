"""From the release before to this one, process by process, while clients go on: none of them notices."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any, Self

import httpx
import pytest

from tests.support.databases import connected
from tests.support.installation import Host, Installation, installation
from tests.support.server import NO_TLS, ROOT, Client, wait_until

# The last commit before several of each could be run.
BEFORE = "e9cffee"
USER = {"name": "ann", "password": "walked-secret-1"}


class Polling:
    """A client that reads all the time, through the balancer, over connections of its own; `failures` is what it met."""

    def __init__(self, client: Client) -> None:
        self.answers = 0
        self.failures: list[str] = []
        self._url = f"{str(client.base_url).rstrip('/')}/instances"
        self._headers = {"X-Auth-Token": client.token}
        self._ended = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(kept,), daemon=True) for kept in (True, False)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _run(self, kept: bool) -> None:
        with httpx.Client(timeout=30, verify=NO_TLS) as client:
            ask = client.get if kept else partial(httpx.get, timeout=30, verify=NO_TLS)
            while not self._ended.wait(0.05):
                try:
                    answer = ask(self._url, headers=self._headers)
                    self.answers += 1
                    if answer.status_code != 200:
                        self.failures.append(f"{answer.status_code} {answer.text}")
                except httpx.TransportError as error:
                    self.failures.append(repr(error))


@contextmanager
def release_before(place: Path) -> Iterator[Path]:
    """Its code, from the history of this clone."""
    done = subprocess.run(
        ["git", "-C", str(ROOT), "archive", BEFORE, "src"], capture_output=True, check=False
    )
    if done.returncode != 0:
        pytest.skip(f"this clone has no history as far as {BEFORE}: git fetch --unshallow")
    with tarfile.open(fileobj=BytesIO(done.stdout)) as archive:
        archive.extractall(place, filter="data")
    yield place / "src"


def of_before(argosy: Installation, source: Path) -> None:
    """Have both hosts run the release before: one home had everything, and a second API had a copy of its secrets."""
    for host in argosy.hosts:
        host.environment |= {
            "PYTHONPATH": str(source),
            "ARGOSY_METADATA_URL": argosy.database.url,
            "ARGOSY_CONDUCTOR__ENDPOINT": "",
        }
        del host.environment["ARGOSY_SECRETS"]
        del host.environment["ARGOSY_CONDUCTOR__ENDPOINT"]


def of_today(argosy: Installation) -> None:
    for host in argosy.hosts:
        host.directory = argosy.hosts[0].home
        host.environment |= {
            "PYTHONPATH": f"{ROOT}:{ROOT}/src",
            "ARGOSY_LOCAL__DIRECTORY": str(host.directory),
            "ARGOSY_CONDUCTOR__ENDPOINT": ",".join(one.conductor for one in argosy.hosts),
        }


def administer(host: Host, what: str) -> subprocess.CompletedProcess[str]:
    command: list[str | Path] = [
        Path(sys.executable).with_name("argosy"),
        "admin",
        "db",
        what,
        "--home",
        str(host.home),
    ]
    return subprocess.run(command, env=host.environment, capture_output=True, text=True, check=False)


def replace(host: Host, part: str) -> None:
    host.kill(part, signal.SIGTERM)
    host.begin(part)
    host.wait_until_ready(part)
    if part == "api":
        host.wait_until_balanced()


def make(client: Client, name: str) -> str:
    body = {
        "name": name,
        "flavorRef": "1",
        "volume": {"size": 1},
        "datastore": {"type": "valkey"},
        "users": [USER],
    }
    answer = client.post("/instances", json={"instance": body})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["instance"]["id"])


def kept(host: Host, shown: dict[str, Any]) -> dict[str, str]:
    with connected(host, shown, USER["name"], USER["password"]) as session:
        return session.read()


@pytest.mark.timeout(600)
def test_a_rolling_upgrade_from_the_release_before_fails_no_request_and_no_operation(tmp_path: Path) -> None:
    with release_before(tmp_path) as source, installation() as argosy:
        first, second = argosy.hosts
        of_before(argosy, source)
        for part in ("conductor", "taskmanager", "api"):  # at once they would race to make the tables
            first.begin(part)
            first.wait_until_ready(part)
        shutil.copytree(first.home / "secrets", second.home / "secrets")
        second.begin("api")
        second.wait_until_ready("api")
        second.clouds = first.clouds
        wait_until("the balancer has both", lambda: httpx.get(f"{argosy.url}/healthcheck").status_code == 200)
        time.sleep(2)
        client = first.client()
        instance = first.wait_until_healthy(client, make(client, "old"))
        with connected(first, instance, USER["name"], USER["password"]) as session:
            session.write("before", "the upgrade")

        of_today(argosy)
        refused = subprocess.run(
            [sys.executable, "-m", "argosy.processes", "serve", "api", "--home", str(second.home) + "-x"],
            env={**second.environment, "ARGOSY_SECRETS": str(second.home / "secrets")},
            capture_output=True,
            text=True,
            check=False,
        )
        assert refused.returncode == 1
        assert "run `argosy admin db upgrade` first" in refused.stderr
        assert administer(first, "status").returncode == 1
        made: list[str] = []
        with Polling(client) as polling:
            upgraded = administer(first, "upgrade")
            assert upgraded.returncode == 0, upgraded.stderr
            made.append(make(client, "while-all-are-old"))
            first.wait_until_healthy(client, made[-1])
            replace(second, "api")
            made.append(make(client, "while-apis-differ"))
            replace(first, "api")
            # The task manager ends in the middle of this one, and the new one goes on with it.
            made.append(make(client, "in-flight"))
            first.kill("taskmanager", signal.SIGTERM)
            first.begin("taskmanager")
            first.wait_until_ready("taskmanager")
            first.wait_until_healthy(client, made[-1])
            second.begin("conductor", "taskmanager")
            second.wait_until_ready("conductor", "taskmanager")
            made.append(make(client, "while-the-conductor-is-old"))
            replace(first, "conductor")
            for one in made:
                first.wait_until_healthy(client, one)
        assert polling.answers > 100
        assert polling.failures == []
        assert administer(first, "status").returncode == 0
        assert kept(first, first.wait_until_healthy(client, instance["id"])) == {"before": "the upgrade"}
        listed = client.get("/operations").json()["operations"]
        assert [one for one in listed if one["state"] != "succeeded"] == []
        for one in (instance["id"], *made):
            client.delete(f"/instances/{one}")
        for one in (instance["id"], *made):
            first.wait_until_gone(client, one)
        assert first.leftovers() == []
