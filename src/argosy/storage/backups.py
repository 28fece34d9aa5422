"""Where backups are kept: a small interface, behind which are a directory, S3 or Swift.

Guests never hold a credential. They are given URLs, one for one object, one method and a short while, each
signed by whoever holds the credential.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

Method = Literal["GET", "PUT"]


@dataclass(frozen=True)
class Held:
    """An object of a store."""

    name: str
    size: int


class BackupStore(Protocol):
    """One store. Methods may be called from any thread; each may be repeated.

    All raise Unavailable when the store does not answer, StoreFull when it has no room, Failed with the store's own
    words for anything else.
    """

    kind: str  # "directory", "s3" or "swift"
    authority: str | None = None  # PEM, of a store whose certificate is signed by nobody whom guests know

    def sign(self, method: Method, container: str, name: str, *, prefix: str, until: datetime) -> str:
        """A URL that does this to this object, which lies below `prefix`, and to none that does not."""

    def check(self, container: str) -> None:
        """Make the container unless it is there. Raises ContainerNotFound, Forbidden."""

    def put(self, container: str, name: str, content: bytes) -> None:
        """Write a small object, or replace it: whole or not at all."""

    def get(self, container: str, name: str) -> bytes:
        """A small object. Raises ObjectNotFound."""

    def read(self, container: str, name: str) -> Iterator[bytes]:
        """An object of any size, in parts. Raises ObjectNotFound."""

    def objects(self, container: str, prefix: str) -> Iterator[Held]:
        """By name; none when there is no such container."""

    def delete(self, container: str, prefix: str) -> None:
        """Every object below a prefix; what is not there is no error."""

    def tidy(self, container: str) -> None:
        """Take away what interrupted writes left of it, where the store does not do so by itself."""

    def location(self, container: str, prefix: str) -> str:
        """What users are shown as `locationRef`, and may be given back as `remote_location`."""

    def locate(self, location: str) -> tuple[str, str]:
        """Container and prefix of such a location. Raises Invalid."""

    def close(self) -> None:
        """Connections that were kept are ended."""


class Prefix:
    """The objects below one prefix, as archives are written and read by: for who holds the store's credential."""

    def __init__(self, store: BackupStore, container: str, prefix: str) -> None:
        self._store = store
        self._container = container
        self._prefix = prefix

    def put(self, name: str, content: bytes) -> None:
        self._store.put(self._container, self._prefix + name, content)

    def get(self, name: str) -> bytes:
        return self._store.get(self._container, self._prefix + name)
