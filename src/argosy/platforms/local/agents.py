"""Guest agents of a home: forked by its nursery, or started as programs of their own, and found again.

However one came to be, it carries the marks of its instance and holds `agent.json` for as long as it lives,
so there is never a second one.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Sequence
from pathlib import Path

from argosy import marks
from argosy.platforms.local.children import Children
from argosy.platforms.local.home import Home, Place
from argosy.platforms.local.nursery import Nursery

_ROLE = "agent"
# The last to be killed for want of memory (root may ask for that); it puts the servers it starts back to normal.
_OOM_SCORE_ADJ = -900

# A shell joins the groups before it becomes the agent, so that no agent ever runs outside of them.
_LAUNCH = f"""
umask 027
cd /
unset PWD OLDPWD
while [ "$1" != -- ]; do echo $$ > "$1" || exit 1; shift; done
shift
{{ echo {_OOM_SCORE_ADJ} > /proc/$$/oom_score_adj; }} 2>/dev/null || :
exec "$@"
"""


class Agents:
    """Methods may be called from any thread; callers hold the place of the instance."""

    def __init__(self, home: Home, python: str, module: str, *, forked: bool) -> None:
        """`module` is the agent's program; see `argosy.agent.nursery.AgentModule` when it is to be forked."""
        self._children = Children()
        # -s -P: neither a user's own packages nor the working directory come into an agent.
        run = [python, "-s", "-P", "-m"]
        self._command = [*run, module]
        nursery = [*run, "argosy.agent.nursery", "--module", module]
        self._nursery = Nursery(home, self._children, nursery) if forked else None

    def warm_up(self) -> None:
        """Make ready for the next agent to start quickly."""
        self._children.reap()
        if self._nursery is not None:
            self._nursery.warm_up()

    def end_nursery(self) -> None:
        if self._nursery is not None:
            self._nursery.end()

    def start(self, place: Place, lock: int, join: Sequence[Path]) -> None:
        """Start the agent of a place, held by that lock, inside of these groups."""
        with open(
            place.logs / "agent.log",
            "ab",
            opener=lambda path, flags: os.open(path, flags | os.O_NOFOLLOW, 0o600),
        ) as log:
            birth = {
                "environment": self._environment(place),
                "join": [str(group) for group in join],
                "oom_score_adj": _OOM_SCORE_ADJ,
                "hold": str(place.pid_file),
                "config": str(place.guest),
            }
            if self._nursery is None or not self._nursery.bear(birth, lock, log.fileno()):
                self._spawn(place, join, log.fileno())

    def find(self, place: Place) -> marks.Process | None:
        """The running agent; whoever started it."""
        self._children.reap()
        known = marks.holder(place.pid_file)
        if known is not None:
            return known
        # One that has not come to holding its file yet, or somebody took the file away.
        for pid in marks.marked(
            {marks.INSTANCE: place.instance_id, marks.ROLE: _ROLE, "HOME": str(place.run)}
        ):
            with contextlib.suppress(OSError):
                ticks = marks.started_at(pid)
                # Anybody may put our marks on a process of their own.
                if ticks is not None and Path(f"/proc/{pid}").stat().st_uid == os.geteuid():
                    return marks.Process(pid, ticks)
        return None

    def reap(self) -> None:
        self._children.reap()

    def _spawn(self, place: Place, join: Sequence[Path], log: int) -> None:
        command = [*self._command, "--config", str(place.guest), "--hold", str(place.pid_file)]
        pid = os.posix_spawn(
            "/bin/sh",
            ["sh", "-c", _LAUNCH, "sh", *map(str, join), "--", *command],
            self._environment(place),
            file_actions=[
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, log, 1),
                (os.POSIX_SPAWN_DUP2, log, 2),
            ],
            setsid=True,
            setsigmask=[],
            setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],  # Python ignores these, and children would too
        )
        self._children.add(pid)

    @staticmethod
    def _environment(place: Place) -> dict[str, str]:
        environment = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(place.run),
            "LC_ALL": "C.UTF-8",
            marks.INSTANCE: place.instance_id,
            marks.ROLE: _ROLE,
        }
        if "PYTHONPATH" in os.environ:
            environment["PYTHONPATH"] = os.environ["PYTHONPATH"]
        return environment
