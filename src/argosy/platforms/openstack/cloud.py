"""The connection to a cloud: one log-in, requests that are tried again, and what went wrong in words.

What is asked may be asked twice: whoever makes something looks first whether it is there, since a cloud may have acted
though its answer was lost.
"""

from __future__ import annotations

import json
import logging
import random
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import Any, Generic, TypeVar
from weakref import WeakValueDictionary

from keystoneauth1 import exceptions as keystone
from openstack import exceptions
from openstack.config import OpenStackConfig
from openstack.connection import Connection

from argosy.domain.errors import ArgosyError, CloudQuotaExceeded, PlatformError, Unavailable

# 2.87 and 3.42 are of 2020 and 2017. Held to one version, a cloud answers alike whatever it could do besides.
# 3.42 lets a volume grow while it is in use; 2.84 lets an action tell why it failed, 2.57 a rebuild give other user data.
_VERSIONS: dict[str, Any] = {
    "compute_default_microversion": "2.87",
    "block_storage_default_microversion": "3.42",
}
TRIES = 6
_PAUSE_S = 0.5  # before the second try; doubled from then on
_LONGEST_PAUSE_S = 30.0
_ANSWERS_AGAIN = {408, 429, 500, 502, 503, 504}
# Neutron's names of conflicts that do not pass by themselves.
_LASTING = {
    "IpAddressGenerationFailure",
    "IpAddressInUse",
    "IpAddressAlreadyAllocated",
    "ExternalIpAddressExhausted",
}

# At DEBUG they would write down what servers are given to boot with.
for _name in ("keystoneauth", "openstack"):
    logging.getLogger(_name).setLevel(logging.WARNING)

_log = logging.getLogger(__name__)

Told = TypeVar("Told")


class Service(StrEnum):
    """By the names operators know them."""

    KEYSTONE = "Keystone"
    NOVA = "Nova"
    CINDER = "Cinder"
    NEUTRON = "Neutron"
    GLANCE = "Glance"


