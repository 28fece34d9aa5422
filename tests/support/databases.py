"""Instances of a live server as their users see them: over the network, under TLS, with their own drivers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from argosy import catalog
from argosy.engines.host import Account, Host, TlsFiles
from tests.support.engines import Refused, Session, adapter_for
from tests.support.server import Server, wait_until

NOWHERE = Path("/nonexistent")


def connected(
    argosy: Server, instance: dict[str, Any], user: str, password: str, database: str | None = None
) -> Session:
    """A session of a user with an instance, its certificate verified; a server that is just starting is waited for."""

    def session() -> Session | None:
        try:
            return connect(argosy, instance, user, password, database)
        except Refused:
            return None

    found: Session = wait_until(f"{user} gets into {instance['name']}", session, 30)
    return found


def connect(
    argosy: Server, instance: dict[str, Any], user: str, password: str, database: str | None = None
) -> Session:
    """The same at the first try. Raises Refused."""
    datastore = catalog.datastores()[instance["datastore"]["type"]]
    ca = argosy.home / "database-ca.crt"
    host = Host(
        instance_id=instance["id"],
        version=instance["datastore"]["version"],
        bundle=NOWHERE,
        template=NOWHERE,
        data=NOWHERE,
        etc=NOWHERE,
        run=NOWHERE,
        logs=NOWHERE,
        address=instance["ip"][0],
        port=datastore.port,
        memory_mb=0,
        vcpus=0,
        tls=TlsFiles(certificate=NOWHERE, key=NOWHERE, ca=ca),
        account=Account.own(),
    )
    return adapter_for(datastore.engine).connect(host, user, password, database)
