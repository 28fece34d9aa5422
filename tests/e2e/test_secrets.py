"""After a full life of three databases, no password is anywhere it could be read by whom it is not for."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import files
from tests.support.server import Client, Server, running

PASSWORD = "Zebra-9-Quartz-Lamp"
CHANGED = "Otter-4-Velvet-Moon"
ROOT = "Heron-7-Copper-Silk"
# The engines keep verifiers, not passwords, so even their data directories are searched.


def full_life(argosy: Server, client: Client, datastore: str) -> str:
    has_databases = datastore != "valkey"
    more: dict[str, object] = {"users": [{"name": "ann", "password": PASSWORD}]}
    if has_databases:
        more = {
            "databases": [{"name": "shop"}],
            "users": [{"name": "ann", "password": PASSWORD, "databases": [{"name": "shop"}]}],
        }
    instance_id: str = argosy.create(client, f"life-{datastore}", datastore, **more)["id"]
    base = f"/instances/{instance_id}"
    for answer in (
        client.post(f"{base}/users", json={"users": [{"name": "bob", "password": PASSWORD}]}),
        client.put(f"{base}/users/bob", json={"user": {"password": CHANGED}}),
        client.put(f"{base}/users", json={"users": [{"name": "ann", "password": CHANGED}]}),
        client.post(f"{base}/root", json={"password": ROOT}),
        client.post(f"{base}/users", json={"users": [{"name": "ann", "password": PASSWORD}]}),
        client.post(f"{base}/users", json={"users": [{"name": "", "password": PASSWORD}]}),
    ):
        assert answer.status_code < 500
        if "password" not in answer.request.content.decode() or answer.request.url.path.endswith("/root"):
            continue
        assert not any(secret in answer.text for secret in (PASSWORD, CHANGED))
    return instance_id


@pytest.fixture(scope="module")
def lived() -> Iterator[Server]:
    with running() as argosy:
        client = argosy.client()
        for datastore in ("postgresql", "mariadb", "valkey"):
            full_life(argosy, client, datastore)
        yield argosy


def test_no_password_lies_in_any_file_but_the_owners_own(lived: Server) -> None:
    secrets = [secret.encode() for secret in (PASSWORD, CHANGED, ROOT)]
    clouds = {lived.password("demo").encode(), lived.password("admin").encode()}
    found = []
    for file, content in files.read(lived.home):
        wanted = secrets if file == lived.clouds else [*secrets, *clouds]
        found += [file for secret in wanted if secret in content]
    assert found == []


def test_no_password_is_in_any_process_title_or_environment(lived: Server) -> None:
    secrets = [
        one.encode() for one in (PASSWORD, CHANGED, ROOT, lived.password("demo"), lived.password("admin"))
    ]
    for process in Path("/proc").glob("[0-9]*"):
        for name in ("cmdline", "environ"):
            try:
                content = (process / name).read_bytes()
            except OSError:
                continue
            assert not [secret for secret in secrets if secret in content], process


def test_no_password_is_shown_by_the_api(lived: Server) -> None:
    client = lived.client()
    listed = client.get("/instances/detail").json()["instances"]
    answers = [client.get("/operations").text, client.get("/events").text, str(listed)]
    for instance in listed:
        answers += [client.get(f"/instances/{instance['id']}{tail}").text for tail in ("", "/users", "/root")]
    shown = "".join(answers)
    assert not [secret for secret in (PASSWORD, CHANGED, ROOT) if secret in shown]


def test_files_that_hold_secrets_are_their_owners_alone(lived: Server) -> None:
    secret = [
        lived.clouds,
        *lived.home.glob("argosy.db*"),
        *(lived.home / "secrets").glob("*.key"),
        *(lived.home / "secrets").glob("*.pem"),
        *lived.home.glob("instances/*/rpc/*.key"),
        *lived.home.glob("instances/*/etc/tls/*.key"),
    ]
    assert len(secret) > 8
    for file in secret:
        mode = stat.S_IMODE(file.stat().st_mode)
        assert mode & 0o077 == 0, f"{file} has mode {mode:o}"
