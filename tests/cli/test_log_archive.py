"""`argosy log-archive`, and restores to a moment by the command line."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.command_line import CommandLine


@pytest.fixture(scope="module")
def ledger(argosy: CommandLine) -> Iterator[str]:
    argosy("create", "ledger", "--datastore", "postgresql", "--flavor", "tiny", "--database", "books", "-q")
    yield "ledger"
    argosy("delete", "ledger", "-q")


def test_the_log_is_archived_and_a_moment_restored_to(argosy: CommandLine, ledger: str) -> None:
    assert argosy("log-archive", "show", ledger, "--json").json["archiving"] is False
    assert "is not archived" in argosy("restore", ledger, "--to-time", "2026-01-01", "--yes", code=2).err
    assert argosy("log-archive", "on", ledger).out == "The log of ledger is archived.\n"
    shown = argosy("log-archive", "show", ledger).out
    assert "nothing yet: it takes a backup" in shown
    assert "its backups; to a moment once" in argosy("show", ledger).out
    refused = argosy("create", "then", "--from-instance", ledger, "--to-time", "2026-01-01", code=2).err
    assert "make a backup" in refused
    assert argosy("log-archive", "auto", ledger).out == "The log of ledger is not archived.\n"
    shown = argosy("log-archive", "show", ledger, "--json").json
    assert (shown["mode"], shown["ended_because"]) == ("auto", "Switched off.")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("restore", "ledger"), "say what to restore"),
        (("restore", "ledger", "--to-lsn", "0/1", "--to-time", "2026-01-01"), "one at a time"),
        (("restore", "ledger", "--to-lsn", "0/1", "--backup", "b"), "say what to restore"),
        (("create", "x", "--to-gtid", "0-1-2"), "need --from-instance"),
        (("create", "x", "--from-backup", "b", "--from-instance", "y"), "--from-backup goes alone"),
    ],
)
def test_targets_that_do_not_go_together_are_refused(
    argosy: CommandLine, arguments: tuple[str, ...], said: str
) -> None:
    assert said in argosy(*arguments, code=2).err
