"""Where agents are born: one process per home that has loaded all an agent needs, and forks it in milliseconds.

`python -m argosy.agent.nursery --socket PATH --module MODULE`, with descriptor 3 listening at that path. Each
request is one message, a `Birth` as JSON, with two descriptors: the lock that holds the instance and the
agent's log. The answer is `{"pid": ...}` once the agent holds its file, `{"error": ...}`, or
`{"stale": true}` when the code on disk is no longer what was loaded: then the nursery ends, since an old
agent must not come out of a new Argosy. It also ends when its socket is gone. Who sends nothing is told
`{"ready": true}`.

It has one thread and no secret. The lock is closed in the child only when that can be found by its marks, so
whoever else wants the instance, should the asker be killed meanwhile, waits until there is an agent to find.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, Protocol, cast

from argosy import marks

LISTENER = 3
_LOOK_AROUND_S = 30.0
_REQUEST_MAX = 65536


class AgentModule(Protocol):
    def preload(self) -> None:
        """Import what an agent may need and has not imported yet; start no thread."""

    def main(self, arguments: Sequence[str]) -> None: ...


@dataclass(frozen=True)
class Birth:
    """An agent to be: its environment with its marks, control groups to join, and what it is to hold and read."""

    environment: dict[str, str]
    join: list[str]
    oom_score_adj: int
    hold: str
    config: str


class Nursery:
    """Waits for requests, several callers at a time, none of which can hold up another."""

    def __init__(self, listener: socket.socket, path: Path, loaded_at: int) -> None:
        self._listener = listener
        self._path = path
        self._inode = path.stat().st_ino
        self._loaded_at = loaded_at
        self._callers: dict[int, socket.socket] = {}

    def wait(self) -> Birth | None:
        """In each child: what it is to be. In the nursery itself, at its end: None."""
        poll = select.poll()
        poll.register(self._listener, select.POLLIN)
        while True:
            ready = poll.poll(_LOOK_AROUND_S * 1000)
            if not ready and not self._is_reachable():
                return None
            for descriptor, _ in ready:
                if descriptor == self._listener.fileno():
                    caller, _ = self._listener.accept()
                    self._callers[caller.fileno()] = caller
                    poll.register(caller, select.POLLIN)
                    continue
                poll.unregister(descriptor)
                with self._callers.pop(descriptor) as caller:
                    if self._stale():
                        # Closed before the answer, so that whoever asks again is refused here.
                        self._listener.close()
                        _answer(caller, {"stale": True})
                        return None
                    born = self._serve(caller)
                if born is not None:
                    return born

    def _serve(self, caller: socket.socket) -> Birth | None:
        """Fork what a caller asks for; an agent to be in the child, None in the nursery."""
        descriptors: list[int] = []
        try:
            text, descriptors, _, _ = socket.recv_fds(caller, _REQUEST_MAX, 2)
            if not text:
                _answer(caller, {"ready": True})
                return None
            asked = Birth(**json.loads(text))
            _, log = descriptors
            if os.fork() != 0:
                return None
            self._leave(asked, caller, log)
        except (OSError, ValueError, TypeError) as error:
            _answer(caller, {"error": str(error)})
            return None
        else:
            return asked
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    def _leave(self, asked: Birth, caller: socket.socket, log: int) -> None:
        """In a child: go out into a life of its own, and say so. A child that cannot ends here."""
        try:
            _become(asked, log)
        except BaseException as error:  # noqa: BLE001 - it must not go on as a second nursery
            _answer(caller, {"error": str(error)})
            os._exit(1)
        self._listener.close()
        for other in self._callers.values():
            other.close()
        _answer(caller, {"pid": os.getpid()})

    def _stale(self) -> bool:
        """Whether a file we loaded, or perhaps loaded half of it, was changed since."""
        for module in list(sys.modules.values()):
            file = getattr(module, "__file__", None)
            try:
                if file and os.stat(file).st_ctime_ns > self._loaded_at:  # noqa: PTH116 - a thousand of them
                    return True
            except OSError:
                return True
        return False

    def _is_reachable(self) -> bool:
        try:
            return self._path.stat().st_ino == self._inode
        except OSError:
            return False


def _become(asked: Birth, log: int) -> None:
    """Make this process look to everybody as if it had been started for the instance."""
    # First of all: memory touched from here on counts as the instance's.
    for group in asked.join:
        Path(group).write_text(str(os.getpid()))
    os.setsid()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.umask(0o027)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(str(asked.oom_score_adj))
    os.dup2(log, 1)
    os.dup2(log, 2)
    marks.put_on(asked.environment, f"argosy-agent --config {asked.config}")
    if not marks.hold(Path(asked.hold)):
        raise BlockingIOError(f"another agent holds {asked.hold}")


def _answer(caller: socket.socket, answer: dict[str, object]) -> None:
    with contextlib.suppress(OSError):
        caller.send(json.dumps(answer).encode())


def _load(name: str) -> AgentModule:
    """What `python -m name` would run."""
    module = importlib.import_module(name)
    if hasattr(module, "__path__"):
        module = importlib.import_module(f"{name}.__main__")
    return cast("AgentModule", module)


def main() -> None:
    loaded_at = time.time_ns()
    os.chdir("/")
    os.umask(0o077)
    parser = argparse.ArgumentParser(prog="argosy-nursery", description="Forks guest agents.")
    parser.add_argument("--socket", type=Path, required=True, help="where descriptor 3 listens")
    parser.add_argument("--module", default="argosy.agent", help="the agent's program")
    asked = parser.parse_args()
    module = _load(asked.module)
    module.preload()
    if len(os.listdir("/proc/self/task")) != 1:  # noqa: PTH208 - names are all we want
        sys.exit("A module started a thread, so agents cannot be forked here.")
    Path("/proc/self/comm").write_text("argosy-nursery")
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # so that no child needs to be waited for
    listener = socket.socket(fileno=LISTENER)
    # Collecting would write into every object, and so copy all that agents share.
    gc.collect()
    gc.disable()
    gc.freeze()
    born = Nursery(listener, asked.socket, loaded_at).wait()
    if born is not None:
        _live(module, born)


def _live(module: AgentModule, born: Birth) -> NoReturn:
    """Be an agent to the end, then leave at once: taking all modules apart would copy what is shared."""
    code = 1
    try:
        gc.enable()
        module.main(["--config", born.config])
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except BaseException:  # noqa: BLE001 - the end of the process, as the interpreter would tell it
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
