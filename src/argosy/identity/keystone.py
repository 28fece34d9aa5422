"""Callers whom a Keystone knows: what each token is worth is asked of it, and remembered for a short while.

What is asked is `GET /v3/auth/tokens` with the token of a user of our own, which keystoneauth1 gets, and renews before
it ends. Nothing is ever written to Keystone. What keystonemiddleware does for other services is done alike: expired
tokens that a service vouches for, access rules of application credentials.
"""

from __future__ import annotations

import hashlib
import logging
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import requests
from keystoneauth1 import exceptions
from keystoneauth1.identity import v3
from keystoneauth1.session import Session
from prometheus_client import Counter, Histogram

from argosy.domain.errors import NotFound, Unauthorized, Unavailable
from argosy.domain.identity import DOMAIN_ID, AccessRule, Caller
from argosy.identity.cache import BriefCache
from argosy.identity.callers import Callers

NOT_AUTHENTICATED = "The request you have made requires authentication."
# A token that was refused is not asked about again for so long. It never becomes worth something, but a Keystone of
# several servers may hear of a new token from each of them a little later.
_REFUSED_FOR_S = 5.0
_PAUSES_S = (0.1, 0.5)  # before another try
_AWAY_FOR_S = 1.0  # after all tries failed, for which nobody else is made to wait
_CONNECTIONS = 16
_TOKEN = re.compile(r"[\x21-\x7e]{1,8192}")
_PROJECT_ID = re.compile(r"[\w-]{1,64}", re.ASCII)

_log = logging.getLogger(__name__)
ASKED = Counter(
    "argosy_keystone_validations_total", "Tokens that Keystone was asked about, by outcome.", ["outcome"]
)
SECONDS = Histogram(
    "argosy_keystone_validation_seconds", "Seconds that Keystone took to tell, tries together."
)


class KeystoneUnavailable(Unavailable):
    """Keystone cannot be asked, or does not let us ask."""

    code = "keystone-unavailable"


@dataclass(frozen=True)
class ServiceUser:
    """Our own user, in a project of services, and the Keystone that knows it.

    Tokens are asked about at `auth_url`, or, with an `interface` (public, internal, admin), where the catalog has the
    identity service of the region. `password_file` is read anew when Keystone refuses what was in it.
    """

    auth_url: str
    username: str
    password_file: Path = field(repr=False)
    project_name: str
    user_domain: str = "Default"
    project_domain: str = "Default"
    region: str | None = None
    interface: str | None = None
    ca_file: Path | None = None


@dataclass(frozen=True, slots=True)
class _Known:
    caller: Caller
    expires_at: datetime


