"""Password hashes: argon2id, at the cost OWASP asks for (19 MiB, two passes), some 30 ms on a small machine."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from argosy.domain.errors import Invalid, Unavailable

LONGEST = 1024
_LINE = 16


class Passwords:
    """Hashes and checks passwords, a few at once, with a short line of those who wait.

    So a flood of logins can take neither the memory nor all the threads: who comes too late gets Unavailable.
    """

    def __init__(self, hasher: PasswordHasher | None = None, *, at_once: int | None = None) -> None:
        self._hasher = hasher or PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
        self._line = threading.BoundedSemaphore(_LINE)
        self._turns = threading.BoundedSemaphore(at_once or max(2, os.cpu_count() or 2))

    def hash(self, password: str) -> str:
        """Raises Invalid for an empty password, or one of more than 1024 characters."""
        if not 1 <= len(password) <= LONGEST:
            raise Invalid(f"A password must have 1 to {LONGEST} characters.")
        with self._turn():
            return self._hasher.hash(password)

    def matches(self, kept: str | None, password: str) -> bool:
        """Whether the password is the one hashed; without a hash it answers no after the same work."""
        with self._turn():
            try:
                return (
                    self._hasher.verify(kept or self._nobodys, password[: LONGEST + 1]) and kept is not None
                )
            except (VerificationError, InvalidHashError):
                return False

    def is_outdated(self, kept: str) -> bool:
        return self._hasher.check_needs_rehash(kept)

    @cached_property
    def _nobodys(self) -> str:
        return self._hasher.hash(os.urandom(16).hex())

    @contextmanager
    def _turn(self) -> Iterator[None]:
        if not self._line.acquire(blocking=False):
            raise Unavailable("Too many logins are being checked at once: try again in a few seconds.")
        try:
            with self._turns:
                yield
        finally:
            self._line.release()
