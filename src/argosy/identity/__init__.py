"""Who is calling, and what they may do: the built-in accounts (a small Keystone v3) and policy.

`service.Identity` knows callers, `directory.Directory` keeps accounts, `policy.Policy` decides. Policy is not
imported here: oslo.policy costs every importer some 20 MB and a good part of a second.
"""

from argosy.identity.bootstrap import ensure_bootstrap
from argosy.identity.directory import Directory
from argosy.identity.proofs import CredentialProof, PasswordProof, Proof, Reference, Scope, TokenProof
from argosy.identity.service import Identity
from argosy.identity.store import AccountStore

__all__ = [
    "AccountStore",
    "CredentialProof",
    "Directory",
    "Identity",
    "PasswordProof",
    "Proof",
    "Reference",
    "Scope",
    "TokenProof",
    "ensure_bootstrap",
]
