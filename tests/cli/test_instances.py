"""`argosy create`, `list`, `show`, `restart`, `rename`, `delete`, and what a script can tell from them."""

from __future__ import annotations

import re

from tests.support.command_line import CommandLine
from tests.support.server import Server, running


def test_a_create_tells_its_steps_and_the_password_it_made(argosy: CommandLine) -> None:
    done = argosy("create", "told", "--datastore", "valkey", "--flavor", "tiny", "--user", "eve")
    assert re.search(r"^told: \[\d/\d\] ", done.err, re.MULTILINE)
    assert "\x1b" not in done.err + done.out
    password = re.search(r"^User eve +password (\w{24}) ", done.out, re.MULTILINE)
    assert password is not None
    assert "ACTIVE: answers queries" in done.out
    assert "db.tiny, 256 MB" in done.out
    assert "rediss://eve@127.77." in done.out
    argosy("delete", "told")


def test_a_create_answers_programs_with_one_object(argosy: CommandLine) -> None:
    made = argosy("create", "asked", "--datastore", "valkey", "--user", "eve", "--json").json
    assert (made["name"], made["status"], made["operating_status"]) == ("asked", "ACTIVE", "HEALTHY")
    assert (made["datastore"], made["version"], made["volume_gb"], made["port"]) == ("valkey", "8", 1, 6379)
    assert made["created"].endswith("Z")
    (user,) = made["users"]
    assert user["name"] == "eve"
    assert len(user["password"]) == 24
    gone = argosy("delete", made["id"], "--json").json
    assert gone == [{"id": made["id"], "name": "asked", "deleted": True}]


def test_a_person_at_a_terminal_sees_it_live_and_is_asked_before_a_delete(argosy: CommandLine) -> None:
    seen = argosy.at_terminal("create", "seen", "--datastore", "valkey")
    assert seen.code == 0
    assert "Making seen" in seen.out
    assert "\x1b[" in seen.out
    kept = argosy.at_terminal("delete", "seen", answers=[("[y/N]", "n\n")])
    assert "Delete seen (valkey 8) with all data in it?" in kept.out
    assert kept.code == 1
    assert argosy.at_terminal("delete", "seen", answers=[("[y/N]", "y\n")]).code == 0
    argosy("show", "seen", code=3)


def test_lists_are_tables_for_people_objects_for_programs_and_ids_for_scripts(
    argosy: CommandLine, shop: str
) -> None:
    header, *rows = argosy("list").out.splitlines()
    assert header.split() == ["Name", "Datastore", "Status", "Address", "Flavor", "Volume", "Created", "Id"]
    assert any(row.startswith("shop ") and "postgresql 17" in row and "db.small" in row for row in rows)
    listed = {each["name"]: each for each in argosy("list", "--json").json}
    assert listed[shop]["address"].startswith("127.77.")
    assert listed[shop]["id"] in argosy("list", "-q").out.split()


def test_show_says_how_it_is_what_limits_it_and_how_to_connect(argosy: CommandLine, shop: str) -> None:
    shown = argosy("show", shop).out
    assert re.search(r"^Status +ACTIVE: answers queries", shown, re.MULTILINE)
    assert re.search(r"^Limit, memory +\S", shown, re.MULTILINE)
    assert re.search(
        r"^URL +postgresql://ann@127\.77\.\d+\.\d+:5432/shop\?sslmode=verify-full", shown, re.MULTILINE
    )
    assert re.search(r"^Connect +argosy connect shop", shown, re.MULTILINE)


def test_a_restarted_instance_serves_again(argosy: CommandLine, shop: str) -> None:
    assert argosy("restart", shop).out == "shop was restarted.\n"
    assert argosy("show", shop, "--json").json["operating_status"] == "HEALTHY"


def test_a_renamed_instance_is_found_by_its_new_name(argosy: CommandLine, cache: str) -> None:
    argosy("rename", cache, "caché")
    argosy("show", cache, code=3)
    argosy("rename", "caché", cache)
    argosy("show", cache)


def test_exit_codes_tell_scripts_what_went_wrong(argosy: CommandLine, server: Server) -> None:
    assert "No instance has the name or id 'nothing'" in argosy("show", "nothing", code=3).err
    argosy("create", "bad", "--datastore", "postgresql", "--version", "0", code=2)
    argosy("create", "bad", "--datastore", "postgresql", "--volume", "none", code=2)
    argosy("create", "bad", "--flavor", "none", code=3)
    argosy("images", "pull", "valkey", "9", "--os-cloud", "argosy", code=5)
    argosy("list", "--os-cloud", "nowhere", code=6)
    elsewhere = {
        "OS_AUTH_URL": f"http://{server.network[3]}:1/v3",
        "OS_USERNAME": "u",
        "OS_PASSWORD": "p",
        "OS_PROJECT_NAME": "p",
    }
    argosy("list", environment=elsewhere, code=6)
    error = argosy("show", "nothing", "--json", code=3)
    assert error.out == ""
    assert '"code": "instance-not-found"' in error.err


