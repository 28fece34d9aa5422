"""Versions that administrators make, offer and take away: contract 2.23."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from argosy.metadata.store import Store
from tests.api.conftest import FLAVORS, Api, Live
from tests.support.databases import connected
from tests.support.server import running

USER = {"name": "ann", "password": "Ann-secret-77"}


@pytest.fixture(scope="module")
def shelf() -> Iterator[Api]:
    """An API of its own: its catalog is changed."""
    with running("api") as server:
        store = Store(server.settings.database_url)
        try:
            with store.write() as tx:
                tx.flavors.publish(FLAVORS)
            yield Api(server, store, server.client("demo"), server.client("admin"))
        finally:
            store.close()


def asked(name: str, **more: Any) -> dict[str, Any]:
    """As python-troveclient sends it."""
    version = {
        "name": name,
        "datastore_name": "postgresql",
        "datastore_manager": "postgresql",
        "image_tags": ["trixie"],
        "packages": [],
        "active": True,
        "default": False,
    }
    return {"version": version | more}


def make(shelf: Api, name: str, **more: Any) -> dict[str, Any]:
    answer = shelf.admin.post("/mgmt/datastore-versions", json=asked(name, **more))
    assert (answer.status_code, answer.content) == (202, b""), answer.text
    datastore = more.get("datastore_name", "postgresql")
    return next(one for one in listed(shelf) if (one["datastore_name"], one["name"]) == (datastore, name))


def change(shelf: Api, version_id: str, **changes: Any) -> httpx.Response:
    return shelf.admin.patch(f"/mgmt/datastore-versions/{version_id}", json=changes)


def listed(shelf: Api) -> list[dict[str, Any]]:
    versions: list[dict[str, Any]] = shelf.admin.get("/mgmt/datastore-versions").json()["versions"]
    return versions


def offered(shelf: Api, datastore: str = "postgresql") -> list[str]:
    """The names of the versions that a user sees."""
    versions = shelf.demo.get(f"/datastores/{datastore}/versions").json()["versions"]
    return [version["name"] for version in versions]


def create(shelf: Api, **datastore: str) -> httpx.Response:
    instance = {"name": "db", "flavorRef": "2", "volume": {"size": 1}, "datastore": datastore}
    return shelf.demo.post("/instances", json={"instance": instance})


def test_a_version_is_made_shown_everywhere_and_taken_away(shelf: Api) -> None:
    made = make(shelf, "17-fresh", version="17.12", image_tags=["trixie", "fresh"])
    assert made == {
        "id": made["id"],
        "name": "17-fresh",
        "version": "17.12",
        "datastore_id": made["datastore_id"],
        "datastore_name": "postgresql",
        "datastore_manager": "postgresql",
        "image": None,
        "image_tags": ["trixie", "fresh"],
        "packages": ["postgresql-17", "postgresql-client-17"],
        "active": True,
        "default": False,
        "registry_ext": None,
        "repl_strategy": None,
    }
    assert shelf.admin.get(f"/mgmt/datastore-versions/{made['id']}").json() == {"version": made}
    seen = shelf.demo.get(f"/datastores/versions/{made['id']}").json()["version"]
    assert (seen["name"], seen["version"], seen["datastore"]) == ("17-fresh", "17.12", made["datastore_id"])
    assert "17-fresh" in offered(shelf)
    with shelf.store.write() as tx:
        tx.images.publish("postgresql", "17-fresh", phase="ready", detail="", source="debian trixie")
    again = shelf.admin.post("/mgmt/datastore-versions", json=asked("17-fresh"))
    assert again.status_code == 400
    assert "already" in again.text
    assert shelf.admin.delete(f"/mgmt/datastore-versions/{made['id']}").status_code == 202
    assert shelf.admin.get(f"/mgmt/datastore-versions/{made['id']}").status_code == 404
    assert "17-fresh" not in offered(shelf)
    assert shelf.demo.get("/images").json() == {"images": []}
    kinds = [event["kind"] for event in shelf.admin.get("/events").json()["events"]]
    assert kinds[:2] == ["datastore_version.deleted", "datastore_version.created"]


def test_one_that_is_switched_off_is_hidden_and_refused_and_comes_back(shelf: Api) -> None:
    made = make(shelf, "17-off", active=False)
    assert "17-off" not in offered(shelf)
    assert "17-off" in {one["name"] for one in listed(shelf)}
    for wanted in ("17-off", made["id"]):
        answer = create(shelf, type="postgresql", version=wanted)
        assert answer.status_code == 400
        assert "not offered" in answer.text
    assert change(shelf, made["id"], active=True).status_code == 202
    assert "17-off" in offered(shelf)
    assert create(shelf, type="postgresql", version="17-off").status_code == 200


def test_the_default_is_one_and_switches(shelf: Api) -> None:
    def default() -> str | None:
        shown = shelf.demo.get("/datastores/mariadb").json()["datastore"]
        names = {version["id"]: version["name"] for version in shown["versions"]}
        return names.get(shown.get("default_version"))

    catalogs = next(one for one in listed(shelf) if one["name"] == "11.8")
    assert default() == "11.8"
    tags = {"datastore_name": "mariadb", "datastore_manager": "mariadb"}
    made = make(shelf, "11.8-fresh", default=True, **tags)
    assert default() == "11.8-fresh"
    assert create(shelf, type="mariadb").json()["instance"]["datastore"]["version"] == "11.8-fresh"
    assert [
        one["name"] for one in listed(shelf) if one["default"] and one["datastore_name"] == "mariadb"
    ] == ["11.8-fresh"]
    assert change(shelf, catalogs["id"], default=True).status_code == 202
    assert default() == "11.8"
    assert change(shelf, catalogs["id"], default=False).status_code == 202
    assert default() is None
    answer = create(shelf, type="mariadb")
    assert answer.status_code == 400
    assert "no default version" in answer.text
    assert change(shelf, made["id"], active=False, default=True).status_code == 400
    assert change(shelf, catalogs["id"], active=True, default=True).status_code == 202
    assert default() == "11.8"


def test_one_that_is_used_stays(shelf: Api) -> None:
    made = make(shelf, "17-used")
    instance_id = create(shelf, type="postgresql", version="17-used").json()["instance"]["id"]
    answer = shelf.admin.delete(f"/mgmt/datastore-versions/{made['id']}")
    assert answer.status_code == 400
    assert "1 instance use" in answer.text
    assert change(shelf, made["id"], name="17-renamed").status_code == 400
    with shelf.store.write() as tx:
        tx.operations.bury(tx.instances.get(instance_id).operation_id or "")
    assert change(shelf, made["id"], name="17-renamed").status_code == 202
    assert shelf.admin.delete(f"/mgmt/datastore-versions/{made['id']}").status_code == 202
    gone = shelf.admin.get(f"/mgmt/instances/{instance_id}?deleted=true").json()["instance"]
    assert gone["datastore"]["version"] == "17-used"


def test_a_datastore_is_made_with_its_first_version_and_deleted_after_its_last(shelf: Api) -> None:
    own = {"datastore_name": "cache", "datastore_manager": "valkey"}
    made = make(shelf, "8", default=True, **own)
    shown = shelf.demo.get("/datastores/cache").json()["datastore"]
    assert (shown["default_version"], shown["argosy"]["port"]) == (made["id"], 6379)
    instance_id = create(shelf, type="cache").json()["instance"]["id"]
    assert shelf.admin.delete("/datastores/cache").status_code == 400
    with shelf.store.write() as tx:
        tx.operations.bury(tx.instances.get(instance_id).operation_id or "")
    assert shelf.admin.delete(f"/mgmt/datastore-versions/{made['id']}").status_code == 202
    assert shelf.demo.get("/datastores/cache").json()["datastore"]["versions"] == []
    assert "cache" not in {one["name"] for one in shelf.demo.get("/datastores").json()["datastores"]}
    assert create(shelf, type="cache").status_code == 400
    assert shelf.admin.delete("/datastores/cache").status_code == 202
    assert shelf.demo.get("/datastores/cache").status_code == 404
    # What was there once is still told of.
    gone = shelf.admin.get("/mgmt/instances?deleted=true").json()["instances"]
    assert instance_id in {one["id"] for one in gone}
    again = make(shelf, "8", **own)
    assert again["id"] != made["id"]
    assert shelf.demo.get("/datastores/cache").status_code == 200


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"image": str(uuid.uuid4())}, "no image service"),
        ({"image_tags": []}, "trixie for one like 17"),
        ({"image_tags": ["forky"]}, "trixie for one like 17"),
        ({"image_tags": ["trixie", "trixie"]}, "twice"),
        ({"image_tags": ["x" * 21]}, "image_tags[0]"),
        ({"image_tags": list("abcdef")}, "image_tags"),
        ({"packages": ["cowsay"]}, "postgresql-17"),
        ({"packages": ["-o=Dir::Etc=x"]}, "packages[0]"),
        ({"datastore_manager": "oracle"}, "postgresql"),
        ({"datastore_manager": "mariadb", "image_tags": ["trixie"]}, "driven by postgresql"),
        ({"name": "../../etc"}, "version.name"),
        ({"datastore_name": "versions"}, "version.datastore_name"),
        ({"active": False, "default": True}, "version.default"),
        ({"active": "true"}, "version.active"),
        ({"colour": "red"}, "version.colour"),
        ({"registry_ext": "mine"}, "registry_ext"),
        ({"name": "17"}, "already"),
        ({"name": "1", "datastore_name": "postgresql-17"}, None),
    ],
)
def test_a_version_that_could_not_run_here_is_refused_with_the_reason(
    shelf: Api, more: dict[str, Any], words: str | None
) -> None:
    body = {"version": asked("17-hostile")["version"] | more}
    answer = shelf.admin.post("/mgmt/datastore-versions", json=body)
    if words is None:
        assert answer.status_code == 202, answer.text
        # Its software would lie where that one's does.
        answer = shelf.admin.post("/mgmt/datastore-versions", json=asked("17-1"))
        words = "already"
    assert answer.status_code == 400, answer.text
    assert words in answer.text


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"name": "18"}, "keep their names"),
        ({"image_tags": ["sid"]}, "make another version"),
        ({"packages": ["postgresql-17=17.0"]}, "make another version"),
        ({"datastore_manager": "mariadb"}, "driven by postgresql"),
        ({"image": str(uuid.uuid4())}, "no image service"),
        ({"version": "17.1"}, "version"),
        ({"active": 1}, "active"),
    ],
)
def test_what_a_version_is_does_not_change(shelf: Api, changes: dict[str, Any], words: str) -> None:
    catalogs = next(one for one in listed(shelf) if one["name"] == "17")
    answer = change(shelf, catalogs["id"], **changes)
    assert answer.status_code == 400, answer.text
    assert words in answer.text
    assert next(one for one in listed(shelf) if one["name"] == "17") == catalogs


def test_versions_are_for_administrators(shelf: Api) -> None:
    one = f"/mgmt/datastore-versions/{uuid.uuid4()}"
    for method, path, body in (
        ("GET", "/mgmt/datastore-versions", None),
        ("GET", one, None),
        ("POST", "/mgmt/datastore-versions", asked("x")),
        ("PATCH", one, {}),
        ("DELETE", one, None),
    ):
        assert shelf.demo.request(method, path, json=body).status_code == 401
    for method, body in (("GET", None), ("PATCH", {}), ("DELETE", None)):
        assert shelf.admin.request(method, one, json=body).status_code == 404


def test_openstack_makes_a_version_that_serves_and_takes_it_away(live: Live) -> None:
    """Its software is pulled from Debian, once for a machine: it stays among the images of tests."""

    def openstack(*words: str) -> str:
        done = live.server.command("openstack", *words, cloud="argosy-admin")
        assert done.returncode == 0, done.stderr
        return done.stdout

    made = ("8-fresh", "valkey", "valkey", "", "--active", "--image-tags", "trixie")
    openstack("datastore", "version", "create", *made, "--version-number", "8.1")
    rows = json.loads(openstack("datastore", "version", "list", "valkey", "-f", "json"))
    version_id = next(row["ID"] for row in rows if row["Name"] == "8-fresh")
    body = {
        "name": "fresh",
        "flavorRef": "1",
        "volume": {"size": 1},
        "datastore": {"type": "valkey", "version": "8-fresh"},
        "users": [USER],
    }
    asked_for = live.demo.post("/instances", json={"instance": body}).json()["instance"]
    instance = live.server.wait_until_healthy(live.demo, asked_for["id"])
    assert instance["datastore"]["version"] == "8-fresh"
    with connected(live.server, instance, USER["name"], USER["password"]) as session:
        session.write("it", "serves")
    # It is what it is like, so instances move to and fro.
    openstack("database", "instance", "upgrade", instance["id"], "8")
    live.server.wait_until_healthy(live.demo, instance["id"])
    openstack("database", "instance", "upgrade", instance["id"], "8-fresh")
    instance = live.server.wait_until_healthy(live.demo, instance["id"])
    assert instance["datastore"]["version"] == "8-fresh"
    with connected(live.server, instance, USER["name"], USER["password"]) as session:
        assert session.read() == {"it": "serves"}
    openstack("datastore", "version", "set", version_id, "--disable")
    refused = live.server.command(
        "openstack", "datastore", "version", "delete", version_id, cloud="argosy-admin"
    )
    assert "1 instance use it" in refused.stderr
    live.demo.delete(f"/instances/{instance['id']}")
    live.server.wait_until_gone(live.demo, instance["id"])
    openstack("datastore", "version", "delete", version_id)
    assert "8-fresh" not in openstack("datastore", "version", "list", "valkey")
