"""The server process of one instance: started in a session of its own, so that it outlives the agent.

Where systemd runs, a session is not enough: what a service leaves behind counts as the service's, for its limits and at
its stop. There the server is given a scope, a unit around a process that somebody else has started (systemd.scope(5)).

The agent may be killed at any moment, even between starting a server and writing its pid down. So a
server is known by marks in its environment (whose it is, and that it is the server, not a helper
program), and a restarted agent adopts it by looking for them; the pid file only makes this quick.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from argosy import marks
from argosy.engines.host import Account, Host

SERVER = "server"
_AGENT_UNIT = "argosy-agent.service"
_STOP_S = 120
# The descriptors from 3 on are the server's, says LISTEN_FDS, when LISTEN_PID is its own (sd_listen_fds(3)).
_TAKE_OVER = 'exec 3<&0 4<&2 0</dev/null 2>&1; export LISTEN_PID=$$; exec "$@"'


def until_next_look_s(began: float) -> float:
    """How long to wait, seconds, before looking again whether a server that began to start is up.

    The longer it takes the longer, since on a small machine whoever looks takes the processor from it.
    """
    return min(max((time.monotonic() - began) / 20, 0.002), 0.25)


class ServerProcess:
    """The one server process of an instance. Methods may be called from any thread."""

    def __init__(self, host: Host, log: Path, role: str = SERVER) -> None:
        """`role` tells servers apart that run for one instance at once, such as one that rehearses an upgrade."""
        self._host = host
        self._mark = {marks.ROLE: role}
        self.log = log
        self._pid_file = host.run / "server.json"
        self._lock = threading.Lock()
        self._child: subprocess.Popen[bytes] | None = None
        self._known: marks.Process | None = None
        self._looked = False

    @property
    def pid(self) -> int | None:
        """The running server's process id, adopted if an earlier agent started it; None when none runs."""
        with self._lock:
            return self._find()

    @property
    def died(self) -> bool:
        """Whether one ran last and ended without having been asked to."""
        return self.pid is None and self._pid_file.exists()

    def start(
        self,
        argv: Sequence[str | Path],
        environment: Mapping[str, str] | None = None,
        doors: tuple[socket.socket, socket.socket] | None = None,
    ) -> None:
        """Start the server unless it runs; its output is appended to the log.

        `doors` are listening sockets to be handed to it as systemd would; the caller closes his own.
        """
        with self._lock:
            if self._find() is not None:
                return
            account = self._host.account
            drop = account.uid != os.geteuid()
            words = [str(word) for word in argv]
            if doors is not None:
                # A shell knows descriptors of one digit, so they travel as the standard ones.
                words = ["/bin/sh", "-c", _TAKE_OVER, words[0], *words]
                environment = {**(environment or {}), "LISTEN_FDS": "2"}
            if self._host.unit:
                # Only root may ask for a scope, so the account is taken on inside of it.
                words = [*self._scope(), *(_as(account) if drop else ()), *words]
                drop = False
            with open(self.log, "ab", opener=_open_log) as log:
                os.fchown(log.fileno(), account.uid, account.gid)
                child = subprocess.Popen(
                    words,
                    stdin=subprocess.DEVNULL if doors is None else doors[0].fileno(),
                    stdout=log,
                    stderr=subprocess.STDOUT if doors is None else doors[1].fileno(),
                    cwd="/",
                    env=self._host.environment({**(environment or {}), **self._mark}),
                    start_new_session=True,
                    umask=0o077,  # Redis and Valkey would let everyone read their data
                    user=account.uid if drop else None,
                    group=account.gid if drop else None,
                    extra_groups=[] if drop else None,
                )
            self._child = child
            self._remember(child.pid)

    def _scope(self) -> list[str]:
        """The words that put a command, which keeps its process id, into a scope of its own.

        What is left of a server that has died keeps its scope for a moment, so no two have the same name. At shutdown the
        scope ends after the agent, which would start the server again, and before what the data is on is unmounted.
        """
        role = "" if self._mark[marks.ROLE] == SERVER else f"-{self._mark[marks.ROLE]}"
        properties = (
            f"Before={_AGENT_UNIT}",
            f"RequiresMountsFor={self._host.data.parent}",
            f"TimeoutStopSec={_STOP_S}",
        )
        return [
            *("systemd-run", "--scope", "--quiet", "--collect", "--no-ask-password"),
            f"--unit={self._host.unit}{role}-{time.time_ns():x}",
            f"--description=Database server of instance {self._host.instance_id}",
            *(f"--property={each}" for each in properties),
            "--",
        ]

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until no server runs; False when the time ran out first."""
        pid = self.pid
        if pid is None:
            return True
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            return True
        try:
            poll = select.poll()
            poll.register(descriptor, select.POLLIN)
            ended = bool(poll.poll(None if timeout_s is None else timeout_s * 1000))
        finally:
            os.close(descriptor)
        if ended:
            self._reap()
        return ended

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the running server, if any."""
        pid = self.pid
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def stop(self, number: signal.Signals, timeout_s: float) -> bool:
        """Ask the server to end, and kill it when it does not in time; True when it ended by itself."""
        self.send(number)
        if self.wait(timeout_s):
            self._pid_file.unlink(missing_ok=True)
            return True
        self.kill()
        return False

    def kill(self) -> None:
        """End the server and every process of the instance's server at once.

        PostgreSQL's children leave its process group and session (each calls setsid), hence the marks; they
        lose these too, and once it is dead nothing tells whose they are: hence the look before.
        """
        family = marks.with_descendants(self._marked())
        self.send(signal.SIGKILL)
        for pid in family:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.wait(10)
        self._pid_file.unlink(missing_ok=True)

    def log_tail(self, lines: int = 15, size: int = 4096) -> str:
        """The last lines of the server's log, for an error's sentence."""
        try:
            with self.log.open("rb") as file:
                file.seek(0, os.SEEK_END)
                file.seek(max(0, file.tell() - size))
                text = file.read().decode(errors="replace")
        except OSError:
            return ""
        return "\n".join(text.splitlines()[-lines:])

    def _reap(self) -> None:
        with self._lock:
            if self._child is not None:
                self._child.poll()

    def _find(self) -> int | None:
        if self._child is not None:
            if self._child.poll() is None:
                return self._child.pid
            self._child = None
            self._known = None
        if self._known is None and not self._looked:
            # Once is enough: from here on a server of this instance is one that we start.
            self._looked = True
            self._known = self._read() or self._search()
        if self._known is not None and not self._known.alive:
            self._known = None
        return self._known.pid if self._known else None

    def _remember(self, pid: int) -> None:
        ticks = marks.started_at(pid)
        if ticks is None:
            return
        _spare_no_more(pid, "0" if self._mark[marks.ROLE] == SERVER else "1000")
        self._known = marks.Process(pid, ticks)
        self._host.write_file(self._pid_file, json.dumps({"pid": pid, "started_at": ticks}))

    def _read(self) -> marks.Process | None:
        try:
            stored = json.loads(self._pid_file.read_text())
            known = marks.Process(int(stored["pid"]), int(stored["started_at"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return known if known.alive and known.pid in self._marked([known.pid]) else None

    def _search(self) -> marks.Process | None:
        """The marked process whose parent is not marked: the server itself, not one it forked.

        Programs a server's users run by it inherit its marks and may outlive it, but not what makes a server
        the first of its session.
        """
        marked = set(self._marked())
        for pid in sorted(marked):
            ticks = marks.started_at(pid)
            if ticks is not None and marks.parent(pid) not in marked and _leads_its_session(pid):
                self._remember(pid)
                return marks.Process(pid, ticks)
        return None

    def _marked(self, pids: Sequence[int] | None = None) -> list[int]:
        return marks.marked({marks.INSTANCE: self._host.instance_id, **self._mark}, pids)


def _as(account: Account) -> list[str]:
    return ["setpriv", f"--reuid={account.uid}", f"--regid={account.gid}", "--clear-groups", "--"]


def _spare_no_more(pid: int, adjustment: str) -> None:
    """Take back the agent's protection from being killed for want of memory, which its children inherit.

    Else the kernel would find nobody to kill when the server has filled the instance's memory. What runs beside
    the server is killed before it.
    """
    with contextlib.suppress(OSError):
        if int(Path("/proc/self/oom_score_adj").read_text()) < int(adjustment):
            Path(f"/proc/{pid}/oom_score_adj").write_text(adjustment)


def _leads_its_session(pid: int) -> bool:
    try:
        return os.getsid(pid) == pid
    except ProcessLookupError:
        return False


def _open_log(path: str, flags: int) -> int:
    """Not through a link: the directory may be the server's, whose users' root could point it anywhere."""
    return os.open(path, flags | os.O_NOFOLLOW, 0o640)
