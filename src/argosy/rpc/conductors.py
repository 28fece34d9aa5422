"""Where the conductors are, as guests are told: HTTPS addresses with commas between, each of which will do."""

from __future__ import annotations

import threading


class Conductors:
    """Which of them to ask now: the one that answered last. Safe to share between threads."""

    def __init__(self, told: str) -> None:
        self._urls = [url.strip().rstrip("/") for url in told.split(",") if url.strip()]
        self._at = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._urls)

    @property
    def current(self) -> str:
        return self._urls[self._at]

    def pass_over(self, url: str) -> None:
        """Ask the next from now on, unless somebody has found out already that this one is away."""
        with self._lock:
            if self._urls[self._at] == url:
                self._at = (self._at + 1) % len(self._urls)
