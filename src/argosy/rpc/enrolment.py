"""How a machine's guest comes by its identity, and learns what it is to be.

By the config drive a machine is told where the conductor is, and given an identity that is good for one enrolment: other
programs of the machine may read what is there, today or later. The guest makes keys of its own, which never leave it,
and has them signed: POST ENROL. The first key that asks with a bootstrap identity is the only one that may, so a guest
that died before it had stored the answer asks again with the same key. Then it is told what it is at each boot: GET TOLD.
"""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel, ConfigDict

ENROL = "/v1/enrol"
TOLD = "/v1/told"
BOOTSTRAP_DAYS = 1.0  # a cloud may take its time to boot a machine
FORMAT = 1


class Enrol(BaseModel):
    """PEM certificate signing requests, of which only the keys count."""

    model_config = ConfigDict(extra="ignore")
    rpc_request: str
    tls_request: str


class Enrolled(BaseModel):
    """`told` is a `domain.guest.Told`; all else is PEM: the guest's identity, and what its database server shows."""

    model_config = ConfigDict(extra="ignore")
    told: dict[str, Any]
    rpc_ca: str
    rpc_certificate: str
    tls_ca: str
    tls_certificate: str


class Bootstrap(BaseModel):
    """The user data of a machine."""

    model_config = ConfigDict(extra="ignore")
    argosy: int
    instance_id: str
    conductor_url: str
    ca: str
    certificate: str
    key: str

    def text(self) -> str:
        return json.dumps(self.model_dump())
