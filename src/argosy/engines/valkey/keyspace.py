"""How many keys each numbered database has."""

from __future__ import annotations

import re
from dataclasses import dataclass

from argosy.engines.valkey.client import Client


@dataclass(frozen=True)
class Keys:
    """`expiring` of `all` go by themselves, so only the others can be counted on."""

    all: int
    expiring: int

    @property
    def lasting(self) -> int:
        return self.all - self.expiring


def keys_in(client: Client) -> dict[str, Keys]:
    """By the database's number; empty ones are not told."""
    told = client.info("keyspace")  # db0:keys=3,expires=1,avg_ttl=0
    found = {name: re.match(r"keys=(\d+),expires=(\d+)", value) for name, value in told.items()}
    return {name.removeprefix("db"): Keys(int(m[1]), int(m[2])) for name, m in found.items() if m is not None}
