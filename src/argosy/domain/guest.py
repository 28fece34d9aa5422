"""What a guest is told at boot, by a file (local) or a config drive (OpenStack)."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

RPC_PORT = 8790  # the agent's, on the instance's own address
# Moves when agents learn a call that the control plane counts on: those of an older release are renewed.
RELEASE = 3


@dataclass(frozen=True)
class GuestConfig:
    """Everything an agent knows when it starts. Holds no secret: keys are files it names.

    `memory_mb` is what the flavor gives the database server, MiB; `uid` and `gid` the account it runs under.
    `tls_*` name the server certificate shown to database clients, `rpc_*` the guest's own identity.
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

    def write(self, path: Path) -> None:
        temporary = path.with_suffix(".new")
        temporary.write_text(json.dumps(asdict(self), indent=1))
        temporary.replace(path)

    @classmethod
    def read(cls, path: Path) -> GuestConfig:
        """Unknown keys are left out, so that an older agent starts under a newer control plane."""
        stored = json.loads(path.read_text())
        return cls(**{key: value for key, value in stored.items() if key in cls.__dataclass_fields__})
