"""`argosy backup schedule` and `verify`, and instances made with `--backup`."""

from __future__ import annotations

import re

from tests.support.command_line import CommandLine


def test_a_schedule_is_made_with_its_instance_changed_and_deleted(without_task_manager: CommandLine) -> None:
    argosy = without_task_manager
    argosy("create", "planned", "--datastore", "mariadb", "--backup", "daily", "--no-wait")
    (made,) = argosy("backup", "schedule", "list", "--json").json
    assert (made["instance_name"], made["keep_last"], made["full_every"]) == ("planned", 7, 7)
    assert made["next_run"].endswith("Z")
    assert (
        f"at '{made['cron']}' UTC, every 7th time in full"
        in argosy("backup", "schedule", "show", "planned").out
    )
    told = argosy(
        "backup", "schedule", "set", "planned", "--cron", "30 3 * * *", "--keep", "off", "--keep-days", "30"
    ).out
    assert told.startswith(
        "planned is backed up at '30 3 * * *' UTC, every 7th time in full, and keeps those of 30"
    )
    assert "for now" in argosy("backup", "schedule", "set", "planned", "--off").out
    assert "say what is to change" in argosy("backup", "schedule", "set", "planned", code=2).err
    assert "a number, or `off`" in argosy("backup", "schedule", "set", "planned", "--keep", "all", code=2).err
    assert (
        "cron expression" in argosy("backup", "schedule", "create", "planned", "--cron", "never", code=2).err
    )

    second = argosy(
        "backup", "schedule", "create", "planned", "--cron", "weekly", "--verify-every", "30", "-q"
    ).out
    assert "use an id" in argosy("backup", "schedule", "delete", "planned", code=2).err
    assert "not backed up by this schedule" in argosy("backup", "schedule", "delete", second.strip()).out
    argosy("backup", "schedule", "delete", made["id"])
    assert "No instance is backed up by itself" in argosy("backup", "schedule", "list").err
    assert "has no backup schedule" in argosy("backup", "schedule", "show", "planned", code=3).err


def test_a_backup_is_proved(argosy: CommandLine, cache: str) -> None:
    argosy("backup", "create", cache, "--name", "to-prove")
    assert "Verified" not in argosy("backup", "show", "to-prove").out
    proved = argosy("backup", "verify", "to-prove")
    assert proved.out.startswith("to-prove is good: restored in ")
    # Who asks every moment how far it is may miss any one stage: on a quick machine each takes a tenth of a second.
    assert re.search(r"^to-prove: \[\d/5\] \w+", proved.err, re.MULTILINE), proved.err
    shown = argosy("backup", "show", "to-prove", "--json").json
    assert shown["verified"] is True
    assert "yes, " in argosy("backup", "show", "to-prove").out
    assert "No backup" in argosy("backup", "verify", "never", code=3).err
    argosy("backup", "delete", "to-prove")