class Keystone(Callers):
    """What Keystone said holds for `cache_s`, and never beyond the token's own end: so long a revoked token may live on.

    However many ask about a new token at once, Keystone is asked once. While it is away those it knows already pass,
    everybody else gets KeystoneUnavailable. `admin_roles` and `service_roles` are compared without regard to case.
    `timeout_s` is for one try, of which there are three at most, in twice that time. `log_in_url` is what clients are
    told, when that is not `auth_url`.
    """

    def __init__(
        self,
        user: ServiceUser,
        *,
        cache_s: float = 30,
        timeout_s: float = 5,
        admin_roles: Iterable[str] = ("admin",),
        service_roles: Iterable[str] = ("service",),
        log_in_url: str | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Raises OSError when the password cannot be read."""
        self._user = user
        self._url = _v3(user.auth_url)
        self._log_in_url = _v3(log_in_url) if log_in_url else self._url
        self._admin_roles = _folded(admin_roles)
        self._service_roles = _folded(service_roles)
        self._timeout_s = timeout_s
        self._now = now
        self._clock = clock
        self._known: BriefCache[_Known] = BriefCache(cache_s, clock=clock)
        # Tokens that another service vouched for: these may have expired.
        self._vouched: BriefCache[_Known] = BriefCache(cache_s, clock=clock)
        # Apart, so that somebody who tries tokens pushes out nobody who has one.
        self._refused: BriefCache[bool] = BriefCache(min(cache_s, _REFUSED_FOR_S), clock=clock)
        self._asking: dict[tuple[bytes, bool], Future[_Known | None]] = {}
        self._lock = threading.Lock()
        self._away: tuple[str, float] | None = None  # what is told meanwhile, and until when
        self._password = _content(user.password_file)
        plain = requests.Session()
        # Neither a proxy nor somebody's .netrc has a part in this.
        plain.trust_env = False
        for scheme in ("http://", "https://"):
            plain.mount(scheme, requests.adapters.HTTPAdapter(pool_maxsize=_CONNECTIONS))
        verify = True if user.ca_file is None else str(user.ca_file)
        self._session = Session(
            self._plugin(), session=plain, verify=verify, timeout=timeout_s, app_name="argosy"
        )

    # Every request

    def known_caller(self, token: str, service_token: str | None = None) -> Caller | None:
        if service_token is None:
            known = self._known.get(_digest(token))
            return None if known is None else known.caller
        service = self._known.get(_digest(service_token))
        known = self._vouched.get(_digest(token))
        if service is None or known is None or not self._vouches(service.caller):
            return None
        return known.caller

    def caller_of(self, token: str, service_token: str | None = None) -> Caller:
        """Costs microseconds when asked again within `cache_s`, else one request to Keystone.

        A service token needs one of the service roles. With it Keystone tells of a user's token that has expired no
        longer ago than it allows for (`[token] allow_expired_window`), and access rules are no matter: the user's own
        request, which was for the other service, was held against them.
        """
        if service_token is None:
            return self._look_up(token, vouched=False)
        service = self._look_up(service_token, vouched=False)
        if not self._vouches(service):
            raise Unauthorized("The token in X-Service-Token is not that of a service.")
        return self._look_up(token, vouched=True)

    def authenticate_basic(self, authorization: str, source: str) -> Caller:  # noqa: ARG002 - whoever asks
        """Refused: who sends passwords should send them to Keystone alone."""
        raise Unauthorized(
            f"HTTP Basic is for Argosy's own accounts, and here Keystone knows the users: get a token at {self._log_in_url}/auth/tokens."
        )

    def check_project(self, project_id: str) -> None:
        """Raises NotFound when Keystone says that there is no such project.

        Where our user may not ask for projects, which needs a role that reads the system, any is believed.
        """
        if _PROJECT_ID.fullmatch(project_id):
            answer = self._ask(f"/projects/{project_id}", {})
            if answer.status_code != requests.codes.not_found:
                return
        raise NotFound(f"There is no project {project_id[:64]!r}.")

    def log_in_at(self, base_url: str) -> str:  # noqa: ARG002 - wherever we are
        return self._log_in_url

    # How

    def _vouches(self, caller: Caller) -> bool:
        return not self._service_roles.isdisjoint(_folded(caller.roles))

    def _look_up(self, token: str, *, vouched: bool) -> Caller:
        if not _TOKEN.fullmatch(token):
            raise Unauthorized(NOT_AUTHENTICATED)
        digest = _digest(token)
        cache = self._vouched if vouched else self._known
        known = cache.get(digest) or self._once(digest, token, cache, vouched=vouched)
        if known is None or (known.expires_at <= self._now() and not vouched):
            raise Unauthorized(NOT_AUTHENTICATED)
        return known.caller

    def _once(self, digest: bytes, token: str, cache: BriefCache[_Known], *, vouched: bool) -> _Known | None:
        """Ask Keystone, or wait for the answer that somebody else is waiting for already; None when it knows no such token."""
        refused = digest + bytes([vouched])
        with self._lock:
            # Whoever asked a moment ago may have its answer since we looked.
            known = cache.get(digest)
            if known is not None or self._refused.get(refused):
                return known
            asked = self._asking.get((digest, vouched))
            if asked is None:
                mine = self._asking[digest, vouched] = Future()
        if asked is not None:
            return asked.result()
        try:
            known = self._validate(token, vouched=vouched)
            if known is None:
                self._refused.remember(refused, True, self._refused.generation)
            else:
                left_s = (known.expires_at - self._now()).total_seconds()
                cache.remember(digest, known, cache.generation, **({} if vouched else {"at_most_s": left_s}))
            mine.set_result(known)
        except BaseException as error:
            mine.set_exception(error)
            raise
        finally:
            with self._lock:
                del self._asking[digest, vouched]
        return known

    def _validate(self, token: str, *, vouched: bool) -> _Known | None:
        # With this header Keystone tells of tokens with access rules, since we hold to them.
        headers = {"X-Subject-Token": token, "OpenStack-Identity-Access-Rules": "1"}
        path = "/auth/tokens?nocatalog" + ("&allow_expired=1" if vouched else "")
        began = self._clock()
        try:
            answer = self._ask(path, headers)
            if answer.status_code == requests.codes.not_found:
                ASKED.labels("refused").inc()
                return None
            if answer.status_code != requests.codes.ok:
                raise self._not_let(f"it answered {answer.status_code}")
            known = self._told(answer)
        except KeystoneUnavailable:
            ASKED.labels("failed").inc()
            raise
        finally:
            SECONDS.observe(self._clock() - began)
        ASKED.labels("accepted").inc()
        # Who vouches has held the user's request against the rules already.
        return replace(known, caller=replace(known.caller, access_rules=None)) if vouched else known

    def _told(self, answer: requests.Response) -> _Known:
        try:
            token = answer.json()["token"]
            expires_at = datetime.fromisoformat(token["expires_at"])
            if expires_at.tzinfo is None:
                # So Keystone writes it where an application credential ends before the token would (22.0): UTC all the same.
                expires_at = expires_at.replace(tzinfo=UTC)
            return _Known(self._caller(token), expires_at)
        except (ValueError, KeyError, TypeError) as error:
            raise KeystoneUnavailable(
                f"What answers at {self._url} is no Keystone v3: {type(error).__name__}."
            ) from error

    def _caller(self, token: Mapping[str, Any]) -> Caller:
        # Of a domain, of the system or of nothing: such a token has no project, and no rights here.
        project = token.get("project") or {}
        names = frozenset(str(role["name"]) for role in token.get("roles", ())) if project else frozenset()
        credential = token.get("application_credential") or {}
        rules = credential.get("access_rules")
        user = token["user"]
        return Caller(
            user_id=user["id"],
            user_name=user["name"],
            project_id=project.get("id", ""),
            project_name=project.get("name", ""),
            roles=names,
            # A cloud with a project of its administrators says of each token whether it is of that one.
            is_admin=bool(self._admin_roles & _folded(names)) and token.get("is_admin_project", True) is True,
            user_domain_id=user.get("domain", {}).get("id", DOMAIN_ID),
            project_domain_id=project.get("domain", {}).get("id", DOMAIN_ID),
            access_rules=None
            if rules is None
            else tuple(AccessRule(rule["service"], rule["method"], rule["path"]) for rule in rules),
        )

    # Asking Keystone

    def _ask(self, path: str, headers: dict[str, str]) -> requests.Response:
        """An answer of 2xx or 4xx. Raises KeystoneUnavailable when none is to be had."""
        away = self._away
        if away is not None and self._clock() < away[1]:
            raise KeystoneUnavailable(away[0])
        where: dict[str, Any] = {"endpoint_override": self._url}
        if self._user.interface is not None:
            where = {
                "endpoint_filter": {
                    "service_type": "identity",
                    "interface": self._user.interface,
                    "region_name": self._user.region,
                    "version": (3,),
                }
            }
        why = ""
        for _ in self._tries():
            try:
                with self._told_failures():
                    answer: requests.Response = self._session.get(
                        path, headers=headers, raise_exc=False, authenticated=True, **where
                    )
            except _TryAgain as error:
                why = str(error)
                continue
            if answer.status_code == requests.codes.unauthorized:
                # keystoneauth1 had a new token for us by now, and that is worth nothing either.
                raise self._not_let("it refuses the token it gave us")
            if answer.status_code < 500 and answer.status_code not in {408, 429}:
                self._away = None
                return answer
            why = f"it answers {answer.status_code}"
        sentence = f"Keystone at {self._url} cannot be asked who you are: {why}. Try again."
        self._away = (sentence, self._clock() + _AWAY_FOR_S)
        _log.warning("%s", sentence)
        raise KeystoneUnavailable(sentence)

    def _tries(self) -> Iterator[None]:
        ends = self._clock() + 2 * self._timeout_s
        yield
        for pause_s in _PAUSES_S:
            if self._clock() + pause_s >= ends:
                return
            time.sleep(pause_s)
            yield

    @contextmanager
    def _told_failures(self) -> Iterator[None]:
        try:
            yield
        except (exceptions.Unauthorized, exceptions.Forbidden) as error:
            if self._has_new_password():
                raise _TryAgain("our password is another one now") from error
            raise self._not_let(f"it refuses the user {self._user.username}") from error
        except (exceptions.CatalogException, exceptions.DiscoveryFailure) as error:
            raise _TryAgain(f"no identity service of ours is in its catalog ({error})") from error
        except exceptions.HttpError as error:
            raise _TryAgain(f"it answers {error.http_status}") from error
        except exceptions.ClientException as error:
            raise _TryAgain(type(error).__name__) from error

    def _not_let(self, why: str) -> KeystoneUnavailable:
        """Not the caller's fault: an operator has to look at our own user."""
        sentence = f"Keystone at {self._url} does not let Argosy ask who you are: {why}. An operator has to look at this."
        # Not with every request: a Keystone that counts wrong passwords would lock our user out.
        self._away = (sentence, self._clock() + _REFUSED_FOR_S)
        _log.error("%s", sentence)
        return KeystoneUnavailable(sentence)

    def _has_new_password(self) -> bool:
        with self._lock:
            try:
                password = _content(self._user.password_file)
            except OSError:
                return False
            if password == self._password:
                return False
            self._password = password
            self._session.auth = self._plugin()
            return True

    def _plugin(self) -> Any:
        return v3.Password(
            self._url,
            password=self._password,
            username=self._user.username,
            user_domain_name=self._user.user_domain,
            project_name=self._user.project_name,
            project_domain_name=self._user.project_domain,
        )


class _TryAgain(Exception):
    """It may work in a moment; says why it did not."""


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def _folded(names: Iterable[str]) -> frozenset[str]:
    return frozenset(name.casefold() for name in names)


def _v3(url: str) -> str:
    url = url.rstrip("/")
    return url if url.endswith("/v3") else f"{url}/v3"


def _content(file: Path) -> str:
    return file.read_text(encoding="utf-8").strip()
