"""An HTTP session with a server: logging in, asking, paging, and what a refusal becomes."""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit

import httpx

from argosy.client.clouds import Cloud
from argosy.client.errors import BY_STATUS, ClientError, NotConfigured, Refused, Unreachable

# Pauses before another try of a request that may be repeated.
_AGAIN_AFTER_S = (0.1, 0.4, 1.0)
# The same of a stream, which outlives a restart of its server.
_COME_BACK_AFTER_S = (0.1, 0.4, 1.0, 2.0, 5.0, 10.0, 10.0)
_STREAM_S = 60  # without a sign of life, several of which a stream would have sent


@dataclass(frozen=True)
class SentEvent:
    """One of a stream: a name when it is about the stream itself, else its data."""

    id: str | None
    name: str | None
    data: dict[str, Any] | None


class Session:
    """Logs in when first asked something, and once more when its token is refused. Not for several threads."""

    def __init__(
        self, cloud: Cloud, *, timeout_s: float = 60, transport: httpx.BaseTransport | None = None
    ) -> None:
        """`transport` stands in for the network."""
        self.cloud = cloud
        self._timeout_s = timeout_s
        self._transport = transport
        self._clients: dict[bool, httpx.Client] = {}
        url = cloud.auth_url.rstrip("/")
        self._identity = url if url.endswith("/v3") else f"{url}/v3"
        self._token: dict[str, Any] = {}
        self._header: str | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        for client in self._clients.values():
            client.close()

    def _http(self, url: str) -> httpx.Client:
        """One for plain HTTP, and one for HTTPS, which of the two a Keystone and a database endpoint may have each."""
        secure = not url.startswith("http://")
        if secure not in self._clients:
            # Loading the system's certificates takes longer than a request; plain HTTP has no use for them.
            verify = _verified_by(self.cloud.verify) if secure else False
            self._clients[secure] = httpx.Client(
                verify=verify, timeout=self._timeout_s, transport=self._transport
            )
        return self._clients[secure]

    @property
    def token(self) -> Mapping[str, Any]:
        """What Keystone says of who we are: user, project, roles, catalog."""
        if self._header is None:
            self._log_in()
        return self._token

    @property
    def identity_url(self) -> str:
        return self._identity

    @property
    def server_url(self) -> str:
        """The API itself, without version and project."""
        return self.database_url.partition("/v1.0/")[0]

    @property
    def database_url(self) -> str:
        """The endpoint of our project. Raises NotConfigured when the catalog has none for us."""
        cloud = self.cloud
        for service in self.token.get("catalog", []):
            if service["type"] != "database":
                continue
            for endpoint in service["endpoints"]:
                if endpoint["interface"] == cloud.interface and cloud.region in {None, endpoint["region"]}:
                    return str(endpoint["url"]).rstrip("/")
        where = f" in region {cloud.region}" if cloud.region else ""
        raise NotConfigured(f"The cloud {cloud.name!r} has no {cloud.interface} database endpoint{where}.")

    def get(self, path: str, **query: Any) -> Any:
        """An answer's JSON. `path` begins with a slash, below the database endpoint."""
        asked = {key: value for key, value in query.items() if value is not None}
        return self.send("GET", self.database_url + path, query=asked)

    def pages(self, path: str, key: str, **query: Any) -> Iterator[Any]:
        """The items of a list, page after page."""
        asked = dict(query)
        while True:
            page = self.get(path, **asked)
            yield from page[key]
            marker = _next_marker(page.get("links", []))
            if marker is None:
                return
            asked["marker"] = marker

    def post(
        self, path: str, body: Any, headers: Mapping[str, str] | None = None, *, patient: bool = False
    ) -> Any:
        """`patient` waits for as long as it takes."""
        return self.send("POST", self.database_url + path, body, headers=headers, patient=patient)

    def put(self, path: str, body: Any) -> Any:
        return self.send("PUT", self.database_url + path, body)

    def patch(self, path: str, body: Any) -> Any:
        return self.send("PATCH", self.database_url + path, body)

    def delete(self, path: str) -> Any:
        return self.send("DELETE", self.database_url + path)

    def send(
        self,
        method: str,
        url: str,
        body: Any = None,
        *,
        query: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        patient: bool = False,
    ) -> Any:
        """The answer's JSON, None for an empty one. Raises Refused or Unreachable.

        Tried again when the connection fails, if repeating does no harm: a GET, or with an Idempotency-Key.
        """
        if self._header is None:
            self._log_in()
        again = method == "GET" or "Idempotency-Key" in (headers or {})
        answer = self._try(method, url, body, query, headers, again=again, patient=patient)
        if answer.status_code == httpx.codes.UNAUTHORIZED:
            self._log_in()
            answer = self._try(method, url, body, query, headers, again=again, patient=patient)
        return _content(answer)

    def stream(self, path: str, **query: Any) -> Iterator[SentEvent]:
        """Server-sent events from now on, for ever: taken up again, without loss, when they are cut off.

        The first has no data; from it on nothing is missed. Raises Refused when they are not to be had any more, and
        Unreachable when there is no server for a while.
        """
        at: str | None = None
        pauses = iter(_COME_BACK_AFTER_S)
        just_in = False
        while True:
            if self._header is None:
                self._log_in()
                just_in = True
            sent = {"Accept": "text/event-stream", "X-Auth-Token": self._header or ""}
            if at is not None:
                sent["Last-Event-ID"] = at
            url = self.database_url + path
            try:
                with self._http(url).stream(
                    "GET", url, params=query, headers=sent, timeout=_STREAM_S
                ) as answer:
                    if not answer.is_success:
                        answer.read()
                        if answer.status_code == httpx.codes.UNAUTHORIZED and not just_in:
                            self._header = None
                            continue
                        _content(answer)
                    just_in = False
                    for event in _events_of(answer):
                        pauses = iter(_COME_BACK_AFTER_S)
                        if event.id is not None:
                            first, at = at is None, event.id
                            if event.data is None and not first:
                                continue
                        if event.name == "end" and event.data and event.data.get("code") == "unauthorized":
                            self._header = None
                        if event.name is None:
                            yield event
            except httpx.TransportError as error:
                pause_s = next(pauses, None)
                if pause_s is None:
                    raise _unreachable(url, error) from error
                time.sleep(pause_s)
                continue
            time.sleep(_COME_BACK_AFTER_S[0])

    def download(self, path: str, **query: Any) -> Iterator[bytes]:
        """An answer of any size, in parts. Raises Refused before the first one, Unreachable when it is cut off."""
        with self._streaming("GET", path, query, None) as answer:
            yield from answer.iter_bytes()

    def upload(self, path: str, parts: Iterable[bytes], **query: Any) -> Any:
        """PUT what is of any size; returns the answer's JSON. Never repeated."""
        with self._streaming("PUT", path, query, parts) as answer:
            answer.read()
            return _content(answer)

    @contextmanager
    def _streaming(
        self, method: str, path: str, query: Mapping[str, Any], parts: Iterable[bytes] | None
    ) -> Iterator[httpx.Response]:
        url = self.database_url + path
        asked = {key: value for key, value in query.items() if value is not None}
        sent = {"Accept": "*/*", "X-Auth-Token": self._header or ""}
        if parts is not None:
            sent["Content-Type"] = "application/octet-stream"
        timeout = httpx.Timeout(None, connect=10)
        try:
            with self._http(url).stream(
                method, url, params=asked, content=parts, headers=sent, timeout=timeout
            ) as answer:
                if not answer.is_success:
                    answer.read()
                    _content(answer)
                yield answer
        except httpx.TransportError as error:
            raise _unreachable(url, error) from error

    def _try(
        self,
        method: str,
        url: str,
        body: Any,
        query: Mapping[str, Any] | None,
        headers: Mapping[str, str] | None,
        *,
        again: bool,
        patient: bool = False,
    ) -> httpx.Response:
        sent = {"Accept": "application/json", **(headers or {})}
        if self._header is not None:
            sent["X-Auth-Token"] = self._header
        pauses = iter(_AGAIN_AFTER_S if again else ())
        while True:
            try:
                return self._http(url).request(
                    method,
                    url,
                    json=body,
                    params=dict(query) if query else None,
                    headers=sent,
                    timeout=None if patient else httpx.USE_CLIENT_DEFAULT,
                )
            except httpx.TransportError as error:
                pause_s = next(pauses, None)
                if pause_s is None:
                    raise _unreachable(url, error) from error
                time.sleep(pause_s)
            except httpx.InvalidURL as error:
                raise NotConfigured(f"{url} is not an address: {error}.") from error

    def _log_in(self) -> None:
        self._header = None
        answer = self._try(
            "POST", f"{self._identity}/auth/tokens", {"auth": _proof(self.cloud)}, None, None, again=True
        )
        self._token = _content(answer)["token"]
        self._header = answer.headers["X-Subject-Token"]


