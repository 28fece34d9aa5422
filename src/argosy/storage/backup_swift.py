"""Backups in Swift: containers of one account, guests by TempURLs, each bound to a prefix (manual, TempURL middleware).

An archive's chunks are what Swift's documents call segments: none comes near the size from which one object has to be
cut. The key that TempURLs are signed by is set on each container, so that the account's own stays as it is.
"""

from __future__ import annotations

import hmac
import re
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlencode, urlsplit

import httpx

from argosy.domain.errors import ArgosyError, Failed, Forbidden, Invalid, Unavailable
from argosy.storage.backups import BackupStore, Held, Method
from argosy.storage.base import ContainerNotFound, ObjectNotFound, StoreFull, check_container_name

_PART = 1024 * 1024
_LISTED_AT_ONCE = 1000
_AGAIN_S = 5.0
_TIMEOUT = httpx.Timeout(60, connect=10)

# Where the account is and a token for it. Raises Unavailable, Forbidden.
LogIn = Callable[[], tuple[str, str]]


class SwiftBackups(BackupStore):
    """`key` signs TempURLs; the containers are told of it when they are checked."""

    kind = "swift"

    def __init__(self, log_in: LogIn, key: str, *, ca_file: Path | None = None) -> None:
        self.authority = None if ca_file is None else ca_file.read_text()
        self._log_in = log_in
        self._key = key
        self._lock = threading.Lock()
        self._known: tuple[str, str] | None = None
        self._failed: tuple[ArgosyError, float] | None = None
        self._http = httpx.Client(timeout=_TIMEOUT, trust_env=False, verify=trusting(ca_file))

    def sign(self, method: Method, container: str, name: str, *, prefix: str, until: datetime) -> str:
        if not name.startswith(prefix):
            raise Forbidden(f"{name} does not lie below {prefix}.")
        account, _ = self._account()
        path = unquote(urlsplit(account).path)
        expires = str(int(until.timestamp()))
        text = f"{method}\n{expires}\nprefix:{path}/{container}/{prefix}"
        query = {
            "temp_url_sig": hmac.digest(self._key.encode(), text.encode(), "sha256").hex(),
            "temp_url_expires": expires,
            "temp_url_prefix": prefix,
        }
        return f"{account}/{quote(container, safe='')}/{quote(name)}?{urlencode(query)}"

    def check(self, container: str) -> None:
        check_container_name(container)
        self._ask("PUT", container, headers={"X-Container-Meta-Temp-URL-Key": self._key})

    def put(self, container: str, name: str, content: bytes) -> None:
        self._ask("PUT", container, name, content=content)

    def get(self, container: str, name: str) -> bytes:
        return self._ask("GET", container, name).content

    def read(self, container: str, name: str) -> Iterator[bytes]:
        for again in (False, True):
            account, token = self._account(again=again)
            with (
                _told(),
                self._http.stream(
                    "GET", _url(account, container, name), headers={"X-Auth-Token": token}
                ) as answer,
            ):
                if answer.status_code == httpx.codes.UNAUTHORIZED and not again:
                    continue
                if answer.status_code >= 300:
                    answer.read()
                    raise _refused(answer, container, name)
                yield from answer.iter_bytes(_PART)
                return

    def objects(self, container: str, prefix: str) -> Iterator[Held]:
        marker = ""
        while True:
            query = {"format": "json", "prefix": prefix, "marker": marker, "limit": str(_LISTED_AT_ONCE)}
            try:
                listed: list[dict[str, Any]] = self._ask("GET", container, query=query).json()
            except ContainerNotFound:
                return
            if not listed:
                return
            yield from (Held(str(one["name"]), int(one["bytes"])) for one in listed)
            marker = str(listed[-1]["name"])

    def delete(self, container: str, prefix: str) -> None:
        if not prefix:
            raise Invalid("A prefix must be given.")
        for held in list(self.objects(container, prefix)):
            try:
                self._ask("DELETE", container, held.name)
            except ObjectNotFound:
                continue

    def tidy(self, container: str) -> None:
        """Swift does so by itself."""

    def location(self, container: str, prefix: str) -> str:
        account, _ = self._account()
        return f"{account}/{quote(container, safe='')}/{quote(prefix)}"

    def locate(self, location: str) -> tuple[str, str]:
        account, _ = self._account()
        found = re.fullmatch(re.escape(account) + r"/([^/]+)/(.+/)", location)
        if found is None:
            raise Invalid(
                f"remote_location must be one of this store, such as {account}/CONTAINER/INSTANCE/BACKUP/."
            )
        return unquote(found[1]), unquote(found[2])

    def close(self) -> None:
        self._http.close()

    def _account(self, *, again: bool = False) -> tuple[str, str]:
        """Raises what the last try raised while that is only just over: lists of backups ask for each of them."""
        with self._lock:
            if self._known is None or again:
                if self._failed is not None and time.monotonic() < self._failed[1]:
                    raise self._failed[0]
                try:
                    url, token = self._log_in()
                except ArgosyError as error:
                    self._failed = (error, time.monotonic() + _AGAIN_S)
                    raise
                self._known = (url.rstrip("/"), token)
            return self._known

    def _ask(
        self,
        method: str,
        container: str,
        name: str | None = None,
        *,
        content: bytes | None = None,
        headers: dict[str, str] | None = None,
        query: dict[str, str] | None = None,
    ) -> httpx.Response:
        """One request; with a new token when the old one is worth nothing any more."""
        for again in (False, True):
            account, token = self._account(again=again)
            with _told():
                answer = self._http.request(
                    method,
                    _url(account, container, name),
                    params=query,
                    content=content,
                    headers={"X-Auth-Token": token, **(headers or {})},
                )
            if answer.status_code != httpx.codes.UNAUTHORIZED:
                break
        if answer.status_code >= 300:
            raise _refused(answer, container, name)
        return answer