class Cloud:
    """One cloud of a clouds.yaml. Methods may be called from any thread; nothing is asked before it is needed."""

    def __init__(
        self,
        name: str,
        clouds_file: Path | None = None,
        *,
        request_timeout_s: float = 60,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        """`clouds_file` unset is where OpenStack's clients look, passwords in the secure.yaml beside it too."""
        self.name = name
        self._clouds_file = clouds_file
        self._request_timeout_s = request_timeout_s
        self._pause = pause
        self._lock = threading.Lock()
        self._connection: Connection | None = None
        self._held: WeakValueDictionary[str, Any] = WeakValueDictionary()

    def ask(self, service: Service, question: Callable[[Connection], Told], *, tries: int = TRIES) -> Told:
        """Ask until there is an answer, `tries` times at most. Raises Unavailable, CloudQuotaExceeded, PlatformError.

        The question is asked from its beginning again, so it looks before it makes anything. So it is where something
        that it had found is gone meanwhile, as when another process took it for one too many.
        """
        tried = 1
        while True:
            asked = Service.KEYSTONE
            try:
                cloud = self._connected()
                cloud.session.get_token()
                asked = service
                return question(cloud)
            except (exceptions.SDKException, keystone.ClientException) as error:
                gone = isinstance(error, exceptions.NotFoundException)
                if not _may_pass(error) and not (gone and tried < tries):
                    raise _explained(asked, error, self) from error
                if tried >= tries:
                    raise Unavailable(
                        f"{_who(asked, error)} of cloud {self.name} does not answer as it should "
                        f"({_words(error)}); asked {tried} times."
                    ) from error
                _log.warning("%s of cloud %s: %s; asked again", asked, self.name, _words(error))
                self._pause(_wait_s(error, tried))
            tried += 1

    def wait_until(
        self, done: Callable[[], bool], *, at_most_s: float, otherwise: str, every_s: float = 0.5
    ) -> None:
        """Raises Unavailable with a sentence, for the caller to be asked again and go on from there."""
        until = time.monotonic() + at_most_s
        while not done():
            if time.monotonic() > until:
                raise Unavailable(otherwise)
            self._pause(every_s)

    @contextmanager
    def held(self, instance_id: str) -> Iterator[None]:
        """Keep this process's other threads away from what an instance has; its own may come again."""
        with self._lock:
            lock = self._held.setdefault(instance_id, threading.RLock())
        with lock:
            yield

    def close(self) -> None:
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _connected(self) -> Connection:
        with self._lock:
            if self._connection is None:
                self._connection = self._connect()
            return self._connection

    def _connect(self) -> Connection:
        given = self._clouds_file
        if given is not None and not given.is_file():
            raise PlatformError(f"openstack.clouds_file: {given} is not there.")
        known = OpenStackConfig(
            config_files=None if given is None else [str(given)],
            secure_files=None if given is None else [str(given.with_name("secure.yaml"))],
            load_envvars=given is None,
        )
        region = known.get_one(cloud=self.name, api_timeout=self._request_timeout_s, **_VERSIONS)
        # Strict: a service that is away when it is first asked would pass for one that knows no versions, for good.
        return Connection(config=region, strict_proxies=True, app_name="argosy")


class Remembered(Generic[Told]):
    """What the cloud last told, asked again once that is older than `for_s` seconds.

    While the cloud does not answer, what it said before counts.
    """

    def __init__(self, question: Callable[[], Told], for_s: float) -> None:
        self._question = question
        self._for_s = for_s
        self._lock = threading.Lock()
        self._told: Told | None = None
        self._until = float("-inf")

    def get(self) -> Told:
        """Raises what asking raises where there was no answer yet."""
        with self._lock:
            began = time.monotonic()
            if self._told is None or began >= self._until:
                try:
                    self._told = self._question()
                except Unavailable as error:
                    if self._told is None:
                        raise
                    _log.warning("%s What it said before counts.", error.sentence)
                # A cloud that takes long to say nothing is not asked all the time.
                now = time.monotonic()
                self._until = now + max(self._for_s, now - began)
            return self._told

    def forget(self) -> None:
        with self._lock:
            self._until = float("-inf")


def foremost(found: list[Any], *, keep: Callable[[Any], bool] | None = None) -> Any:
    """The oldest of what there should be one of, None when there is none. One that `keep` says yes of goes before it."""
    return next(iter(_ordered(found, keep)), None)


def sole(
    found: list[Any], remove: Callable[[Any], object], *, keep: Callable[[Any], bool] | None = None
) -> Any:
    """The `foremost`; the others are removed.

    A cloud may have made something though its answer was lost, and two processes may have asked at once.
    """
    ordered = _ordered(found, keep)
    for other in ordered[1:]:
        _log.warning("%s %s is there twice: %s is removed", type(other).__name__, ordered[0].id, other.id)
        remove(other)
    return ordered[0] if ordered else None


def _ordered(found: list[Any], keep: Callable[[Any], bool] | None) -> list[Any]:
    return sorted(found, key=lambda one: (keep is not None and not keep(one), one.created_at or "", one.id))


def _may_pass(error: Exception) -> bool:
    """Whether the same question may be answered later."""
    if isinstance(error, exceptions.HttpException | keystone.HttpError):
        return _status(error) in _ANSWERS_AGAIN or _is_rate_limit(error)
    if isinstance(error, keystone.SSLError):
        return False
    return isinstance(
        error, keystone.ConnectionError | keystone.DiscoveryFailure | exceptions.ServiceDiscoveryException
    )


def _is_rate_limit(error: Exception) -> bool:
    # Cinder answers 413 to what is beyond a quota, and the same to too many requests where that filter is on.
    return _status(error) == 413 and "rate" in _words(error).lower() and "limit" in _words(error).lower()


def _wait_s(error: Exception, tried: int) -> float:
    """As long as the cloud asks us to, else about twice as long as the last time; never two of us at the same moment."""
    asked = _headers(error).get("Retry-After", "")
    if asked.isdigit() and int(asked) > 0:
        return min(float(asked), _LONGEST_PAUSE_S) + random.uniform(0, 0.5)  # noqa: S311 - no secret
    longest = min(_PAUSE_S * 2.0 ** (tried - 1), _LONGEST_PAUSE_S)
    return random.uniform(longest / 2, longest)  # noqa: S311 - no secret


def _explained(service: Service, error: Exception, cloud: Cloud) -> ArgosyError:
    """What the cloud refused, as one of our errors with its own words."""
    words, status = _words(error), _status(error)
    who = _who(service, error)
    if isinstance(error, exceptions.ConfigException):
        return PlatformError(f"clouds.yaml does not do for cloud {cloud.name}: {words}")
    if status == 401:
        return PlatformError(
            f"Keystone does not let us in: look at `auth` of cloud {cloud.name} in clouds.yaml."
        )
    beyond = _quota(service, error)
    if beyond is not None:
        return beyond
    if status == 403:
        return PlatformError(f"{who} does not allow this to the account of cloud {cloud.name}: {words}")
    if status == 409 and _neutron_type(error) not in _LASTING:
        # Something is under way there that excludes this.
        return Unavailable(f"{who} cannot do this now: {words}")
    if isinstance(error, keystone.CatalogException | exceptions.EndpointNotFound):
        return PlatformError(f"Cloud {cloud.name} has no {service} for us: {words}")
    return PlatformError(f"{who} refused: {words}")


# Each service's own words for what is beyond a quota, with what they name: nova/exception.py (TooManyInstances),
# cinder/exception.py (VolumeSizeExceedsAvailableQuota, VolumeLimitExceeded), neutron_lib/exceptions (OverQuota).
_NOVA = re.compile(
    r"Quota exceeded for (?P<quota>[\w, ]+): Requested (?P<asked>[\d, ]+), but already used (?P<used>[\d, ]+) of (?P<most>[\d, ]+)"
)
_NOVA_COUNTS = re.compile(
    r"Quota exceeded, too many (?P<quota>[\w -]+?)\.?$|(?P<other>Maximum number of [\w -]+ exceeded)"
)
_CINDER = re.compile(
    r"exceeds allowed (?P<quota>\w+) quota\. Requested (?P<asked>\d+)G, quota is (?P<most>\d+)G and (?P<used>\d+)G"
)
_CINDER_COUNTS = re.compile(
    r"Maximum number of volumes allowed \((?P<most>\d+)\) exceeded for quota '(?P<quota>\w+)'"
)
_CINDER_SIZE = re.compile(
    r"Requested volume size (?P<asked>\d+)G is larger than maximum allowed limit (?P<most>\d+)G"
)
_NEUTRON = re.compile(r"Quota exceeded for resources: \['?(?P<quota>\w+)")


def _quota(service: Service, error: Exception) -> CloudQuotaExceeded | None:
    words = _words(error)
    if _status(error) not in {403, 409, 413}:
        return None
    if match := _NOVA.search(words):
        # Several may be spent at once: the numbers stand in the order of the names.
        columns = [
            [part.strip() for part in match[name].split(",")] for name in ("quota", "asked", "used", "most")
        ]
        for quota, asked, used, most in zip(*columns, strict=False):
            if int(used) + int(asked) > int(most):
                return CloudQuotaExceeded(
                    service=service, quota=quota, asked=int(asked), available=int(most) - int(used)
                )
    if match := _CINDER.search(words):
        available = int(match["most"]) - int(match["used"])
        return CloudQuotaExceeded(
            service=service, quota=match["quota"], asked=int(match["asked"]), available=available
        )
    if match := _CINDER_SIZE.search(words):
        return CloudQuotaExceeded(
            service=service,
            quota="per_volume_gigabytes",
            asked=int(match["asked"]),
            available=int(match["most"]),
        )
    if match := _CINDER_COUNTS.search(words):
        return CloudQuotaExceeded(service=service, quota=match["quota"], asked=1, available=0)
    if match := _NEUTRON.search(words):
        return CloudQuotaExceeded(service=service, quota=match["quota"], asked=1, available=0)
    if match := _NOVA_COUNTS.search(words):
        return CloudQuotaExceeded(
            service=service, quota=match["quota"] or match["other"], asked=1, available=0
        )
    return None


def _who(service: Service, error: Exception) -> str:
    """Logging in, whatever it was for, is Keystone's."""
    return Service.KEYSTONE if isinstance(error, keystone.HttpError) else service


def _status(error: Exception) -> int | None:
    if isinstance(error, keystone.HttpError):
        return int(error.http_status)
    return getattr(error, "status_code", None)


def _words(error: Exception) -> str:
    """The cloud's own, without what we told it: Nova repeats the whole of a value that it does not like."""
    words = str(getattr(error, "details", None) or getattr(error, "message", None) or error).strip()
    if "user_data" in words:
        words = "the user data is not valid"
    return words[:500] or type(error).__name__


def _headers(error: Exception) -> Mapping[str, str]:
    response = getattr(error, "response", None)
    return {} if response is None else response.headers


def _neutron_type(error: Exception) -> str | None:
    response = getattr(error, "response", None)
    try:
        return str(json.loads(response.text)["NeutronError"]["type"]) if response is not None else None
    except (ValueError, KeyError, TypeError):
        return None