def _events_of(answer: httpx.Response) -> Iterator[SentEvent]:
    """A stream taken apart (HTML standard, section 9.2, as far as Argosy's servers use it)."""
    fields: dict[str, str] = {}
    for line in answer.iter_lines():
        name, _, value = line.partition(":")
        if line:
            fields[name] = value.removeprefix(" ")
        elif fields:
            if "id" in fields or "data" in fields:
                data = json.loads(fields["data"]) if "data" in fields else None
                yield SentEvent(fields.get("id"), fields.get("event"), data)
            fields = {}


def _verified_by(verify: bool | str) -> bool | ssl.SSLContext:
    """Raises NotConfigured when the file that `verify` names cannot be read."""
    if isinstance(verify, bool):
        return verify
    try:
        return ssl.create_default_context(cafile=verify)
    except OSError as error:
        reason = "it holds no certificate" if isinstance(error, ssl.SSLError) else error.strerror
        raise NotConfigured(f"{verify}, which is to verify the server, cannot be read: {reason}.") from error


def _unreachable(url: str, error: httpx.TransportError) -> ClientError:
    parts = urlsplit(url)
    reason = str(error) or type(error).__name__
    return Unreachable(f"No answer from {parts.scheme}://{parts.netloc}: {reason}. Is it running?")


