"""Objects of the store that backups are in, read and written by URLs that the conductor signs for this guest.

Conductor and store may be away for a while, or answer with errors: everything is tried again, with pauses that grow, until
an object has not gone through for the archive's `patience_s`. On the standard library's HTTP client, as reports are (decision 2).
"""

from __future__ import annotations

import http
import http.client
import logging
import re
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from argosy.domain.errors import Failed, Unavailable
from argosy.rpc.conductors import Conductors
from argosy.rpc.messages import Archive
from argosy.rpc.urls import PATH, VALID_S, Urls, UrlsWanted
from argosy.storage.base import ObjectNotFound, StoreFull

if TYPE_CHECKING:
    from argosy.storage.archive import Objects

log = logging.getLogger(__name__)

PAUSES_S = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
TIMEOUT_S = 60.0
# Chunks come one after the other: their URLs are asked for so many at a time.
AHEAD = 16
IDLE = 4  # connections kept to one place
_CHUNK = re.compile(r"(.*chunk-)(\d{8})")

Method = Literal["GET", "PUT"]
# Scheme, host and port, whether the guest's certificate is shown, and who signs the other's besides whom all know.
_Place = tuple[str, str, bool, str | None]


class _Again(Exception):
    """It did not work this time."""


class Transfers:
    """The store, as this guest may use it. Safe to share between threads.

    `patience_s` is in place of what each archive says.
    """

    def __init__(
        self,
        conductor_url: str,
        context: ssl.SSLContext,
        instance_id: str,
        *,
        patience_s: float | None = None,
    ) -> None:
        self._conductors = Conductors(conductor_url)
        self._context = context
        self._instance_id = instance_id
        self.patience_s = patience_s
        self._idle: dict[_Place, list[http.client.HTTPConnection]] = {}
        self._lock = threading.Lock()

    def objects(self, archive: Archive) -> Objects:
        """Those of an archive that this guest is granted to read, or to write."""
        return _ArchiveObjects(self, archive)

    def urls(self, container: str, method: Method, names: list[str]) -> Urls:
        """Raises _Again when the conductor does not answer, Failed when it refuses."""
        wanted = UrlsWanted(instance_id=self._instance_id, container=container, method=method, names=names)
        status, content = self.request(
            "POST",
            PATH,
            wanted.model_dump_json().encode(),
            {"Content-Type": "application/json"},
            ours=True,
        )
        if status == http.HTTPStatus.OK:
            return Urls.model_validate_json(content)
        if status == http.HTTPStatus.FORBIDDEN:
            raise Failed(
                "The conductor does not let this guest at the archive any more: the operation has ended.",
                code="not-granted",
            )
        raise _Again(f"the conductor answered {status}: {content[:200].decode(errors='replace')}")

    def request(
        self,
        method: str,
        url: str,
        content: bytes | None,
        headers: dict[str, str],
        *,
        ours: bool,
        authority: str | None = None,
    ) -> tuple[int, bytes]:
        """One request, over a connection that is kept. Raises _Again.

        `ours` is for a conductor, whichever answers: the guest's certificate is shown to it.
        """
        if not ours:
            return self._request(method, url, content, headers, ours=False, authority=authority)
        conductor = self._conductors.current
        below = urlsplit(url)._replace(scheme="", netloc="").geturl()
        try:
            status, said = self._request(
                method, conductor + below, content, headers, ours=True, authority=authority
            )
        except _Again:
            self._conductors.pass_over(conductor)
            raise
        if status >= http.HTTPStatus.INTERNAL_SERVER_ERROR and status != http.HTTPStatus.INSUFFICIENT_STORAGE:
            self._conductors.pass_over(conductor)
        return status, said

    def _request(
        self,
        method: str,
        url: str,
        content: bytes | None,
        headers: dict[str, str],
        *,
        ours: bool,
        authority: str | None,
    ) -> tuple[int, bytes]:
        parts = urlsplit(url)
        path = f"{parts.path}?{parts.query}" if parts.query else parts.path
        place = (parts.scheme, parts.netloc, ours, authority)
        while True:
            with self._lock:
                idle = self._idle.get(place, [])
                connection = idle.pop() if idle else None
            fresh = connection is None
            if connection is None:
                connection = self._connect(*place)
            try:
                connection.request(method, path, content, headers)
                answer = connection.getresponse()
                status, said = answer.status, answer.read()
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                # One that was idle may have been closed by the other side long ago, which says nothing.
                if fresh or isinstance(error, TimeoutError):
                    raise _Again(f"{type(error).__name__}: {error}") from error
                continue
            except BaseException:
                connection.close()
                raise
            self._keep(place, connection)
            return status, said

    def patiently(self, what: str, attempt: Callable[[], bytes], patience_s: float) -> bytes:
        """Try until it works. Raises Unavailable when it has not for too long."""
        deadline = time.monotonic() + patience_s
        tries = 0
        while True:
            try:
                return attempt()
            except _Again as reason:
                if time.monotonic() > deadline:
                    raise Unavailable(f"{what} did not work for {_span(patience_s)}: {reason}.") from reason
                if tries == 0:
                    log.warning(
                        "store or conductor does not work", extra={"what": what, "error": str(reason)}
                    )
                time.sleep(PAUSES_S[min(tries, len(PAUSES_S) - 1)])
                tries += 1

    def close(self) -> None:
        """Let go of the connections that are kept."""
        with self._lock:
            for idle in self._idle.values():
                while idle:
                    idle.pop().close()

    def _keep(self, place: _Place, connection: http.client.HTTPConnection) -> None:
        with self._lock:
            idle = self._idle.setdefault(place, [])
            if len(idle) < IDLE:
                idle.append(connection)
                return
        connection.close()

    def _connect(
        self,
        scheme: str,
        netloc: str,
        ours: bool,
        authority: str | None,
    ) -> http.client.HTTPConnection:
        if scheme == "http":
            return http.client.HTTPConnection(netloc, timeout=TIMEOUT_S)
        context = self._context
        if not ours:
            context = ssl.create_default_context()
            if authority is not None:
                context.load_verify_locations(cadata=authority)
        return http.client.HTTPSConnection(netloc, timeout=TIMEOUT_S, context=context)


