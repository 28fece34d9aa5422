"""Who may connect to an instance: from where, and whether under TLS."""

from __future__ import annotations

from dataclasses import dataclass, replace

from argosy.domain.instance import Instance
from argosy.domain.operations import UpdateAccess


@dataclass(frozen=True)
class Rules:
    """`is_public` asks the platform for a public address; without `networks` clients may come from anywhere."""

    is_public: bool = False
    networks: tuple[str, ...] = ()
    require_tls: bool = False

    def changed(self, asked: UpdateAccess) -> Rules:
        """What is None in the request stays."""
        return replace(
            self,
            is_public=self.is_public if asked.is_public is None else asked.is_public,
            networks=self.networks if asked.allowed_cidrs is None else asked.allowed_cidrs,
            require_tls=self.require_tls if asked.require_tls is None else asked.require_tls,
        )

    def shown(self) -> dict[str, bool | list[str]]:
        """`access` as Trove has it; networks are left out where there are none (contract 2.1)."""
        shown: dict[str, bool | list[str]] = {"is_public": self.is_public}
        if self.networks:
            shown["allowed_cidrs"] = list(self.networks)
        return shown


def rules_of(instance: Instance) -> Rules:
    return Rules(
        is_public=bool(instance.access.get("is_public", False)),
        networks=tuple(instance.access.get("allowed_cidrs", ())),
        require_tls=instance.require_tls,
    )
