"""What an object store is: accounts (one per project) hold containers, containers hold objects by name.

As Swift has it, so that a store of ours and a cloud's own can stand in for each other: container names have up to
256 bytes without slashes, object names up to 1024 bytes, and a slash in one means nothing. An object is there
whole or not at all, and is replaced whole.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from argosy.domain.errors import Conflict, Failed, Invalid, NotFound, OverLimit

CONTAINER_NAME_MAX = 256  # bytes
OBJECT_NAME_MAX = 1024  # bytes
OBJECT_MAX = 5 * 2**30  # bytes
METADATA_MAX, METADATA_NAME_MAX, METADATA_VALUE_MAX, METADATA_BYTES_MAX = 90, 128, 256, 4096
LISTED_AT_ONCE = 10_000


class ContainerNotFound(NotFound):
    code = "container-not-found"

    def __init__(self, *, container: str) -> None:
        super().__init__(f"Container {container!r} cannot be found.")


class ObjectNotFound(NotFound):
    code = "object-not-found"

    def __init__(self, *, name: str) -> None:
        super().__init__(f"Object {name!r} cannot be found.")


class ContainerNotEmpty(Conflict):
    code = "container-not-empty"

    def __init__(self, *, container: str) -> None:
        super().__init__(f"Container {container!r} holds objects: delete them first.")


class ObjectTooLarge(OverLimit):
    code = "object-too-large"

    def __init__(self, *, most: int) -> None:
        super().__init__(f"An object may have {most} bytes at most: split it.")


class AccountFull(OverLimit):
    """The account holds as much as one may."""

    code = "object-store-full"

    def __init__(self, *, most: int) -> None:
        super().__init__(f"The project's objects may have {most} bytes together: delete some.")


class StoreFull(Failed):
    code = "object-store-out-of-space"

    def __init__(self) -> None:
        super().__init__("The object store has no room left: an operator has to make some.")


class DigestDiffers(Invalid):
    """What arrived is not what its sender says was sent."""

    code = "digest-differs"

    def __init__(self) -> None:
        super().__init__("The content's MD5 is another than the ETag that was sent: send it again.")


@dataclass(frozen=True)
class Container:
    """`metadata` has its owner's own words, by names in lower case."""

    name: str
    created_at: datetime
    objects: int = 0
    bytes: int = 0
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class StoredObject:
    """`digest` is the content's MD5 in hex, as Swift's ETag is. Past `expires_at` it is not there any more."""

    name: str
    size: int
    digest: str
    content_type: str
    modified_at: datetime
    expires_at: datetime | None = None
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Listed:
    """A line of a listing: an object, or what several names have in common up to a delimiter."""

    stored: StoredObject | None = None
    common: str | None = None


class Content(Protocol):
    """An object that is open: it stays readable as it was, whoever replaces or deletes it meanwhile."""

    stored: StoredObject

    def read(self, start: int, end: int) -> Iterator[bytes]:
        """The bytes from `start` up to `end`, in parts."""


class Writing(Protocol):
    """An object on its way in; it is there once `finish` has returned, and leaving without that drops it."""

    def write(self, part: bytes) -> None:
        """Raises ObjectTooLarge, AccountFull or StoreFull."""

    def finish(self) -> StoredObject:
        """Raises DigestDiffers."""


