"""Backups in a directory of this machine, reached by guests through the conductor.

It is the object store of `directory.py` in a place of its own, apart from what projects keep in theirs: no user's token
opens it. A URL carries an HMAC over all that it allows.
"""

from __future__ import annotations

import errno
import hmac
import re
import sqlite3
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from urllib.parse import parse_qs, quote, unquote, urlencode

from argosy.domain.errors import ArgosyError, Forbidden, Invalid, Unavailable
from argosy.storage.backups import BackupStore, Held, Method
from argosy.storage.base import (
    ContainerNotFound,
    ObjectNotFound,
    StoreFull,
    Writing,
    check_container_name,
    put,
)
from argosy.storage.directory import DirectoryStore

OBJECTS = "/v1/objects/"
_ACCOUNT = "backups"


class DirectoryBackups(BackupStore):
    """`key` signs URLs below `url`, where the conductor serves them."""

    kind = "directory"

    def __init__(self, store: DirectoryStore, url: str, key: bytes) -> None:
        self._store = store
        self._url = url
        self._key = key

    def sign(self, method: Method, container: str, name: str, *, prefix: str, until: datetime) -> str:
        if not name.startswith(prefix):
            raise Forbidden(f"{name} does not lie below {prefix}.")
        expires = str(int(until.timestamp()))
        query = {
            "prefix": prefix,
            "expires": expires,
            "signature": self._signature(method, container, prefix, expires),
        }
        path = f"{quote(container, safe='')}/{quote(name)}"
        return f"{self._url}{OBJECTS}{path}?{urlencode(query)}"

    def allowed(self, method: str, path: str, query: str) -> tuple[str, str]:
        """Container and name that a URL is for, by its path below `OBJECTS` and its query. Raises Forbidden."""
        quoted, _, rest = path.partition("/")
        container, name = unquote(quoted), unquote(rest)
        asked = {key: values[0] for key, values in parse_qs(query).items()}
        prefix, expires = asked.get("prefix", ""), asked.get("expires", "")
        expected = self._signature(method, container, prefix, expires)
        if not hmac.compare_digest(expected.encode(), asked.get("signature", "").encode()):
            raise Forbidden("The signature is not one of ours for this.")
        if not re.fullmatch(r"[0-9]{1,12}", expires) or datetime.now(UTC).timestamp() > int(expires):
            raise Forbidden("The URL has expired.")
        if not prefix or not name.startswith(prefix):
            raise Forbidden("The object does not lie below the prefix that was signed.")
        return container, name

    def check(self, container: str) -> None:
        check_container_name(container)
        with _told():
            self._store.create_container(_ACCOUNT, container)

    def put(self, container: str, name: str, content: bytes) -> None:
        with _told():
            put(self._store, _ACCOUNT, container, name, [content])

    def writing(self, container: str, name: str) -> AbstractContextManager[Writing]:
        """An object on its way in, as `ObjectStore.writing` has it."""
        return self._store.writing(_ACCOUNT, container, name)

    def get(self, container: str, name: str) -> bytes:
        return b"".join(self.read(container, name))

    def read(self, container: str, name: str) -> Iterator[bytes]:
        with _told():
            try:
                with self._store.open(_ACCOUNT, container, name) as content:
                    yield from content.read(0, content.stored.size)
            except FileNotFoundError as error:
                raise ObjectNotFound(name=name) from error

    def objects(self, container: str, prefix: str) -> Iterator[Held]:
        after = ""
        while True:
            try:
                with _told():
                    listed = self._store.objects(_ACCOUNT, container, prefix=prefix, after=after)
            except ContainerNotFound:
                return
            found = [one.stored for one in listed if one.stored is not None]
            if not found:
                return
            yield from (Held(one.name, one.size) for one in found)
            after = found[-1].name

    def delete(self, container: str, prefix: str) -> None:
        if not prefix:
            raise Invalid("A prefix must be given.")
        for held in list(self.objects(container, prefix)):
            try:
                with _told():
                    self._store.delete(_ACCOUNT, container, held.name)
            except ObjectNotFound:
                continue

    def tidy(self, container: str) -> None:  # noqa: ARG002 - what is left has no name yet
        with _told():
            self._store.expire()

    def location(self, container: str, prefix: str) -> str:
        return f"directory:///{quote(container, safe='')}/{quote(prefix)}"

    def locate(self, location: str) -> tuple[str, str]:
        found = re.fullmatch(r"directory:///([^/]+)/(.+/)", location)
        if found is None:
            raise Invalid(
                "remote_location must be one of this store, such as directory:///CONTAINER/INSTANCE/BACKUP/."
            )
        return unquote(found[1]), unquote(found[2])

    def close(self) -> None:
        """Nothing is kept."""

    def _signature(self, method: str, container: str, prefix: str, expires: str) -> str:
        text = "\n".join(quote(part, safe="") for part in (method, container, prefix, expires))
        return hmac.digest(self._key, text.encode(), "sha256").hex()


def failure(error: OSError | sqlite3.Error) -> ArgosyError:
    """What the disk says, or the index on it, in words of ours."""
    if isinstance(error, OSError):
        full, said = error.errno in {errno.ENOSPC, errno.EDQUOT}, error.strerror
    else:
        full, said = "disk is full" in str(error), str(error)
    return StoreFull() if full else Unavailable(f"The directory of backups fails: {said}.")


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        raise failure(error) from error
