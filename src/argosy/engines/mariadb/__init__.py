"""Drives MariaDB 10.11 and 11.8.

`engine.py` is the server's life; `databases.py`, `users.py`, `access.py` and `root.py` are a capability each;
`management.py` is the agent's own way in, and `sql.py` how names, hosts and passwords are written.
"""

from __future__ import annotations

from argosy.engines.host import Host
from argosy.engines.mariadb.engine import MariaDbEngine
from argosy.engines.process import ServerProcess

__all__ = ["MariaDbEngine", "create"]


def create(host: Host, server: ServerProcess) -> MariaDbEngine:
    """The engine of this host's instance."""
    return MariaDbEngine(host, server)