class ObjectStore(Protocol):
    """One store. Methods may be called from any thread, and from several processes."""

    def usage(self, account: str) -> tuple[int, int, int]:
        """How many containers, objects and bytes an account has."""

    def containers(
        self, account: str, *, prefix: str = "", after: str = "", limit: int = LISTED_AT_ONCE
    ) -> list[Container]:
        """By name, those after one."""

    def create_container(
        self, account: str, container: str, metadata: Mapping[str, str | None] | None = None
    ) -> bool:
        """Make it, or change the metadata of one that is there (None takes a word away); True when it is new."""

    def container(self, account: str, container: str) -> Container:
        """Raises ContainerNotFound."""

    def delete_container(self, account: str, container: str) -> None:
        """Raises ContainerNotFound, ContainerNotEmpty."""

    def objects(
        self,
        account: str,
        container: str,
        *,
        prefix: str = "",
        delimiter: str = "",
        after: str = "",
        limit: int = LISTED_AT_ONCE,
    ) -> list[Listed]:
        """By name, those after one. Raises ContainerNotFound."""

    def stored(self, account: str, container: str, name: str) -> StoredObject:
        """Raises ObjectNotFound."""

    def open(self, account: str, container: str, name: str) -> AbstractContextManager[Content]:
        """Raises ObjectNotFound."""

    def writing(
        self,
        account: str,
        container: str,
        name: str,
        *,
        content_type: str = "application/octet-stream",
        metadata: Mapping[str, str] | None = None,
        expires_at: datetime | None = None,
        digest: str | None = None,
    ) -> AbstractContextManager[Writing]:
        """Write an object, or replace it. Raises ContainerNotFound, Invalid for names that cannot be."""

    def change(
        self,
        account: str,
        container: str,
        name: str,
        *,
        metadata: Mapping[str, str],
        expires_at: datetime | None,
        content_type: str | None = None,
    ) -> None:
        """Give an object other metadata. Raises ObjectNotFound."""

    def delete(self, account: str, container: str, name: str) -> None:
        """Raises ObjectNotFound."""

    def expire(self) -> int:
        """Take away what has expired, and what interrupted writes left behind; says how many objects."""


def put(
    store: ObjectStore,
    account: str,
    container: str,
    name: str,
    parts: Iterable[bytes],
    *,
    content_type: str = "application/octet-stream",
    metadata: Mapping[str, str] | None = None,
    expires_at: datetime | None = None,
) -> StoredObject:
    """Write an object from parts at hand."""
    with store.writing(
        account, container, name, content_type=content_type, metadata=metadata, expires_at=expires_at
    ) as writing:
        for part in parts:
            writing.write(part)
        return writing.finish()


def check_container_name(name: str) -> None:
    """Raises Invalid."""
    _check_name(name, "Container", CONTAINER_NAME_MAX)
    if "/" in name:
        raise Invalid("A container's name must not hold a slash.")
    if name in {".", ".."}:
        raise Invalid("A container's name must not be . or ..")


def check_object_name(name: str) -> None:
    """Raises Invalid."""
    _check_name(name, "Object", OBJECT_NAME_MAX)


def check_metadata(metadata: Mapping[str, str | None]) -> None:
    """Raises Invalid, naming the bound."""
    given = {name: value or "" for name, value in metadata.items()}
    if len(given) > METADATA_MAX:
        raise Invalid(f"There may be {METADATA_MAX} metadata headers at most, there are {len(given)}.")
    for name, value in given.items():
        if not 1 <= len(name.encode()) <= METADATA_NAME_MAX:
            raise Invalid(f"A metadata header's name must have 1 to {METADATA_NAME_MAX} bytes.")
        if len(value.encode()) > METADATA_VALUE_MAX:
            raise Invalid(f"The metadata {name!r} may have {METADATA_VALUE_MAX} bytes at most.")
    if sum(len(name.encode()) + len(value.encode()) for name, value in given.items()) > METADATA_BYTES_MAX:
        raise Invalid(f"All metadata together may have {METADATA_BYTES_MAX} bytes at most.")


def _check_name(name: str, what: str, most: int) -> None:
    try:
        length = len(name.encode())
    except UnicodeEncodeError as error:
        raise Invalid(f"{what} names must be valid UTF-8.") from error
    if not 1 <= length <= most:
        raise Invalid(f"{what} names must have 1 to {most} bytes, this has {length}.")
    if "\0" in name:
        raise Invalid(f"{what} names must not hold a zero byte.")