class _ArchiveObjects:
    """The objects below the prefix of one archive."""

    def __init__(self, transfers: Transfers, archive: Archive) -> None:
        self._transfers = transfers
        self._container = archive.container
        self._prefix = archive.prefix
        self._patience_s = archive.patience_s if transfers.patience_s is None else transfers.patience_s
        self._lock = threading.Lock()
        self._signed: dict[tuple[Method, str], tuple[str, Urls, float]] = {}

    def put(self, name: str, content: bytes) -> None:
        self._patiently("Writing {} to the store", "PUT", name, content)

    def get(self, name: str) -> bytes:
        return self._patiently("Reading {} from the store", "GET", name, None)

    def _patiently(self, what: str, method: Method, name: str, content: bytes | None) -> bytes:
        return self._transfers.patiently(
            what.format(name), lambda: self._try(method, name, content), self._patience_s
        )

    def _try(self, method: Method, name: str, content: bytes | None) -> bytes:
        url, told = self._url(method, name)
        status, answer = self._transfers.request(
            method, url, content, {}, ours=told.by_conductor, authority=told.authority
        )
        if status < http.HTTPStatus.MULTIPLE_CHOICES:
            return answer
        with self._lock, suppress(KeyError):
            del self._signed[method, name]
        if status == http.HTTPStatus.NOT_FOUND and method == "GET":
            raise ObjectNotFound(name=name)
        if status == http.HTTPStatus.INSUFFICIENT_STORAGE:
            raise StoreFull
        said = f"the store answered {status}: {answer[:200].decode(errors='replace')}"
        if status in {
            http.HTTPStatus.BAD_REQUEST,
            http.HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            http.HTTPStatus.LENGTH_REQUIRED,
        }:
            raise Failed(f"{name} cannot be written: {said}", code="store-refused")
        raise _Again(said)

    def _url(self, method: Method, name: str) -> tuple[str, Urls]:
        with self._lock:
            signed = self._signed.get((method, name))
        if signed is None or time.monotonic() > signed[2]:
            names = _with_those_ahead(name)
            until = time.monotonic() + VALID_S / 2
            told = self._transfers.urls(self._container, method, [self._prefix + one for one in names])
            fresh = {(method, one): (url, told, until) for one, url in zip(names, told.urls, strict=True)}
            with self._lock:
                self._signed = {
                    **{known: kept for known, kept in self._signed.items() if kept[2] > time.monotonic()},
                    **fresh,
                }
            signed = fresh[method, name]
        return signed[0], signed[1]


def _with_those_ahead(name: str) -> list[str]:
    found = _CHUNK.fullmatch(name)
    if found is None:
        return [name]
    first = int(found[2])
    return [f"{found[1]}{number:08}" for number in range(first, first + AHEAD)]


def _span(seconds: float) -> str:
    return f"{seconds / 60:.0f} minutes" if seconds >= 120 else f"{seconds:.0f} seconds"
