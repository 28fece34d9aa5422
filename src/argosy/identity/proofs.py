"""How a caller proves who they are, and which project they ask for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from argosy.domain.identity import DOMAIN_ID, DOMAIN_NAME


@dataclass(frozen=True)
class Reference:
    """A user or a project as a client names it: by id, or by name. No domain at all means the default one."""

    id: str | None = None
    name: str | None = None
    domain_id: str | None = None
    domain_name: str | None = None

    @property
    def in_our_domain(self) -> bool:
        by_name = self.domain_name is None or self.domain_name.casefold() == DOMAIN_NAME.casefold()
        return by_name and self.domain_id in {None, DOMAIN_ID}


@dataclass(frozen=True)
class PasswordProof:
    user: Reference
    password: str = field(repr=False)


@dataclass(frozen=True)
class TokenProof:
    token: str = field(repr=False)


@dataclass(frozen=True)
class CredentialProof:
    """An application credential, by its id, or by its name and its user."""

    credential: Reference
    user: Reference | None
    secret: str = field(repr=False)


Proof: TypeAlias = PasswordProof | TokenProof | CredentialProof
# None leaves the choice to us: the user's default project, or the only one.
Scope: TypeAlias = Reference | Literal["unscoped"] | None
