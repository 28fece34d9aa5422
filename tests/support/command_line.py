"""The `argosy` command, run as a user of a home would."""

from __future__ import annotations

import json
import os
import pty
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support import images

PROGRAM = Path(sys.executable).with_name("argosy")


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@dataclass
class Running:
    """A command under way; `out` is what it has printed so far."""

    child: subprocess.Popen[bytes]
    file: int
    code: int | None = None
    told: str | None = None

    def out(self) -> str:
        if self.told is not None:
            return self.told
        return os.pread(self.file, os.fstat(self.file).st_size, 0).decode()


class CommandLine:
    """`argosy` with a home, and nothing else of this process's environment."""

    def __init__(self, home: Path, **environment: str) -> None:
        self.home = home
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "LC_ALL": "C.UTF-8",
            "TERM": "xterm-256color",
            "ARGOSY_HOME": str(home),
            # This tree, whatever is installed.
            "PYTHONPATH": str(Path(__file__).parents[2] / "src"),
            "ARGOSY_LOCAL__IMAGES": str(images.root()),
            **environment,
        }

    def __call__(
        self,
        *arguments: str,
        code: int | None = 0,
        stdin: str | None = None,
        environment: Mapping[str, str] | None = None,
        timeout_s: float = 240,
    ) -> Result:
        """Run it away from any terminal; `code` is what it must end with, None for anything."""
        done = subprocess.run(
            [PROGRAM, *arguments],
            env={**self.environment, **(environment or {})},
            input=stdin if stdin is not None else "",
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
            cwd="/",
        )
        result = Result(done.returncode, done.stdout, done.stderr)
        assert code is None or result.code == code, f"argosy {' '.join(arguments)}: {result}"
        return result

    @contextmanager
    def running(self, *arguments: str) -> Iterator[Running]:
        """A command that goes on until Ctrl-C, which it gets at the end; its result is known then."""
        with tempfile.TemporaryFile("w+") as out:
            child = subprocess.Popen(
                # Whoever started these tests in the background may have had them ignore Ctrl-C.
                ["env", "--default-signal=INT", PROGRAM, *arguments],
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                cwd="/",
            )
            run = Running(child, out.fileno())
            try:
                yield run
                child.send_signal(signal.SIGINT)
                run.code = child.wait(30)
                run.told = run.out()
            finally:
                child.kill()
                child.wait()

    def at_terminal(
        self, *arguments: str, answers: Sequence[tuple[str, str]] = (), timeout_s: float = 240
    ) -> Result:
        """Run it at a terminal of 100 columns; `out` is all that the terminal showed.

        `answers` are what it will ask and what is typed then: a password typed ahead of its prompt is thrown away.
        """
        ours, theirs = pty.openpty()
        child = subprocess.Popen(
            [PROGRAM, *arguments],
            env={**self.environment, "COLUMNS": "100", "LINES": "30"},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            cwd="/",
        )
        os.close(theirs)
        to_come = list(answers)
        shown, read_before = b"", 0
        deadline = time.monotonic() + timeout_s
        try:
            while True:
                assert time.monotonic() < deadline, shown.decode(errors="replace")
                ready, _, _ = select.select([ours], [], [], 1)
                if not ready:
                    continue
                try:
                    read = os.read(ours, 65536)
                except OSError:  # how Linux says that the terminal's other side is closed
                    read = b""
                if not read:
                    break
                shown += read
                if to_come and to_come[0][0].encode() in shown[read_before:]:
                    read_before = len(shown)
                    os.write(ours, to_come.pop(0)[1].encode())
            return Result(child.wait(timeout_s), shown.decode(errors="replace"), "")
        finally:
            child.kill()
            child.wait()
            os.close(ours)


@contextmanager
def watching_arguments() -> Iterator[set[bytes]]:
    """The arguments of every process that runs meanwhile, as ps would show them to anybody."""
    seen: set[bytes] = set()
    over = threading.Event()

    def watch() -> None:
        while not over.is_set():
            for process in Path("/proc").glob("[0-9]*/cmdline"):
                with suppress(OSError):
                    seen.add(process.read_bytes())
            over.wait(0.005)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield seen
    finally:
        over.set()
        watcher.join()
