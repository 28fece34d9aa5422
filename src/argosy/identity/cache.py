"""A small memory of what the database said a moment ago."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

Value = TypeVar("Value")


class BriefCache(Generic[Value]):
    """Remembers values for `keep_s` seconds at most, `size` of them at most.

    Nothing read before a `forget` or `clear` may be remembered after it. So a reader takes `generation` first,
    reads, and gives it to `remember`, which drops a value of an older generation.
    """

    def __init__(
        self, keep_s: float, *, size: int = 10_000, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.generation = 0
        self._keep_s = keep_s
        self._size = size
        self._clock = clock
        self._values: dict[bytes, tuple[Value, float]] = {}
        self._lock = threading.Lock()

    def get(self, key: bytes) -> Value | None:
        found = self._values.get(key)
        if found is None or found[1] <= self._clock():
            return None
        return found[0]

    def remember(self, key: bytes, value: Value, generation: int, *, at_most_s: float = math.inf) -> None:
        with self._lock:
            if generation != self.generation:
                return
            if len(self._values) >= self._size:
                # Everything in here can be read again, and this is far cheaper than keeping an order.
                self._values.clear()
            self._values[key] = (value, self._clock() + min(self._keep_s, at_most_s))

    def forget(self, key: bytes) -> None:
        with self._lock:
            self.generation += 1
            self._values.pop(key, None)

    def clear(self) -> None:
        with self._lock:
            self.generation += 1
            self._values.clear()