def trusting(ca_file: Path | None) -> ssl.SSLContext:
    """Whom the system trusts, and who signed this."""
    context = ssl.create_default_context()
    if ca_file is not None:
        context.load_verify_locations(ca_file)
    return context


def by_name(url: str, user: str, password: str, *, ca_file: Path | None = None) -> LogIn:
    """With Swift's own accounts (v1 auth, as tempauth has it); the user is `account:name`."""
    context = trusting(ca_file)

    def log_in() -> tuple[str, str]:
        with _told():
            answer = httpx.get(
                url,
                headers={"X-Auth-User": user, "X-Auth-Key": password},
                timeout=_TIMEOUT,
                trust_env=False,
                verify=context,
            )
        if answer.status_code >= 300:
            raise _refused(answer, "", None)
        return answer.headers["x-storage-url"], answer.headers["x-auth-token"]

    return log_in


def by_keystone(cloud: dict[str, Any], *, ca_file: Path | None = None) -> LogIn:
    """With Keystone, by what a cloud of clouds.yaml says.

    That is `auth`, and perhaps `region_name`, `interface`, `cacert` and `verify`.
    """
    from keystoneauth1 import exceptions, session
    from keystoneauth1.identity import generic

    auth = dict(cloud["auth"])
    plugin = (
        generic.Password(**auth) if "application_credential_id" not in auth else _application_credential(auth)
    )
    authority = cloud.get("cacert") or (None if ca_file is None else str(ca_file))
    verify = (authority or True) if cloud.get("verify", True) else False
    keystone = session.Session(plugin, verify=verify)

    def log_in() -> tuple[str, str]:
        try:
            plugin.invalidate()
            url = keystone.get_endpoint(
                service_type="object-store",
                interface=cloud.get("interface", "public"),
                region_name=cloud.get("region_name"),
            )
            token = keystone.get_token()
        except (exceptions.Unauthorized, exceptions.Forbidden) as error:
            raise Forbidden(f"Keystone refuses us: {error}.") from error
        except exceptions.CatalogException as error:
            raise Failed(f"The cloud has no object store for us: {error}.", code="no-object-store") from error
        except exceptions.ClientException as error:
            raise Unavailable(f"Keystone does not answer: {error}.") from error
        if url is None:
            raise Failed("The cloud has no object store in this region.", code="no-object-store")
        return str(url), str(token)

    return log_in


def _application_credential(auth: dict[str, Any]) -> Any:
    from keystoneauth1.identity import v3

    return v3.ApplicationCredential(
        auth["auth_url"],
        application_credential_id=auth["application_credential_id"],
        application_credential_secret=auth["application_credential_secret"],
    )


def _url(account: str, container: str, name: str | None) -> str:
    place = f"{account}/{quote(container, safe='')}"
    return place if name is None else f"{place}/{quote(name)}"


def _refused(answer: httpx.Response, container: str, name: str | None) -> Exception:
    status = answer.status_code
    if status == httpx.codes.NOT_FOUND:
        return ContainerNotFound(container=container) if name is None else ObjectNotFound(name=name)
    if status in {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}:
        return Forbidden("The store of backups refuses us.")
    if status in {httpx.codes.INSUFFICIENT_STORAGE, httpx.codes.REQUEST_ENTITY_TOO_LARGE}:
        return StoreFull()
    if status >= 500 or status in {httpx.codes.TOO_MANY_REQUESTS, httpx.codes.REQUEST_TIMEOUT}:
        return Unavailable(f"The store of backups does not work: it answered {status}.")
    return Failed(f"The store of backups answered {status}: {answer.text[:200]}", code="store-refused")


@contextmanager
def _told() -> Iterator[None]:
    try:
        yield
    except httpx.HTTPError as error:
        raise Unavailable(f"The store of backups does not answer: {type(error).__name__}.") from error
