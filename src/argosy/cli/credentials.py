"""Passwords that the command line generated, kept so that `argosy connect` can use them.

One JSON file, readable by its owner alone. Passwords that a person chose are not kept.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ANY_HOST = "%"


class Credentials:
    """By instance id and user; safe for several commands at once."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def of(self, instance_id: str) -> dict[str, str]:
        """Passwords by user (`name`, or `name@host` when the host is not any)."""
        return dict(self._read().get(instance_id, {}))

    def keep(self, instance_id: str, passwords: dict[str, str]) -> None:
        if passwords:
            with self._changing() as stored:
                stored.setdefault(instance_id, {}).update(passwords)

    def move(self, instance_id: str, user: str, renamed: str) -> None:
        with self._changing() as stored:
            users = stored.get(instance_id, {})
            if user in users:
                users[renamed] = users.pop(user)

    def forget(self, instance_id: str, user: str | None = None) -> None:
        """One user's, or all of an instance."""
        if instance_id not in self._read():
            return
        with self._changing() as stored:
            users = stored.get(instance_id, {})
            if user is None:
                users.clear()
            else:
                users.pop(user, None)
            if not users:
                stored.pop(instance_id, None)

    def _read(self) -> dict[str, Any]:
        try:
            stored = json.loads(self.file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return stored if isinstance(stored, dict) else {}

    @contextmanager
    def _changing(self) -> Iterator[dict[str, Any]]:
        self.file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(self.file.with_name(f".{self.file.name}.lock"), os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            stored = self._read()
            yield stored
            fresh = self.file.with_name(f".{self.file.name}.new")
            fresh.unlink(missing_ok=True)
            with os.fdopen(os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w") as file:
                json.dump(stored, file, indent=1)
                file.flush()
                os.fsync(file.fileno())
            fresh.rename(self.file)
        finally:
            os.close(lock)


def key_of(name: str, host: str = ANY_HOST) -> str:
    return name if host == ANY_HOST else f"{name}@{host}"


def user_of(key: str) -> tuple[str, str]:
    """Name and host of `name` or `name@host`, parted at the last '@'."""
    name, at, host = key.rpartition("@")
    return (name, host) if at and name and host else (key, ANY_HOST)
