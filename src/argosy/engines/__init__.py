"""How to run one kind of database: a package per engine, used inside the guest only.

A package has `create(host, server)`, which returns its Engine. Nothing else names an engine but its
file in the catalog.
"""

from __future__ import annotations

from importlib import import_module
from typing import cast

from argosy.engines.base import Engine
from argosy.engines.host import Host
from argosy.engines.process import ServerProcess


def engine_for(name: str, host: Host) -> Engine:
    """The engine of that name for this host. Only the one engine's drivers are imported, to keep agents small."""
    server = ServerProcess(host, host.logs / "server.log")
    return cast("Engine", import_module(f"argosy.engines.{name}").create(host, server))
