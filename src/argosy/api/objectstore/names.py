"""What a request to the object store is about: its path taken apart, and its headers."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import parse_qsl, unquote_to_bytes

from argosy.domain.errors import Invalid

BELOW = "/swift/v1/"
_PREFIX = "AUTH_"
_LATEST = 253402300799  # the last second that a date can tell


class NoSuchPath(Exception):
    """Nothing of Swift's is there."""


@dataclass(frozen=True)
class Where:
    """The account's project; a container, and an object in it, where the path goes on to them."""

    project_id: str
    container: str | None = None
    name: str | None = None


def where(raw_path: bytes) -> Where:
    """Of a path as it was sent. Slashes that came quoted are part of names. Raises NoSuchPath, Invalid."""
    try:
        path = unquote_to_bytes(raw_path).decode()
    except UnicodeDecodeError as error:
        raise Invalid("The path must be UTF-8.") from error
    account, _, rest = path.removeprefix(BELOW).partition("/")
    if not account.startswith(_PREFIX) or account == _PREFIX:
        raise NoSuchPath
    container, _, name = rest.partition("/")
    return Where(account.removeprefix(_PREFIX), container or None, name or None)


class Asked:
    """Headers and query of a request, as text."""

    def __init__(self, headers: list[tuple[bytes, bytes]], query: bytes) -> None:
        """Raises Invalid for what is no UTF-8."""
        try:
            self.headers = {name.decode().lower(): value.decode().strip() for name, value in headers}
            self._query = dict(
                parse_qsl(query.decode(), keep_blank_values=True, errors="strict", max_num_fields=50)
            )
        except ValueError as error:
            raise Invalid("Headers and query must be UTF-8.") from error

    def asks(self, name: str) -> str:
        return self._query.get(name, "")

    @property
    def as_json(self) -> bool:
        return self.asks("format") == "json" or (
            not self.asks("format") and "application/json" in self.headers.get("accept", "")
        )

    def limit(self, most: int) -> int:
        """Raises Invalid."""
        text = self.asks("limit")
        if not text:
            return most
        if not re.fullmatch(r"[0-9]{1,9}", text) or int(text) > most:
            raise Invalid(f"limit must be a whole number from 0 to {most}.")
        return int(text)

    def metadata(self, kind: str) -> dict[str, str]:
        """The caller's own words on an `object` or a `container`, by names in lower case."""
        start = f"x-{kind}-meta-"
        return {
            name.removeprefix(start): value for name, value in self.headers.items() if name.startswith(start)
        }

    def container_changes(self) -> dict[str, str | None]:
        """Metadata of a container: an empty value takes a word away, as X-Remove- does."""
        changes: dict[str, str | None] = {
            name: value or None for name, value in self.metadata("container").items()
        }
        start = "x-remove-container-meta-"
        changes |= {
            name.removeprefix(start): None
            for name in self.headers
            if name.startswith(start) and name != start
        }
        return changes

    def expiry(self) -> datetime | None:
        """When an object is to go, by X-Delete-After (seconds from now) or X-Delete-At. Raises Invalid."""
        after, at = self.headers.get("x-delete-after"), self.headers.get("x-delete-at")
        if after is None and at is None:
            return None
        name, text = ("X-Delete-After", after) if after is not None else ("X-Delete-At", at or "")
        if not re.fullmatch(r"[0-9]{1,12}", text or ""):
            raise Invalid(f"{name} must be a whole number of seconds.")
        now = int(time.time())
        seconds = int(text or 0) + (now if after is not None else 0)
        if not now < seconds <= _LATEST:
            raise Invalid(f"{name} must be in the future, and before the year 10000.")
        return datetime.fromtimestamp(seconds, UTC)


def span(text: str | None, size: int) -> tuple[int, int] | None:
    """What a Range asks for, from a first byte up to one; None for the whole. Raises LookupError for what is not there.

    Several ranges, or what is no range, are answered with the whole, as HTTP allows.
    """
    found = re.fullmatch(r"bytes=([0-9]{0,18})-([0-9]{0,18})", (text or "").replace(" ", ""))
    if found is None or not (found[1] or found[2]):
        return None
    if not found[1]:
        start, end = max(0, size - int(found[2])), size
    else:
        start, end = int(found[1]), min(size, int(found[2]) + 1 if found[2] else size)
        if found[2] and int(found[2]) < start:
            return None
    if start >= end:
        raise LookupError
    return start, end


def matches(header: str | None, digest: str) -> bool:
    """Whether an If-Match or If-None-Match names what there is."""
    named = {one.strip().removeprefix("W/").strip('"') for one in (header or "").split(",")}
    return "*" in named or digest in named


def header_lines(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode(), value.encode()) for name, value in headers.items()]
