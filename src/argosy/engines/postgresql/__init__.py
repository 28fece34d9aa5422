"""PostgreSQL 15 and later."""

from __future__ import annotations

from argosy.engines.host import Host
from argosy.engines.postgresql.engine import PostgresEngine
from argosy.engines.process import ServerProcess


def create(host: Host, server: ServerProcess) -> PostgresEngine:
    return PostgresEngine(host, server)
