"""Processes we have started and do not wait for."""

from __future__ import annotations

import os
import threading


class Children:
    """Remembers them until they have ended. Methods may be called from any thread."""

    def __init__(self) -> None:
        self._pids: set[int] = set()
        self._lock = threading.Lock()

    def add(self, pid: int) -> None:
        with self._lock:
            self._pids.add(pid)

    def reap(self) -> None:
        """Let the kernel forget those that have ended."""
        with self._lock:
            for pid in list(self._pids):
                try:
                    ended = os.waitpid(pid, os.WNOHANG)[0] == pid
                except ChildProcessError:
                    ended = True
                if ended:
                    self._pids.discard(pid)
