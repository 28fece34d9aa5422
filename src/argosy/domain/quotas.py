"""Quotas: how much of each resource a project may have at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from argosy.domain.errors import OverLimit

UNLIMITED = -1
# `ram` in MiB, `volumes` in GB of all volumes together (contract 3.11).
DEFAULTS: Mapping[str, int] = {"instances": 10, "ram": UNLIMITED, "volumes": 40, "backups": 50}
HIGHEST = 2**31 - 1


@dataclass(frozen=True)
class Quota:
    """A project's limit of one resource, and what it has of it.

    `reserved` is what its running operations may still take, as a resize does.
    """

    resource: str
    limit: int
    in_use: int = 0
    reserved: int = 0

    def holds(self, more: int) -> bool:
        """Whether so much more may be had. What takes nothing may always be done, above the limit too."""
        return more <= 0 or self.limit == UNLIMITED or self.in_use + self.reserved + more <= self.limit


class QuotaExceeded(OverLimit):
    """The project has no room for what was asked. Programs look for `exceeded` and the list (contract 3.11)."""

    code = "quota-exceeded"

    def __init__(self, *, exceeded: Sequence[tuple[Quota, int]]) -> None:
        names = [quota.resource for quota, _ in exceeded]
        reasons = "; ".join(
            f"{quota.resource}: {quota.in_use + quota.reserved} of {quota.limit} in use, {more} more asked"
            for quota, more in exceeded
        )
        super().__init__(
            f"Quota exceeded for resources: {names}. {reasons}. Delete something, or ask an operator for more."
        )
        self.resources = tuple(names)


def check(quotas: Mapping[str, Quota], wanted: Mapping[str, int]) -> None:
    """Raises QuotaExceeded, naming every resource that is short."""
    exceeded = [
        (quotas[resource], more) for resource, more in wanted.items() if not quotas[resource].holds(more)
    ]
    if exceeded:
        raise QuotaExceeded(exceeded=exceeded)
