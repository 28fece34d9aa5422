"""One instance's life on machines of a real cloud: everything that one on this machine can do, and nothing left behind.

The cloud's Keystone knows the users, too: the instance is a tenant's, its machines are ours.
"""

from __future__ import annotations

from contextlib import closing, suppress
from typing import Any

import pytest

from tests.support.backups import Shop, back_up, delete_backup, restore_in_place, restored
from tests.support.life import Story
from tests.support.machines import Cloud, Tenancy
from tests.support.server import Client, Server, wait_until

# Each with the version it is moved to at the end, and a parameter that is changed as it runs.
KINDS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "postgresql": ("15", "17", {"work_mem": "3MB"}),
    "mariadb": ("10.11", "11.8", {"max_connections": 55}),
}


@pytest.fixture(scope="module")
def argosy(tenancy: Tenancy) -> Server:
    return tenancy.argosy


@pytest.mark.parametrize("datastore", KINDS)
def test_an_instance_lives_on_machines_as_it_does_here_and_leaves_nothing(
    cloud: Cloud, tenancy: Tenancy, argosy: Server, demo: Client, datastore: str
) -> None:
    before = cloud.holdings(argosy.environment["ARGOSY_OPENSTACK__INSTALLATION"])
    version, newer, values = KINDS[datastore]
    story = Story(argosy, demo, datastore, version)
    with story.stage("create"):
        story.create()
        story.put(1)
        assert story.events("guest.booted") == []
        tenancy.check_that_machines_are_ours_alone()
    with story.stage("configure"):
        story.configure(values)
    with story.stage("resize the volume under load"), story.writing() as writer:
        story.act("instance.resize_volume", {"resize": {"volume": {"size": 2}}})
        assert story.shown()["volume"]["size"] == 2
        assert story.volume_bytes() > 1.8 * 2**30
    assert writer.missing() == []
    with story.stage("resize the flavor"):
        story.act("instance.resize_flavor", {"resize": {"flavorRef": story.flavor("db.small")}})
        assert story.numbers() == [1]
    with story.stage("restart"):
        story.act("instance.restart", {"restart": {}})
    with story.stage("log"):
        story.log()
    with story.stage("archive the log"):
        story.archive_log()
    with story.stage("full backup"):
        full = back_up(demo, story.id)
        assert full["status"] == "COMPLETED", full["argosy"]["error"]
        tenancy.check_that_others_see_nothing(story.id, full["id"])
    with story.stage("incremental backup"):
        story.put(2)
        newest = back_up(demo, story.id, "again", incremental=1)
        assert newest["status"] == "COMPLETED", newest["argosy"]["error"]
        assert newest["parent_id"] == full["id"]
    with story.stage("have a moment archived"):
        story.put(3)
        moment = story.archived_moment()
    with story.stage("rebuild"):
        story.rebuild(version)
        assert story.numbers()[:3] == [1, 2, 3]
    with story.stage("restore the backup as another instance"):
        other = restored(argosy, demo, f"other-{datastore}", newest["id"])
        with closing(Shop(argosy, other)) as shop:
            assert shop.numbers() == [1, 2]
        story.take_away(other["id"])
    with story.stage("restore a moment as another instance"):
        then = story.restored_to(moment)
        with closing(Shop(argosy, then)) as shop:
            assert shop.numbers() == [1, 2, 3]
        story.take_away(then["id"])
    with story.stage("restore in place"):
        operation = restore_in_place(argosy, demo, story.id, backup=full["id"])
        assert operation["state"] == "succeeded", operation["error"]
        assert story.numbers() == [1]
    with story.stage("upgrade by image"):
        story.upgrade(newer)
        assert story.numbers() == [1]
    with story.stage("delete"):
        story.take_away(story.id)
        for one in demo.get("/backups").json()["backups"]:
            if one["parent_id"] is None:
                delete_backup(demo, one["id"])
    story.tell()

    def left() -> dict[str, list[str]]:
        """What others have taken away meanwhile is no matter."""
        now = cloud.holdings(argosy.environment["ARGOSY_OPENSTACK__INSTALLATION"])
        more = {kind: [name for name in now[kind] if name not in before[kind]] for kind in now}
        return {kind: names for kind, names in more.items() if names}

    # Archived log goes right after the last backup.
    with suppress(AssertionError):
        wait_until("nothing is left", lambda: not left(), 60, every_s=1)
    assert left() == {}
