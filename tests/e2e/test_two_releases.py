"""Agents and control planes of two releases understand each other, both ways: guests are renewed when it suits.

The other release is the last one before machines, taken from the history and run from a directory beside it.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest

from argosy.domain.errors import GuestOutdated, Unsupported
from argosy.rpc import agent_code, messages, peers
from argosy.rpc.certificates import Authority
from argosy.rpc.client import Guests
from argosy.rpc.tls import client_context
from tests.support import images
from tests.support.backups import back_up
from tests.support.command_line import CommandLine
from tests.support.scratch import new_home
from tests.support.server import ROOT, Client, Server, running, wait_until

BEFORE = "e9cffee5446d16716af0974ddb41738d8e7fe0cf"
DATASTORE, VERSION = "postgresql", "17"
# Its own path comes before PYTHONPATH, which it hands on to the agents that it starts.
_WITH_AGENTS_OF_TODAY = """
import runpy, sys
sys.path.insert(0, {place!r})
runpy.run_module("argosy.processes", run_name="__main__", alter_sys=True)
"""


class Release:
    """The code of the release before, and the images that it takes for its own."""

    def __init__(self, place: Path, packed: bytes) -> None:
        self.place = place
        with tarfile.open(fileobj=BytesIO(packed)) as archive:
            archive.extractall(place, filter="data")
        self.source = place / "src"
        (place / "with_agents_of_today.py").write_text(_WITH_AGENTS_OF_TODAY.format(place=str(self.source)))
        self.images = place / "images"
        self._take_over_image()

    @property
    def environment(self) -> dict[str, str]:
        return {"PYTHONPATH": str(self.source), "ARGOSY_LOCAL__IMAGES": str(self.images)}

    @property
    def environment_with_agents_of_today(self) -> dict[str, str]:
        return {**self.environment, "PYTHONPATH": f"{self.place}:{ROOT}:{ROOT}/src"}

    def _take_over_image(self) -> None:
        """As if it had made the template itself, which would take a while."""
        images.image(DATASTORE, VERSION)
        mine = self.images / f"{DATASTORE}-{VERSION}"
        shutil.copytree(images.root() / mine.name, mine, symlinks=True, ignore=_PARTS_OF_A_PULL)
        engine = self.source / "argosy/engines" / DATASTORE
        recipe = [*sorted(engine.glob("*.py")), self.source / "argosy/agent/template.py"]
        manifest = mine / "manifest.json"
        told = json.loads(manifest.read_text())
        digest = hashlib.sha256(b"\0".join(file.read_bytes() for file in recipe)).hexdigest()
        manifest.write_text(json.dumps({**told, "template_recipe": digest}))


_PARTS_OF_A_PULL = shutil.ignore_patterns(".*")


@pytest.fixture(scope="module")
def before() -> Iterator[Release]:
    packed = subprocess.run(
        ["git", "-C", str(ROOT), "archive", BEFORE, "src"], capture_output=True, check=False
    )
    if packed.returncode != 0:
        pytest.skip("the history is not here")
    place = new_home("before")
    try:
        yield Release(place, packed.stdout)
    finally:
        shutil.rmtree(place)


def test_a_guest_of_the_release_before_goes_on_under_this_control_plane(before: Release) -> None:
    with running(**before.environment) as argosy:
        instance = create(argosy)
        agent = argosy.agent_pid(instance["id"])
        argosy.down()
        # Upgraded in place its files would have changed, which ends it.
        (argosy.home / "run/nursery.sock").unlink(missing_ok=True)
        argosy.environment["PYTHONPATH"] = f"{ROOT}:{ROOT}/src"
        argosy.environment["ARGOSY_LOCAL__IMAGES"] = str(images.root())
        argosy.start()

        use(argosy, instance)
        assert argosy.agent_pid(instance["id"]) == agent
        with pytest.raises(GuestOutdated) as told:
            ask(argosy, instance, messages.Renew(job_id="job"))
        assert (told.value.code, "does not know jobs.renew" in told.value.sentence) == (
            "guest-outdated",
            True,
        )

        server = argosy.server_pid(instance["id"])
        command = CommandLine(argosy.home)
        (guest,) = command("guest", "list", "--json").json
        assert guest["agent"] == {"release": 3, "code": None, "is_current": False}
        assert "shop has a new agent." in command("guest", "upgrade", "--all").out
        wait_until("its agent is this release's", lambda: is_current(command))
        assert argosy.agent_pid(instance["id"]) != agent
        assert argosy.server_pid(instance["id"]) == server


def test_a_guest_of_this_release_goes_on_under_the_control_plane_of_the_one_before(before: Release) -> None:
    with running(module="with_agents_of_today", **before.environment_with_agents_of_today) as argosy:
        instance = create(argosy)
        with pytest.raises(Unsupported):
            ask(argosy, instance, messages.GrowVolume(job_id="job", size_gb=1))
        use(argosy, instance)


def create(argosy: Server) -> dict[str, Any]:
    user = {"name": "ann", "password": "secret-of-ann", "databases": [{"name": "first"}]}
    return argosy.create(argosy.client(), "shop", DATASTORE, databases=[{"name": "first"}], users=[user])


def use(argosy: Server, instance: dict[str, Any]) -> None:
    """What an owner does every day."""
    demo, path = argosy.client(), f"/instances/{instance['id']}"
    argosy.wait_until_healthy(demo, instance["id"])
    assert [user["name"] for user in demo.get(f"{path}/users").json()["users"]] == ["ann"]
    assert demo.post(f"{path}/databases", json={"databases": [{"name": "second"}]}).status_code == 202
    assert names(demo, path) == ["first", "second"]
    backup = back_up(demo, instance["id"])
    assert backup["status"] == "COMPLETED", backup["argosy"]["error"]
    server = argosy.server_pid(instance["id"])
    assert demo.post(f"{path}/action", json={"restart": {}}).status_code == 202
    wait_until("it was restarted", lambda: argosy.server_pid(instance["id"]) not in {None, server})
    argosy.wait_until_healthy(demo, instance["id"])
    assert names(demo, path) == ["first", "second"]


def names(demo: Client, path: str) -> list[str]:
    return [one["name"] for one in demo.get(f"{path}/databases").json()["databases"]]


def ask(argosy: Server, instance: dict[str, Any], call: messages.Call[Any]) -> Any:
    """As the control plane of that home."""
    control = Authority.open(argosy.home / "secrets", "control")
    issued = control.issue(common_name=peers.CONTROL_PLANE, client=True)
    own = argosy.home / "test.pem"
    own.write_text(issued.key + issued.certificate)
    guests = Guests(client_context(control.path, own, own))
    try:
        return guests.call(instance["ip"][0], call)
    finally:
        guests.close()


def is_current(command: CommandLine) -> bool:
    (guest,) = command("guest", "list", "--json").json
    return bool(guest["agent"]["code"] == agent_code.digest() and guest["agent"]["is_current"])
