"""What a guest is told at boot: by a file (local), or by a config drive and the conductor (machines)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

RPC_PORT = 8790  # the agent's, on the instance's own address
# Moves when agents learn a call that the control plane counts on: those of an older release are renewed.
RELEASE = 3


@dataclass(frozen=True)
class Told:
    """What a machine's guest is to be. Holds no secret and no path, which are the guest's own affair.

    `version` is the catalog's name and `series` what engines know it by. The database server listens at `address`; its
    certificate names `addresses`, where clients come. The agent listens at `rpc_address`. `memory_mb` is what the
    database server may count on, MiB. `volume` is the serial number of the data volume, "" for a plain directory.
    An agent that has not enrolled under `identity` yet is to enrol anew. `agent` is the digest of the agent's code that
    the control plane has.
    """

    instance_id: str
    engine: str
    datastore: str
    version: str
    series: str
    address: str
    addresses: tuple[str, ...]
    port: int
    rpc_address: str
    memory_mb: int
    vcpus: int
    volume: str
    identity: int = 1
    agent: str = ""

    @classmethod
    def of(cls, stored: Mapping[str, Any]) -> Told:
        """From JSON. Unknown keys are left out, so that an older agent starts under a newer control plane."""
        known = {key: value for key, value in stored.items() if key in cls.__dataclass_fields__}
        return cls(**{**known, "addresses": tuple(known["addresses"])})


@dataclass(frozen=True)
class GuestConfig:
    """Everything an agent knows when it starts. Holds no secret: keys are files it names.

    `memory_mb` is what the flavor gives the database server, MiB; `uid` and `gid` the account it runs under.
    `tls_*` name the server certificate shown to database clients, `rpc_*` the guest's own identity. The agent listens at
    `rpc_address`, or where the database server does. With a `unit` the server runs in a systemd scope of that name.
    """

    instance_id: str
    engine: str
    version: str
    address: str
    port: int
    memory_mb: int
    vcpus: int
    uid: int
    gid: int
    bundle: str
    template: str
    volume: str
    etc: str
    run: str
    logs: str
    conductor_url: str
    rpc_ca: str
    rpc_certificate: str
    rpc_key: str
    tls_ca: str
    tls_certificate: str
    tls_key: str
    rpc_port: int = RPC_PORT
    rpc_address: str = ""
    unit: str = ""

    def write(self, path: Path) -> None:
        temporary = path.with_suffix(".new")
        temporary.write_text(json.dumps(asdict(self), indent=1))
        temporary.replace(path)

    @classmethod
    def read(cls, path: Path) -> GuestConfig:
        """Unknown keys are left out, so that an older agent starts under a newer control plane."""
        stored = json.loads(path.read_text())
        return cls(**{key: value for key, value in stored.items() if key in cls.__dataclass_fields__})
