"""/backups, /backup_strategies, restorePoint and the action `restore`, field by field (contract 2.1, 2.3, 2.12, 2.13).

Nobody makes the backups here: what a task manager would write, a test writes.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from argosy import catalog
from argosy.domain.backup import Backup, BackupStatus
from argosy.domain.instance import Instance
from argosy.domain.parameters import Catalogue, Parameter
from argosy.domain.status import Report, Service
from argosy.storage import keys
from argosy.storage.archive import Writer
from argosy.storage.backup_directory import DirectoryBackups
from argosy.storage.backups import Prefix
from argosy.storage.directory import DirectoryStore
from argosy.storage.keys import KeyRing
from argosy.storage.labels import Label
from tests.api.conftest import Api
from tests.support.server import Client

NOBODY = "00000000-0000-4000-8000-000000000000"
NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, UTC)
GB = 2**30

Made = Callable[..., str]


@pytest.fixture(autouse=True)
def afresh(api: Api) -> Iterator[None]:
    yield
    with api.store.write() as tx:
        for table in (
            "instances",
            "backups",
            "backup_strategies",
            "operations",
            "events",
            "quotas",
            "grants",
        ):
            tx.connection.exec_driver_sql(f"DELETE FROM {table}")


@pytest.fixture
def shop(api: Api) -> str:
    return instance(api)


def instance(api: Api, **more: Any) -> str:
    """The row of a healthy instance of demo's."""
    now = datetime.now(UTC)
    values: dict[str, Any] = {
        "id": str(uuid.uuid4()), "project_id": api.demo.project_id, "name": "shop", "datastore": "mariadb",
        "version": "11.8", "flavor_id": "2", "volume_gb": 2, "created_at": now, "updated_at": now,
        "access": {"is_public": False},
    }  # fmt: skip
    made = Instance(**values | more)
    with api.store.write() as tx:
        tx.instances.add(made)
        tx.instances.set_address(made.id, "127.77.1.9")
        tx.instances.report(made.id, Report(Service.HEALTHY, 1, now))
    return made.id


def backup(api: Api, instance_id: str, **more: Any) -> str:
    """The row of a backup that is whole; `after_s` says how much later than others it was changed."""
    at = NOW + timedelta(seconds=more.pop("after_s", 0))
    backup_id = str(uuid.uuid4())
    made = Backup(
        id=backup_id, project_id=api.demo.project_id, name="nightly", instance_id=instance_id,
        instance_name="shop", datastore="mariadb", version="11.8", status=BackupStatus.COMPLETED,
        store="directory", container="database_backups", prefix=f"{instance_id}/{backup_id}/", created_at=at,
        updated_at=at, completed_at=at, size_bytes=GB // 8, data_bytes=GB // 2, volume_gb=2,
        facts={"consistent_at": "2026-01-02T03:04:05Z"},
        service={"flavor_id": "2", "volume_gb": 2, "access": {"is_public": False}, "tags": {"team": "web"}},
    )  # fmt: skip
    with api.store.write() as tx:
        tx.backups.add(replace(made, **more))
    return backup_id


def post(client: Client, **asked: Any) -> httpx.Response:
    return client.post("/backups", json={"backup": {"name": "nightly", **asked}})


def listed(client: Client, path: str) -> list[str]:
    answer = client.get(path)
    assert answer.status_code == 200, answer.text
    return [one["id"] for one in answer.json()["backups"]]


def sentence(answer: httpx.Response, status: int) -> str:
    assert answer.status_code == status, answer.text
    (told,) = answer.json().values()
    assert told["code"] == status
    return str(told["message"])


def end_operations(api: Api) -> None:
    with api.store.write() as tx:
        for operation in api.demo.get("/operations").json()["operations"]:
            tx.operations.succeed(operation["id"])


# Making them.


