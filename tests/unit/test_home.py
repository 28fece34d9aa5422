"""Which of a home's parts run, and what they say of themselves."""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO

import pytest

from argosy.processes import home


def test_whoever_takes_a_home_over_is_not_ready_by_the_word_of_whoever_had_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = home.Hold(tmp_path, home.PARTS)
    before.say({"ready": True})
    end(before)
    lock, seen = home._locked, []

    def look_and_lock(file: IO[str]) -> bool:
        seen.append(home.facts(tmp_path, "api"))
        return lock(file)

    monkeypatch.setattr(home, "_locked", look_and_lock)
    held = home.Hold(tmp_path, home.PARTS)
    # Nobody has it; then it is held for as long as the other parts are still to be taken.
    assert seen == [None, {}, {}]
    held.say({"ready": True})
    assert home.facts(tmp_path, "api") == {"pid": os.getpid(), "ready": True}
    end(held)


def end(process: home.Hold) -> None:
    for file in process._files:
        file.close()
