"""Slows down guessing: a few wrong answers in a row, and the same user from the same place has to wait.

Kept in memory, so each API process counts for itself and a restart forgets. It holds back those who do not exist
just as well, which is why being told to wait says nothing about whether there is such a user.
"""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable

from argosy.domain.errors import Unauthorized

_FORGET_S = 900
_SIZE = 10_000


class TooManyFailures(Unauthorized):
    """Even the right password is refused until the wait is over."""

    code = "too-many-failures"

    def __init__(self, *, wait_s: int) -> None:
        super().__init__(
            f"Too many failed attempts for this user from your address: try again in {wait_s} s."
        )


class Lockout:
    """After `failures` failed attempts each further one costs `wait_s` of waiting; a success forgives them.

    So do fifteen quiet minutes.
    """

    def __init__(
        self, *, failures: int = 5, wait_s: float = 30, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._failures = failures
        self._wait_s = wait_s
        self._clock = clock
        self._counts: OrderedDict[Hashable, tuple[int, float]] = OrderedDict()
        self._lock = threading.Lock()

    def check(self, key: Hashable) -> None:
        """Raises TooManyFailures while `key` has to wait."""
        with self._lock:
            count, last = self._counts.get(key, (0, 0.0))
        if count >= self._failures:
            left = last + self._wait_s - self._clock()
            if left > 0:
                raise TooManyFailures(wait_s=math.ceil(left))

    def failed(self, key: Hashable) -> None:
        now = self._clock()
        with self._lock:
            count, last = self._counts.pop(key, (0, now))
            self._counts[key] = (1 if now - last > _FORGET_S else count + 1, now)
            if len(self._counts) > _SIZE:
                self._counts.popitem(last=False)

    def succeeded(self, key: Hashable) -> None:
        with self._lock:
            self._counts.pop(key, None)
