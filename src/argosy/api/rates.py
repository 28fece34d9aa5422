"""How often a project may ask: requests by verb within a unit of time that moves along (contract 4.4)."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from limits import RateLimitItem, parse
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from argosy.api.answers import Json

# Which limit counts a request. What creates through /mgmt has one of its own, and PATCH is a PUT.
_BY_METHOD = {"GET": "get", "HEAD": "get", "POST": "post", "PUT": "put", "PATCH": "put", "DELETE": "delete"}
# How /limits shows each: verb, URI and pattern.
_SHOWN = {
    "get": ("GET", "*", ".*"),
    "post": ("POST", "*", ".*"),
    "put": ("PUT", "*", ".*"),
    "delete": ("DELETE", "*", ".*"),
    "mgmt_post": ("POST", "*/mgmt", "^/mgmt"),
}


@dataclass(frozen=True)
class _Rate:
    item: RateLimitItem
    unit: str


class Rates:
    """What this process has let through. Each process of the API counts for itself."""

    def __init__(self, limits: Mapping[str, int], unit: str) -> None:
        """`limits` by the names of the settings; `unit` is second, minute, hour or day."""
        self._rates = {
            name: _Rate(parse(f"{limits[name]}/{unit}"), unit.upper()) for name in _SHOWN if name in limits
        }
        self._limiter = MovingWindowRateLimiter(MemoryStorage())

    def refuse(self, project_id: str, method: str, path: str) -> Json | None:
        """The answer for a request too many; None for one that is let through, and now counted.

        `path` is what follows the project in the address.
        """
        name = "mgmt_post" if method == "POST" and path.startswith("mgmt/") else _BY_METHOD.get(method, "")
        rate = self._rates.get(name)
        if rate is None or self._limiter.hit(rate.item, project_id, name):
            return None
        wait_s = max(
            1, math.ceil(self._limiter.get_window_stats(rate.item, project_id, name).reset_time - time.time())
        )
        verb, uri, _ = _SHOWN[name]
        # Never the word that tells a quota from a rate: tempest waits where it is missing.
        told = {
            "code": 413,
            "message": f"The project sends requests too quickly: try again in {wait_s} s.",
            "details": f"Only {rate.item.amount} {verb} requests to {uri} may be made in a {rate.unit.lower()}.",
            "retryAfter": str(wait_s),
            "argosy_code": "rate-limited",
        }
        answer = Json({"overLimit": told}, 413)
        answer.headers["Retry-After"] = str(wait_s)
        return answer

    def shown(self, project_id: str) -> list[dict[str, Any]]:
        """Each limit as /limits tells it."""
        return [self._shown(project_id, name, rate) for name, rate in self._rates.items()]

    def _shown(self, project_id: str, name: str, rate: _Rate) -> dict[str, Any]:
        verb, uri, pattern = _SHOWN[name]
        stats = self._limiter.get_window_stats(rate.item, project_id, name)
        next_at = time.time() if stats.remaining else stats.reset_time
        return {
            "verb": verb,
            "value": rate.item.amount,
            "remaining": stats.remaining,
            "unit": rate.unit,
            "nextAvailable": datetime.fromtimestamp(math.ceil(next_at), UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "uri": uri,
            "regex": pattern,
        }
