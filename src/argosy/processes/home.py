"""Which of a home's parts run: each holds a lock for as long as it lives, so a crash leaves no stale word."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import time
from pathlib import Path
from typing import IO, Any

PARTS = ("api", "conductor", "taskmanager")
_TRIES, _PAUSE_S = 25, 0.02


class Running(Exception):
    """Another process has this part of the home already."""

    def __init__(self, part: str, pid: int) -> None:
        super().__init__(f"The {part} of this home runs already, as process {pid}.")
        self.pid = pid


class Hold:
    """The parts a process runs for a home, from construction until the process ends."""

    def __init__(self, home: Path, parts: tuple[str, ...]) -> None:
        """Raises Running."""
        directory = home / "run"
        directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        self.ran_before = {part for part in parts if (directory / f"{part}.lock").exists()}
        self._files: list[IO[str]] = []
        for part in parts:
            file = (directory / f"{part}.lock").open("a+")
            if not _locked(file):
                raise Running(part, int(_said(file).get("pid", 0)))
            # What stands there is the word of whoever had this part before.
            file.truncate(0)
            self._files.append(file)
        self.say({})

    def say(self, facts: dict[str, Any]) -> None:
        """Write down what others may know of us, such as that we are ready."""
        for file in self._files:
            file.seek(0)
            file.truncate()
            json.dump({"pid": os.getpid(), **facts}, file)
            file.flush()


def _locked(file: IO[str]) -> bool:
    """Lock a file. Who only looks (`facts`) holds it for a moment too, and is waited for."""
    for _ in range(_TRIES):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_PAUSE_S)
        else:
            return True
    return False


def facts(home: Path, part: str) -> dict[str, Any] | None:
    """What the process of this part says of itself; None when none runs.

    One that is about to say something is waited for: who it is must not be missed, as by `stop`.
    """
    try:
        file = (home / "run" / f"{part}.lock").open("r+")
    except FileNotFoundError:
        return None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            for _ in range(_TRIES):
                if said := _said(file):
                    return said
                time.sleep(_PAUSE_S)
            return {}
    return None


def stop(home: Path, timeout_s: float = 30) -> list[str]:
    """End the home's processes, by SIGTERM and in the end by SIGKILL; returns which parts ran."""
    running = {part: said for part in PARTS if (said := facts(home, part))}
    for pid in {said["pid"] for said in running.values() if "pid" in said}:
        _end(pid, timeout_s)
    return list(running)


def _end(pid: int, timeout_s: float) -> None:
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        for number, patience_s in ((signal.SIGTERM, timeout_s), (signal.SIGKILL, 5.0)):
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(descriptor, number)
            if _ended(descriptor, patience_s):
                return
    finally:
        os.close(descriptor)


def _ended(descriptor: int, timeout_s: float) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(timeout_s * 1000))


def _said(file: IO[str]) -> dict[str, Any]:
    file.seek(0)
    try:
        said = json.loads(file.read() or "{}")
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}