def test_a_create_that_is_not_waited_for_answers_at_once(without_task_manager: CommandLine) -> None:
    argosy = without_task_manager
    instance_id = argosy("create", "later", "--datastore", "valkey", "--no-wait", "-q").out.strip()
    assert argosy("show", "later", "--json").json["id"] == instance_id
    shown = argosy("show", "later").out
    assert "BUILD: being made" in shown
    assert "waiting for a worker" in shown


def test_an_instance_that_is_busy_is_a_conflict(without_task_manager: CommandLine) -> None:
    argosy = without_task_manager
    argosy("create", "busy", "--datastore", "valkey", "--no-wait")
    for command in (["delete"], ["restart"], ["users", "list"], ["connect"]):
        assert "BUILD" in argosy(*command, "busy", code=4).err


def test_a_wait_that_is_cut_short_leaves_the_work_going_on(without_task_manager: CommandLine) -> None:
    argosy = without_task_manager
    assert "going on" in argosy("create", "slow", "--datastore", "valkey", "--timeout", "0", code=7).err
    assert argosy("operations", "slow", "--json").json[0]["state"] == "queued"


def test_a_name_that_two_instances_have_is_an_error_with_their_ids(without_task_manager: CommandLine) -> None:
    argosy = without_task_manager
    make = ("create", "twin", "--datastore", "valkey", "--no-wait", "-q")
    ids = [argosy(*make).out.strip() for _ in range(2)]
    refused = argosy("show", "twin", code=2)
    assert all(each in refused.err for each in ids)
    assert argosy("show", ids[0], "-q").out.strip() == ids[0]


def test_a_create_that_fails_says_why_and_can_be_deleted() -> None:
    with running(
        ARGOSY_LOCAL__IMAGES="/nonexistent/argosy-images", ARGOSY_LOCAL__IMAGE_SOURCES="[]"
    ) as server:
        argosy = CommandLine(server.home)
        failed = argosy("create", "none", "--datastore", "valkey", code=1)
        assert "cannot be had" in failed.err
        shown = argosy("show", "none")
        assert "ERROR" in shown.out
        assert "cannot be had" in shown.out
        argosy("delete", "none")
        assert argosy("list", "--json").json == []


def test_what_happened_is_told_also_of_what_is_gone(argosy: CommandLine) -> None:
    instance_id = argosy("create", "gone", "--datastore", "valkey", "-q").out.strip()
    argosy("delete", "gone")
    operations = argosy("operations", instance_id, "--json").json
    assert [each["kind"] for each in operations] == ["instance.delete", "instance.create"]
    assert all(each["state"] == "succeeded" and each["ended"].endswith("Z") for each in operations)
    assert "instance.create" in argosy("operations", instance_id).out
    events = argosy("events", instance_id, "--json", "-n", "2").json
    assert len(events) == 2
    assert events[0]["actor"]
    assert "instance.delete" in argosy("events", instance_id).out


def test_what_can_be_had_is_listed(argosy: CommandLine) -> None:
    datastores = {each["name"]: each for each in argosy("datastores", "--json").json}
    assert set(datastores) == {"postgresql", "mariadb", "valkey", "redis"}
    assert datastores["postgresql"]["default_version"] == "17"
    assert "db.small" in argosy("flavors").out
    assert argosy("flavors", "-q").out.split()[0] == "db.tiny"
    images = {(each["datastore"], each["version"]) for each in argosy("images", "list", "--json").json}
    assert ("postgresql", "17") in images


def test_an_image_that_is_there_is_not_pulled_again(argosy: CommandLine, cache: str) -> None:
    assert "is there" in argosy("images", "pull", "valkey", "9").out


def test_another_size_is_told_and_what_cannot_be_is_refused(argosy: CommandLine) -> None:
    argosy("create", "sized", "--datastore", "valkey", "--volume-autogrow", "5")
    assert "1 GB, " in argosy("show", "sized").out
    assert "grows up to 5 GB" in argosy("show", "sized").out
    grown = argosy("resize", "sized", "--volume", "2")
    assert "sized has 2 GB now." in grown.out
    moved = argosy("resize", "sized", "--flavor", "tiny", "--json")
    # Not of the volume, which has grown in a fifth of a second: who asks how far it is may come too late.
    assert moved.err.startswith("sized: ")
    resized = moved.json
    assert (resized["flavor_id"], resized["volume_gb"], resized["status"]) == ("1", 2, "ACTIVE")
    assert "does not grow by itself" in argosy("resize", "sized", "--volume-autogrow", "off").out
    assert argosy("show", "sized", "--json").json["autogrow_limit_gb"] is None
    for wrong in ((), ("--volume", "1"), ("--volume", "3", "--flavor", "small"), ("--volume-autogrow", "x")):
        argosy("resize", "sized", *wrong, code=2)
    argosy("delete", "sized")
