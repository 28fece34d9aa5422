"""/limits: how much a project may have."""

from __future__ import annotations

from typing import Any

from argosy.api.call import Asked
from argosy.api.route import faults, resource
from argosy.api.v1 import shapes

router = resource("limits")

UNLIMITED = -1


@router.get("/limits", response_model=shapes.Limits, responses=faults())
def list_limits(call: Asked) -> dict[str, Any]:
    """What is enforced: no quota and no rate is, so all there is to tell is that these are unlimited."""
    call.allow("limits:index")
    absolute = dict.fromkeys(("max_instances", "max_volumes", "max_backups", "max_ram"), UNLIMITED)
    return {"limits": [{"verb": "ABSOLUTE", **absolute}]}