def _content(answer: httpx.Response) -> Any:
    if answer.is_success:
        return answer.json() if answer.content else None
    sentence, code = answer.reason_phrase, None
    try:
        # One key named for the fault, one object in it; Keystone's and Trove's errors are alike in this.
        fault = next(iter(answer.json().values()))
        sentence, code = fault["message"], fault.get("argosy_code")
    except (ValueError, AttributeError, StopIteration, TypeError, KeyError):
        pass
    kind = BY_STATUS.get(answer.status_code, Refused)
    raise kind(sentence, code=code, status=answer.status_code)


def _next_marker(links: list[dict[str, str]]) -> str | None:
    for link in links:
        if link["rel"] == "next":
            markers = parse_qs(urlsplit(link["href"]).query).get("marker")
            # Quoted once more than usual (Trove's way): here it goes back in a query that is quoted again.
            return unquote(markers[0]) if markers else None
    return None


def _proof(cloud: Cloud) -> dict[str, Any]:
    """The `auth` of a request for a token. Raises NotConfigured when something to log in with is missing."""
    auth = cloud.auth
    if auth.get("application_credential_secret"):
        credential: dict[str, Any] = {"secret": auth["application_credential_secret"]}
        if auth.get("application_credential_id"):
            credential["id"] = auth["application_credential_id"]
        else:
            credential["name"] = auth.get("application_credential_name")
            credential["user"] = _named(auth, "user", "username")
        # It brings its own project.
        return {"identity": {"methods": ["application_credential"], "application_credential": credential}}
    if auth.get("token"):
        identity: dict[str, Any] = {"methods": ["token"], "token": {"id": auth["token"]}}
    elif auth.get("password"):
        user = {**_named(auth, "user", "username"), "password": auth["password"]}
        identity = {"methods": ["password"], "password": {"user": user}}
    else:
        raise NotConfigured(
            f"The cloud {cloud.name!r} has nothing to log in with: it needs a password, a token or an application "
            "credential."
        )
    return {"identity": identity, "scope": {"project": _named(auth, "project", "project_name")}}


def _named(auth: Mapping[str, str], what: str, key: str) -> dict[str, Any]:
    """A user or project by id, else by name within its domain, which is the default one unless named."""
    if auth.get(f"{what}_id"):
        return {"id": auth[f"{what}_id"]}
    if not auth.get(key):
        raise NotConfigured(f"The {what} to log in with is not given: neither {key} nor {what}_id.")
    if auth.get(f"{what}_domain_id"):
        domain = {"id": auth[f"{what}_domain_id"]}
    else:
        domain = {"name": auth.get(f"{what}_domain_name") or auth.get("default_domain") or "Default"}
    return {"name": auth[key], "domain": domain}
