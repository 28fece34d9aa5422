"""Who runs a part of a home is known also while its process is writing what it says of itself."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from argosy.processes import home


def test_a_word_that_is_being_written_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(home, "_TRIES", 1500)  # 30 s: the timer may be late
    hold = home.Hold(tmp_path, ("api",))
    (file,) = hold._files
    file.truncate(0)  # as `say` begins, with the rest of it a moment later
    timer = threading.Timer(0.1, hold.say, [{"ready": True}])
    timer.start()
    try:
        assert home.facts(tmp_path, "api") == {"pid": os.getpid(), "ready": True}
    finally:
        timer.join()
        file.close()
    assert home.facts(tmp_path, "api") is None
