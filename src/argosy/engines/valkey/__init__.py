"""Drives Valkey 8 and 9 and Redis 7, which are one server as far as we are concerned.

What differs between them is asked of the server (its name, its version, whether it was built with TLS),
never of the datastore's name.
"""

from __future__ import annotations

from argosy.engines.host import Host
from argosy.engines.process import ServerProcess
from argosy.engines.valkey.engine import ValkeyEngine

__all__ = ["ValkeyEngine", "create"]


def create(host: Host, server: ServerProcess) -> ValkeyEngine:
    """The engine of this host's instance."""
    return ValkeyEngine(host, server)
