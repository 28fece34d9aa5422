"""/limits: how much a project may have."""

from __future__ import annotations

from typing import Any

from argosy.api.call import Asked
from argosy.api.route import faults, resource
from argosy.api.v1 import shapes

router = resource("limits")


@router.get("/limits", response_model=shapes.Limits, responses=faults())
def list_limits(call: Asked) -> dict[str, Any]:
    """The project's quotas, first and named ABSOLUTE, -1 being unlimited; then how often it may ask, if that is limited."""
    call.allow("limits:index")
    with call.read() as tx:
        quotas = tx.quotas.of(call.project_id)
    absolute = {f"max_{quota.resource}": quota.limit for quota in quotas.values()}
    rates = call.parts.rates.shown(call.project_id) if call.parts.rates else []
    return {"limits": [{"verb": "ABSOLUTE", **absolute}, *rates]}
