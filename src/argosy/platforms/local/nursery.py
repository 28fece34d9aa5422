"""Asking the home's nursery (`argosy.agent.nursery`) for an agent, and having it run when it is wanted.

It is started by whoever first needs it, outlives the control plane, and is replaced when it is gone or the code
changed. It only ever makes things quick: whoever gets no agent here starts one the plain way.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import select
import signal
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import argosy
from argosy import marks
from argosy.platforms.local.children import Children
from argosy.platforms.local.home import Home

_ROLE = "nursery"
_LISTENER = 3
_ROOM = 2048  # for an agent's environment: paths of a home, and a PYTHONPATH of ours
_PATIENCE_S = 20.0  # loading takes half a second; a crowd of other processes may make it more
_TRIES = 3  # it may turn out to be stale, and another may be killed under our hands

_log = logging.getLogger(__name__)


class Nursery:
    """The nursery of one home, shared by all its control planes. Methods may be called from any thread."""

    def __init__(self, home: Home, children: Children, command: Sequence[str]) -> None:
        """`command` starts it, given `--socket PATH` behind it and the listening socket as descriptor 3."""
        self._home = home
        self._children = children
        self._command = command
        # By where our code is: that of another release, which may be beside ours, has another, and its agents too.
        code = hashlib.blake2s(os.fsencode(Path(argosy.__file__).parent)).hexdigest()[:8]
        self._path = home.run / f"nursery-{code}.sock"

    def warm_up(self) -> None:
        """Have one of today's code running soon, so that the next agent need not wait for it."""
        with contextlib.suppress(OSError, ValueError):
            answer = self._ask(b"", [])
            if answer is None or answer.get("stale"):
                self._start()

    def bear(self, birth: dict[str, Any], lock: int, log: int) -> bool:
        """Have an agent forked, which holds its file when this returns True.

        `lock` is shared with the child until then. After False there may be one yet, which got stuck on the way.
        """
        said = "it keeps ending"
        try:
            for _ in range(_TRIES):
                answer = self._ask(json.dumps(birth).encode(), [lock, log])
                if answer is None or answer.get("stale"):
                    self._start()
                elif "pid" in answer:
                    return True
                else:
                    said = str(answer.get("error"))
                    break
        except TimeoutError:
            said = f"it has not answered for {_PATIENCE_S:.0f} s"
            # It may have our lock in its hands.
            self._kill()
        except (OSError, ValueError) as error:
            said = str(error)
        _log.warning("the nursery gives no agent, so one is started without it: %s", said)
        return False

    def end(self) -> None:
        """Agents live on without it."""
        self._path.unlink(missing_ok=True)
        self._kill()

    def _ask(self, request: bytes, descriptors: Sequence[int]) -> dict[str, Any] | None:
        """Its answer; None when there is none, or it died over the question."""
        with contextlib.suppress(ConnectionError, FileNotFoundError), self._connect() as caller:
            if request:
                socket.send_fds(caller, [request], descriptors)
            caller.shutdown(socket.SHUT_WR)
            text = caller.recv(65536)
            return dict(json.loads(text)) if text else None
        return None

    def _connect(self) -> socket.socket:
        caller = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            caller.settimeout(_PATIENCE_S)
            caller.connect(str(self._path))
        except BaseException:
            caller.close()
            raise
        return caller

    def _listens(self) -> bool:
        try:
            self._connect().close()
        except (ConnectionError, FileNotFoundError):
            return False
        return True

    def _start(self) -> None:
        """Start one unless one listens. It gets its socket from us, so that callers may queue while it loads."""
        if self._listens():
            return
        with self._home.locked("nursery"):
            if self._listens():
                return
            # Under its own name it listens from the start, to its owner alone.
            new = self._path.with_name(".nursery.new")
            new.unlink(missing_ok=True)
            for other in self._home.run.glob("nursery*.sock"):
                if other != self._path:
                    other.unlink(missing_ok=True)  # which ends it
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
                listener.bind(str(new))
                new.chmod(0o600)
                listener.listen(128)
                new.replace(self._path)
                self._spawn(listener)

    def _spawn(self, listener: socket.socket) -> None:
        with open(
            self._home.run / "nursery.log",
            "ab",
            opener=lambda path, flags: os.open(path, flags | os.O_NOFOLLOW, 0o600),
        ) as log:
            pid = os.posix_spawn(
                self._command[0],
                [*self._command, "--socket", str(self._path)],
                self._environment(),
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, log.fileno(), 1),
                    (os.POSIX_SPAWN_DUP2, log.fileno(), 2),
                    (os.POSIX_SPAWN_DUP2, listener.fileno(), _LISTENER),
                    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                ],
                setsid=True,
                setsigmask=[],
                setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],
            )
        self._children.add(pid)

    def _environment(self) -> dict[str, str]:
        environment = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(self._home.run),
            "LC_ALL": "C.UTF-8",
            marks.ROLE: _ROLE,
            marks.ROOM: "-" * _ROOM,
        }
        if "PYTHONPATH" in os.environ:
            environment["PYTHONPATH"] = os.environ["PYTHONPATH"]
        return environment

    def _kill(self) -> None:
        """Kill it, and return when it is gone."""
        for pid in marks.marked({marks.ROLE: _ROLE, "HOME": str(self._home.run)}):
            with contextlib.suppress(OSError):
                # Anybody may put our marks on a process of their own.
                if Path(f"/proc/{pid}").stat().st_uid != os.geteuid():
                    continue
                descriptor = os.pidfd_open(pid)
                try:
                    signal.pidfd_send_signal(descriptor, signal.SIGKILL)
                    poll = select.poll()
                    poll.register(descriptor, select.POLLIN)
                    poll.poll(_PATIENCE_S * 1000)
                finally:
                    os.close(descriptor)
        self._children.reap()