def test_a_backup_is_begun_and_its_instance_shows_it(api: Api, shop: str) -> None:
    answer = post(api.demo, instance=shop, description="by night", incremental=0)
    assert answer.status_code == 202
    shown = answer.json()["backup"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", shown["created"])
    assert shown == {
        "id": shown["id"],
        "name": "nightly",
        "description": "by night",
        "instance_id": shop,
        "project_id": api.demo.project_id,
        "parent_id": None,
        "status": "NEW",
        "size": None,
        "locationRef": None,
        "created": shown["created"],
        "updated": shown["created"],
        "datastore": {
            "type": "mariadb",
            "version": "11.8",
            "version_id": catalog.version("mariadb", "11.8")[1].id,
        },
        "argosy": {
            "instance_name": "shop",
            "kind": "full",
            "data_size": None,
            "consistent_at": None,
            "completed": None,
            "error": None,
            "schedule_id": None,
            "last_verified": None,
            "verified": None,
            "verification": {},
            "restore_seconds": None,
        },
    }
    assert api.demo.get(f"/backups/{shown['id']}").json() == {"backup": shown}
    assert api.demo.get(f"/instances/{shop}").json()["instance"]["status"] == "BACKUP"
    (operation,) = api.demo.get("/operations").json()["operations"]
    assert (operation["kind"], operation["instance_id"]) == ("backup.create", shop)
    # One at a time, and it cannot be deleted before it is there.
    assert "BACKUP" in sentence(post(api.demo, instance=shop), 422)
    assert shown["id"] in sentence(api.demo.delete(f"/backups/{shown['id']}"), 422)


def test_a_backup_that_is_whole_says_where_and_how_large_it_is(api: Api, shop: str) -> None:
    made = backup(api, shop, error=None, verified=True, verified_at=NOW, restore_s=12.5)
    shown = api.demo.get(f"/backups/{made}").json()["backup"]
    assert shown["locationRef"] == f"directory:///database_backups/{shop}/{made}/"
    assert (shown["size"], shown["created"]) == (0.12, "2026-01-02T03:04:05")
    more = shown["argosy"]
    assert (more["data_size"], more["consistent_at"]) == (0.5, "2026-01-02T03:04:05Z")
    assert (more["verified"], more["last_verified"], more["restore_seconds"]) == (
        True,
        "2026-01-02T03:04:05",
        12.5,
    )
    tiny = backup(api, shop, size_bytes=1500)
    assert 0 < api.demo.get(f"/backups/{tiny}").json()["backup"]["size"] < 0.00001
    failed = backup(api, shop, status=BackupStatus.FAILED, error="The store is full.")
    shown = api.demo.get(f"/backups/{failed}").json()["backup"]
    assert (shown["status"], shown["locationRef"], shown["argosy"]["error"]) == (
        "FAILED",
        None,
        "The store is full.",
    )


def test_an_increment_builds_on_the_newest_or_the_named_one(api: Api, shop: str) -> None:
    # Without any there is nothing to build on: a full one (contract 2.12).
    assert post(api.demo, instance=shop, incremental=1).json()["backup"]["parent_id"] is None
    end_operations(api)
    old = backup(api, shop)
    newest = backup(api, shop, after_s=9)
    backup(api, shop, after_s=99, status=BackupStatus.FAILED)
    backup(api, shop, after_s=99, version="10.11")
    asked = post(api.demo, instance=shop, incremental=1).json()["backup"]
    assert (asked["parent_id"], asked["argosy"]["kind"]) == (newest, "incremental")
    end_operations(api)
    assert post(api.demo, instance=shop, parent_id=old).json()["backup"]["parent_id"] == old


def test_what_cannot_be_backed_up_is_refused_with_field_and_reason(api: Api, shop: str) -> None:
    other = instance(api, name="other")
    theirs = backup(api, other)
    failed = backup(api, shop, status=BackupStatus.FAILED)
    older = backup(api, shop, version="10.11")
    cache = instance(api, datastore="valkey", version="8")
    down = instance(api)
    with api.store.write() as tx:
        tx.instances.report(down, Report(Service.CRASHED, 2, datetime.now(UTC)))
    asked: list[tuple[dict[str, Any], int, str]] = [
        ({}, 400, "backup.instance"),
        ({"instance": NOBODY}, 404, NOBODY),
        ({"instance": "shop"}, 404, "shop"),
        ({"instance": 5.5}, 400, "backup.instance"),
        ({"instance": shop, "name": ""}, 400, "backup.name"),
        ({"instance": shop, "name": "x" * 256}, 400, "255"),
        ({"instance": shop, "name": "!!"}, 400, "backup.name"),
        ({"instance": shop, "name": 5}, 400, "backup.name"),
        ({"instance": shop, "description": "x" * 256}, 400, "backup.description"),
        ({"instance": shop, "incremental": 2}, 400, "backup.incremental"),
        ({"instance": shop, "incremental": "1"}, 400, "backup.incremental"),
        ({"instance": shop, "parent_id": NOBODY}, 404, NOBODY),
        ({"instance": shop, "parent_id": "last"}, 404, "last"),
        ({"instance": shop, "parent_id": theirs}, 400, "of another instance"),
        ({"instance": shop, "parent_id": failed}, 409, "FAILED"),
        ({"instance": shop, "parent_id": older}, 400, "version 10.11"),
        ({"instance": shop, "swift_container": "a b"}, 400, "backup.swift_container"),
        ({"instance": shop, "swift_container": "a;b"}, 400, "backup.swift_container"),
        ({"instance": shop, "swift_container": "a/b"}, 400, "slash"),
        ({"instance": shop, "swift_container": ".."}, 400, "must not be"),
        ({"instance": shop, "swift_container": "x" * 300}, 400, "backup.swift_container"),
        ({"instance": shop, "storage_driver": "cinder"}, 501, "backup.storage_driver"),
        ({"instance": cache, "incremental": 1}, 501, "no incremental backups"),
        ({"instance": down}, 422, down),
    ]
    for one, status, told in asked:
        assert told in sentence(post(api.demo, **one), status), one
    assert sentence(api.demo.post("/backups", json={}), 400)
    assert sentence(api.demo.post("/backups", json={"backup": []}), 400)
    assert api.demo.get("/operations").json()["operations"] == []
    assert len(listed(api.demo, "/backups")) == 3


def test_the_quota_bounds_backups_and_those_that_failed_are_not_counted(api: Api, shop: str) -> None:
    path = f"/mgmt/quotas/{api.demo.project_id}"
    assert api.admin.put(path, json={"quotas": {"backups": 2}}).status_code == 200
    backup(api, shop)
    backup(api, shop, status=BackupStatus.FAILED)
    assert post(api.demo, instance=shop).status_code == 202
    end_operations(api)
    assert "['backups']" in sentence(post(api.demo, instance=shop), 413)
    (used,) = [one for one in api.demo.get(path).json()["quotas"] if one["resource"] == "backups"]
    assert (used["in_use"], used["limit"]) == (2, 2)


# Listing them.


def test_lists_are_newest_change_first_paged_by_number_and_chosen(api: Api, shop: str) -> None:
    cache = instance(api, datastore="valkey", version="8")
    mine = [backup(api, shop, after_s=number) for number in range(3)]
    gone = [backup(api, NOBODY, after_s=10)]
    theirs = [backup(api, cache, after_s=20, datastore="valkey", version="8")]
    everything = theirs + gone + mine[::-1]
    assert listed(api.demo, "/backups") == everything

    first = api.demo.get("/backups?limit=2").json()
    (link,) = first["links"]
    assert link["rel"] == "next"
    assert "marker=2" in link["href"]
    second = httpx.get(link["href"], headers=dict(api.demo.headers)).json()
    (link,) = second["links"]
    third = httpx.get(link["href"], headers=dict(api.demo.headers)).json()
    assert "links" not in third
    assert [one["id"] for page in (first, second, third) for one in page["backups"]] == everything
    assert listed(api.demo, "/backups?marker=5") == []

    valkey = catalog.datastores()["valkey"].id
    for query, found in (
        (f"instance_id={shop}", mine[::-1]),
        (f"instance_id={NOBODY}", gone),
        ("datastore=valkey", theirs),
        (f"datastore={valkey}", theirs),
        (f"datastore=mariadb&instance_id={cache}", []),
        ("all_projects=false", everything),
        ("instance_id=nothing", []),
    ):
        assert listed(api.demo, f"/backups?{query}") == found, query
    assert listed(api.demo, f"/instances/{shop}/backups") == mine[::-1]
    assert listed(api.demo, f"/instances/{shop}/backups?limit=1&marker=1") == [mine[1]]
    for wrong in ("limit=0", "limit=x", "limit=-1", "marker=x", "marker=-1"):
        sentence(api.demo.get(f"/backups?{wrong}"), 400)
    assert "nothing" in sentence(api.demo.get("/backups?datastore=nothing"), 404)
    sentence(api.demo.get(f"/instances/{NOBODY}/backups"), 404)


def test_more_than_a_hundred_are_had_at_once(api: Api, shop: str) -> None:
    for number in range(25):
        backup(api, shop, after_s=number)
    assert len(listed(api.demo, "/backups")) == 20
    assert len(listed(api.demo, "/backups?limit=500")) == 25


def test_backups_of_a_deleted_instance_remain(api: Api, shop: str) -> None:
    made = backup(api, shop)
    with api.store.write() as tx:
        tx.connection.exec_driver_sql("UPDATE instances SET deleted_at = updated_at")
    sentence(api.demo.get(f"/instances/{shop}"), 404)
    assert listed(api.demo, f"/instances/{shop}/backups") == [made]
    assert listed(api.demo, f"/backups?instance_id={shop}") == [made]


# Whose they are.


def test_another_projects_backups_are_not_found(api: Api, shop: str) -> None:
    mine = backup(api, shop)
    foreign = instance(api, project_id="other")
    theirs = backup(api, foreign, project_id="other")
    assert listed(api.demo, "/backups") == [mine]
    assert listed(api.demo, f"/backups?instance_id={foreign}") == []
    for answer in (
        api.demo.get(f"/backups/{theirs}"),
        api.demo.delete(f"/backups/{theirs}"),
        api.demo.get(f"/instances/{foreign}/backups"),
        post(api.demo, instance=foreign),
        post(api.demo, instance=shop, parent_id=theirs),
        create(api.demo, theirs),
        restore(api.demo, shop, backup=theirs),
        restore(api.demo, foreign, backup=mine),
        api.demo.post(
            "/backup_strategies",
            json={"backup_strategy": {"swift_container": "c", "instance_id": foreign}},
        ),
    ):
        sentence(answer, 404)
    assert api.demo.get("/operations").json()["operations"] == []


def test_only_administrators_see_other_projects(api: Api, shop: str) -> None:
    mine = backup(api, shop)
    theirs = backup(api, NOBODY, project_id="other", after_s=9)
    for query in ("all_projects=True", f"project_id={api.demo.project_id}", "project_id=other"):
        sentence(api.demo.get(f"/backups?{query}"), 403)
    assert listed(api.admin, "/backups") == []
    assert listed(api.admin, "/backups?all_projects=True") == [theirs, mine]
    assert listed(api.admin, "/backups?project_id=other") == [theirs]
    assert listed(api.admin, f"/instances/{shop}/backups") == [mine]
    assert api.admin.get(f"/backups/{theirs}").json()["backup"]["project_id"] == "other"


def test_readers_look_and_change_nothing(api: Api, shop: str) -> None:
    made = backup(api, shop)
    role = next(
        one
        for one in api.admin.get(f"{api.server.url}/identity/v3/roles").json()["roles"]
        if one["name"] == "reader"
    )
    users = f"{api.server.url}/identity/v3/users"
    asked = {
        "name": f"reader-{made[:8]}",
        "password": "Reader-secret-1",
        "default_project_id": api.demo.project_id,
    }
    user = api.admin.post(users, json={"user": asked}).json()["user"]["id"]
    path = f"{api.server.url}/identity/v3/projects/{api.demo.project_id}/users/{user}/roles/{role['id']}"
    assert api.admin.put(path).status_code == 204
    with Client(api.server.url, asked["name"], asked["password"], project="demo") as reader:
        _only_looks(reader, shop, made)


def _only_looks(reader: Client, shop: str, made: str) -> None:
    assert listed(reader, "/backups") == [made]
    assert reader.get(f"/backups/{made}").status_code == 200
    for answer in (
        post(reader, instance=shop),
        reader.delete(f"/backups/{made}"),
        restore(reader, shop, backup=made),
        create(reader, made),
        reader.post("/backup_strategies", json={"backup_strategy": {"swift_container": "c"}}),
        reader.delete("/backup_strategies"),
    ):
        sentence(answer, 403)


# Deleting them.


def test_a_parent_is_deleted_with_its_children_or_not_at_all(api: Api, shop: str) -> None:
    full = backup(api, shop)
    child = backup(api, shop, parent_id=full, after_s=1)
    grandchild = backup(api, shop, parent_id=child, after_s=2)
    assert "2 incremental backups" in sentence(api.demo.delete(f"/backups/{full}"), 409)
    assert api.demo.delete(f"/backups/{full}?cascade=true").status_code == 202
    (operation,) = api.demo.get("/operations").json()["operations"]
    assert (operation["kind"], operation["instance_id"]) == ("backup.delete", None)
    for one in (full, child, grandchild):
        # Held by that until it has ended.
        sentence(api.demo.delete(f"/backups/{one}?cascade=true"), 422)


def test_what_is_in_use_is_not_deleted(api: Api, shop: str) -> None:
    for status in ("NEW", "BUILDING", "SAVING"):
        busy = backup(api, shop, status=BackupStatus(status))
        assert status in sentence(api.demo.delete(f"/backups/{busy}"), 422)
    read = backup(api, shop)
    with api.store.write() as tx:
        tx.grants.give(shop, "database_backups", f"{shop}/{read}/", "GET", "operation")
    assert "being restored" in sentence(api.demo.delete(f"/backups/{read}"), 422)
    for status in ("FAILED", "DELETE_FAILED", "RESTORED"):
        assert (
            api.demo.delete(f"/backups/{backup(api, shop, status=BackupStatus(status))}").status_code == 202
        )
    for wrong in (NOBODY, "nightly", "%00", "x" * 300):
        sentence(api.demo.delete(f"/backups/{wrong}"), 404)
        sentence(api.demo.get(f"/backups/{wrong}"), 404)


# Restoring them.


def create(client: Client, backup_id: str, users: str | None = None, **more: Any) -> httpx.Response:
    point = {"backupRef": backup_id} | ({} if users is None else {"users": users})
    return client.post("/instances", json={"instance": {"name": "copy", "restorePoint": point, **more}})


def restore(client: Client, instance_id: str, **asked: Any) -> httpx.Response:
    return client.post(f"/instances/{instance_id}/action", json={"restore": asked})


def test_a_new_instance_is_what_the_backups_was_wherever_nothing_else_is_asked(api: Api, shop: str) -> None:
    service = {
        "flavor_id": "2", "volume_gb": 2, "autogrow_limit_gb": 9, "require_tls": True, "tags": {"team": "web"},
        "access": {"is_public": False, "allowed_cidrs": ["10.0.0.0/8"]},
    }  # fmt: skip
    made = backup(api, shop, service=service)
    answer = create(api.demo, made)
    assert answer.status_code == 200, answer.text
    shown = answer.json()["instance"]
    assert (shown["datastore"]["type"], shown["datastore"]["version"]) == ("mariadb", "11.8")
    assert (shown["flavor"]["id"], shown["volume"]["size"], shown["status"]) == ("2", 2, "BUILD")
    assert shown["access"]["allowed_cidrs"] == ["10.0.0.0/8"]
    with api.store.read() as tx:
        row = tx.instances.get(shown["id"])
    assert (row.require_tls, row.tags, row.autogrow_limit_gb) == (True, {"team": "web"}, 9)

    # Clients send sizes and access always; a URL ending in the id is an id, too.
    shown = create(
        api.demo,
        f"http://argosy/v1.0/x/backups/{made}",
        "backup",
        flavorRef="1",
        volume={"size": 5},
        access={"is_public": True},
        tags={},
        tls={"mode": "allowed"},
    ).json()["instance"]
    assert (shown["flavor"]["id"], shown["volume"]["size"]) == ("1", 5)
    assert shown["access"] == {"is_public": True, "allowed_cidrs": ["10.0.0.0/8"]}
    with api.store.read() as tx:
        row = tx.instances.get(shown["id"])
    assert (row.require_tls, row.tags, row.autogrow_limit_gb) == (False, {}, 9)


def test_the_configuration_group_comes_back_also_when_it_is_gone(api: Api, shop: str) -> None:
    sorting = Parameter("sort_buffer_size", "integer", restart_required=False, minimum=1024, maximum=9999)
    with api.store.write() as tx:
        tx.parameters.publish("mariadb", "11.8", Catalogue("11.8.3", (sorting,)))
    values = {
        "name": "tuned",
        "values": {"sort_buffer_size": 4096},
        "datastore": {"type": "mariadb", "version": "11.8"},
    }
    group = api.demo.post("/configurations", json={"configuration": values}).json()["configuration"]["id"]
    service = {
        "flavor_id": "2", "volume_gb": 2, "access": {"is_public": False}, "configuration_id": group,
        "configuration_name": "tuned", "configuration_values": {"sort_buffer_size": "4096"},
    }  # fmt: skip
    made = backup(api, shop, service=service)
    assert create(api.demo, made).json()["instance"]["configuration"]["id"] == group
    assert "configuration" not in create(api.demo, made, configuration=None).json()["instance"]
    with api.store.write() as tx:
        tx.connection.exec_driver_sql("DELETE FROM instances")
    assert api.demo.delete(f"/configurations/{group}").status_code == 202
    anew = create(api.demo, made).json()["instance"]["configuration"]
    assert anew["id"] != group
    assert anew["name"] == "tuned"
    shown = api.demo.get(f"/configurations/{anew['id']}").json()["configuration"]
    assert shown["values"] == {"sort_buffer_size": 4096}
    service["configuration_values"] = {"sort_buffer_size": "1"}
    told = sentence(create(api.demo, backup(api, shop, service=service)), 422)
    assert "cannot be made anew" in told
    assert "sort_buffer_size" in told
    with api.store.write() as tx:
        for table in ("instances", "configurations", "configuration_revisions", "parameters"):
            tx.connection.exec_driver_sql(f"DELETE FROM {table}")


def test_what_cannot_be_restored_is_refused_with_the_reason(api: Api, shop: str) -> None:
    made = backup(api, shop)
    large = backup(api, shop, data_bytes=3 * GB)
    increment = backup(api, shop, parent_id=made, data_bytes=GB // 2)
    orphan = backup(api, shop, parent_id=NOBODY)
    unfinished = backup(api, shop, status=BackupStatus.SAVING)
    failed = backup(api, shop, status=BackupStatus.FAILED)
    asked: list[tuple[str, dict[str, Any], int, str]] = [
        (NOBODY, {}, 404, NOBODY),
        ("nightly", {}, 404, "nightly"),
        (unfinished, {}, 409, "SAVING"),
        (failed, {}, 409, "FAILED"),
        (large, {}, 403, "3.00 GB"),
        (increment, {"volume": {"size": 1}}, 403, "1.50 GB"),
        (made, {"datastore": {"type": "postgresql"}}, 400, "cannot be restored to postgresql"),
        (made, {"datastore": {"type": "mariadb", "version": "10.11"}}, 400, "version 11.8"),
        (made, {"datastore": {"type": "nothing"}}, 404, "nothing"),
        (made, {"volume": {"size": 10**6}}, 413, "volume"),
        (made, {"flavorRef": "99"}, 400, "99"),
    ]
    for backup_id, more, status, told in asked:
        assert told in sentence(create(api.demo, backup_id, **more), status), (backup_id, more)
    assert "restorePoint.users" in sentence(create(api.demo, made, "none"), 400)
    answer = api.demo.post("/instances", json={"instance": {"name": "copy", "restorePoint": {}}})
    assert "restorePoint" in sentence(answer, 400)
    assert "parent" in sentence(create(api.demo, orphan), 409)
    assert api.demo.get("/operations").json()["operations"] == []


def test_an_instance_is_put_back_in_place(api: Api, shop: str) -> None:
    made = backup(api, shop)
    assert restore(api.demo, shop, backup=made, users="backup").status_code == 202
    (operation,) = api.demo.get("/operations").json()["operations"]
    assert (operation["kind"], operation["instance_id"]) == ("instance.restore", shop)
    sentence(restore(api.demo, shop, backup=made), 422)


def test_what_cannot_be_put_back_in_place_is_refused(api: Api, shop: str) -> None:
    made = backup(api, shop)
    cache = instance(api, datastore="valkey", version="8")
    small = instance(api, volume_gb=1)
    large = backup(api, shop, data_bytes=GB + 1)
    failed = backup(api, shop, status=BackupStatus.FAILED)
    for on, asked, status, told in (
        (shop, {}, 400, "restore: it must have one of backup"),
        (shop, {"backup": 5.5}, 400, "restore.backup"),
        (shop, {"backup": made, "users": "no"}, 400, "restore.users"),
        (shop, {"backup": made, "other": 1}, 400, "restore.other"),
        (shop, {"backup": NOBODY}, 404, NOBODY),
        (shop, {"backup": failed}, 409, "FAILED"),
        (cache, {"backup": made}, 400, "cannot be restored to valkey"),
        (small, {"backup": large}, 403, "1.01 GB"),
        (NOBODY, {"backup": made}, 404, NOBODY),
    ):
        assert told in sentence(restore(api.demo, on, **asked), status), (on, asked)
    assert api.demo.get("/operations").json()["operations"] == []


# Strategies.


def test_a_strategy_says_where_backups_are_kept(api: Api, shop: str) -> None:
    def say(container: Any, **more: Any) -> httpx.Response:
        asked = {"backup_strategy": {"swift_container": container, **more}}
        return api.demo.post("/backup_strategies", json=asked)

    answer = say("ours")
    assert answer.status_code == 202
    project = {
        "project_id": api.demo.project_id, "instance_id": "", "backend": "directory", "swift_container": "ours",
    }  # fmt: skip
    assert answer.json() == {"backup_strategy": project}
    own = {**project, "instance_id": shop, "swift_container": "shops"}
    assert say("first", instance_id=shop).status_code == 202
    assert say("shops", instance_id=shop).json() == {"backup_strategy": own}
    assert api.demo.get("/backup_strategies").json() == {"backup_strategies": [project, own]}
    of_shop = f"/backup_strategies?instance_id={shop}"
    assert api.demo.get(of_shop).json() == {"backup_strategies": [own]}

    def container_of(**asked: Any) -> str:
        backup_id = post(api.demo, instance=shop, **asked).json()["backup"]["id"]
        end_operations(api)
        with api.store.read() as tx:
            return tx.backups.get(backup_id).container

    assert container_of(swift_container="named") == "named"
    assert container_of() == "shops"
    for _ in range(2):
        assert api.demo.delete(of_shop).status_code == 202
    assert container_of() == "ours"
    assert api.demo.delete("/backup_strategies").status_code == 202
    assert container_of() == "database_backups"

    for wrong, more, told in (
        ("a b", {}, "backup_strategy.swift_container"),
        ("", {}, "backup_strategy.swift_container"),
        (5, {}, "backup_strategy.swift_container"),
        ("c", {"backend": "swift"}, "backup_strategy.backend"),
    ):
        assert told in sentence(say(wrong, **more), 400)
    for answer in (say("c", instance_id=NOBODY), say("c", instance_id="shop")):
        sentence(answer, 404)
    for method in ("GET", "DELETE"):
        answer = api.demo.request(method, "/backup_strategies?project_id=other")
        sentence(answer, 403)
        assert api.admin.request(method, "/backup_strategies?project_id=other").is_success


# Taking over what another installation made.


class Elsewhere:
    """Another Argosy with the same store and the same ring of keys: what it leaves beside its archives."""

    def __init__(self, api: Api) -> None:
        home = api.server.home
        self.store = DirectoryBackups(DirectoryStore(home / "backups"), "https://127.0.0.1", bytes(32))
        self.ring = KeyRing.open(home / "secrets/backup-keys")
        self.store.check("theirs")

    def back_up(self, project_id: str, **more: Any) -> str:
        """Returns where it lies."""
        key, wrapped = self.ring.new()
        backup_id = str(uuid.uuid4())
        values: dict[str, Any] = {
            "id": backup_id, "project_id": project_id, "name": "theirs", "instance_id": NOBODY,
            "instance_name": "far", "datastore": "mariadb", "version": "11.8", "volume_gb": 2,
            "service": {"flavor_id": "1"},
        }  # fmt: skip
        label = Label(**values | more)
        objects = Prefix(self.store, "theirs", label.prefix)
        objects.put("key.json", keys.document(wrapped))
        objects.put("label.json", label.sealed(key))
        with Writer(objects, label.id, key) as writer:
            writer.write(b"rows" * 1000)
            writer.finish({"consistent_at": "2026-01-02T03:04:05Z"})
        return self.store.location("theirs", label.prefix)


@pytest.fixture
def elsewhere(api: Api) -> Elsewhere:
    return Elsewhere(api)


def register(client: Client, location: Any, **more: Any) -> httpx.Response:
    version = {"local_datastore_version_id": catalog.version("mariadb", "11.8")[1].id, "size": 0.1}
    asked = {"name": "taken-over", "restore_from": {"remote_location": location, **version, **more}}
    return client.post("/backups", json={"backup": asked})


def test_a_backup_made_elsewhere_is_registered_and_restored(
    api: Api, shop: str, elsewhere: Elsewhere
) -> None:
    full = elsewhere.back_up(api.demo.project_id)
    full_id = full.rstrip("/").rpartition("/")[2]
    more = elsewhere.back_up(api.demo.project_id, parent_id=full_id)
    assert "register that one first" in sentence(register(api.demo, more), 400)
    answer = register(api.demo, full)
    assert answer.status_code == 202, answer.text
    shown = answer.json()["backup"]
    assert (shown["id"], shown["name"], shown["status"]) == (full_id, "taken-over", "RESTORED")
    assert (shown["instance_id"], shown["locationRef"]) == (NOBODY, full)
    assert shown["argosy"]["consistent_at"] == "2026-01-02T03:04:05Z"
    assert shown["argosy"]["data_size"] > shown["size"] > 0
    assert "known here already" in sentence(register(api.demo, full), 409)
    assert register(api.demo, more).json()["backup"]["parent_id"] == full_id
    assert len(listed(api.demo, "/backups")) == 2
    made = create(api.demo, full_id).json()["instance"]
    assert (made["flavor"]["id"], made["volume"]["size"]) == ("1", 2)
    assert restore(api.demo, shop, backup=full_id).status_code == 202


def test_what_cannot_be_registered_is_refused(api: Api, elsewhere: Elsewhere) -> None:
    mine = elsewhere.back_up(api.demo.project_id)
    theirs = elsewhere.back_up("other")
    odd = elsewhere.back_up(api.demo.project_id, version="1.0")
    lost = elsewhere.back_up(api.demo.project_id)
    container, prefix = elsewhere.store.locate(lost)
    elsewhere.store.put(container, prefix + "key.json", keys.document("20200101T000000.000000Z:" + "A" * 80))
    swapped = elsewhere.back_up(api.demo.project_id)
    _, into = elsewhere.store.locate(swapped)
    _, other = elsewhere.store.locate(mine)
    elsewhere.store.put(
        "theirs", into + "manifest.json", elsewhere.store.get("theirs", other + "manifest.json")
    )
    torn = elsewhere.back_up(api.demo.project_id)
    elsewhere.store.delete("theirs", elsewhere.store.locate(torn)[1] + "manifest.json")
    nothing = f"directory:///theirs/{NOBODY}/{NOBODY}/"
    valkey = catalog.version("valkey", "8")[1].id
    field = "backup.restore_from"
    for asked, told in (
        ({"location": nothing}, "no whole backup of this project"),
        ({"location": "directory:///nothing/x/y/"}, "no whole backup of this project"),
        ({"location": torn}, "no whole backup of this project"),
        ({"location": theirs}, "no whole backup of this project"),
        ({"location": lost}, "is not in the key ring"),
        ({"location": swapped}, "does not go with its key"),
        ({"location": odd}, "mariadb 1.0, which is not offered here"),
        ({"location": "https://elsewhere/x"}, f"{field}.remote_location"),
        ({"location": "directory:///../../etc/"}, f"{field}.remote_location"),
        ({"location": 5}, f"{field}.remote_location"),
        ({"location": mine, "local_datastore_version_id": valkey}, f"{field}.local_datastore_version_id"),
        ({"location": mine, "size": -1}, f"{field}.size"),
        ({"location": mine, "size": "1"}, f"{field}.size"),
    ):
        assert told in sentence(register(api.demo, **asked), 400), asked
    assert listed(api.demo, "/backups") == []
    # An administrator may, for a project of their own.
    assert register(api.admin, theirs).json()["backup"]["project_id"] == api.admin.project_id
    api.admin.put(f"/mgmt/quotas/{api.demo.project_id}", json={"quotas": {"backups": 0}})
    sentence(register(api.demo, mine), 413)


def test_a_backup_in_a_store_that_is_not_in_use_is_shown_and_left_alone(api: Api, shop: str) -> None:
    elsewhere = backup(api, shop, store="s3")
    shown = api.demo.get(f"/backups/{elsewhere}").json()["backup"]
    assert (shown["status"], shown["locationRef"]) == ("COMPLETED", None)
    why = "is in the store s3, and backups are kept in directory now"
    assert why in sentence(api.demo.delete(f"/backups/{elsewhere}"), 409)
    assert why in sentence(api.demo.post(f"/backups/{elsewhere}/verify"), 409)
    restore = {"restore": {"backup": elsewhere}}
    assert why in sentence(api.demo.post(f"/instances/{shop}/action", json=restore), 409)
    assert why in sentence(post(api.demo, instance=shop, parent_id=elsewhere), 409)
    made = post(api.demo, instance=shop, incremental=1)
    assert made.status_code == 202
    assert made.json()["backup"]["parent_id"] is None
