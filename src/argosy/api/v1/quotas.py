"""/mgmt/quotas: what a project may have and has; administrators change it."""

from __future__ import annotations

from typing import Any

from argosy.api.call import Asked
from argosy.api.route import faults, resource
from argosy.api.v1 import shapes
from argosy.api.v1.bodies import Body
from argosy.domain.errors import Invalid, NotFound
from argosy.domain.quotas import DEFAULTS, HIGHEST, UNLIMITED

router = resource("quotas")

_QUOTAS = "/mgmt/quotas/{of_project}"


class QuotasBody(Body):
    """Limits by resource: instances, ram (MB), volumes (GB), backups. -1 is unlimited, null leaves one as it is."""

    quotas: dict[str, Any]


@router.get(_QUOTAS, response_model=shapes.Quotas, responses=faults(404))
def show_quotas(call: Asked, of_project: str) -> dict[str, Any]:
    """What a project has and may have; of another project for administrators alone.

    `reserved` is what its running operations may still take.
    """
    call.allow("quota:show", project_id=of_project)
    call.parts.identity.check_project(of_project)
    with call.read() as tx:
        quotas = tx.quotas.of(of_project)
    return {
        "quotas": [
            {
                "resource": quota.resource,
                "in_use": quota.in_use,
                "reserved": quota.reserved,
                "limit": quota.limit,
            }
            for quota in quotas.values()
        ]
    }


@router.put(_QUOTAS, response_model=shapes.ChangedQuotas, responses=faults(400, 401, 404, 415))
def change_quotas(call: Asked, of_project: str, body: QuotasBody) -> dict[str, Any]:
    """Give a project limits of its own; answers those changed. What it has already stays, above the limit too."""
    call.allow_management("quota:update")
    call.parts.identity.check_project(of_project)
    limits = {name: _limit(name, value) for name, value in body.quotas.items() if value is not None}
    with call.write() as tx:
        tx.quotas.set(of_project, limits)
        for name, limit in limits.items():
            shown = "unlimited" if limit == UNLIMITED else limit
            message = f"The quota of {name} is {shown} now."
            tx.events.add(of_project, None, "quota.changed", message, call.caller.user_name)
    return {"quotas": limits}


def _limit(name: str, value: Any) -> int:
    """Raises NotFound for a resource there is no quota of, Invalid for what is no limit."""
    if name not in DEFAULTS:
        raise NotFound(f"There is no quota of {name[:64]!r}: choose one of {', '.join(DEFAULTS)}.")
    if isinstance(value, bool) or not isinstance(value, int) or not UNLIMITED <= value <= HIGHEST:
        raise Invalid(
            f"Validation error: quotas.{name}: it must be a whole number from 0 to {HIGHEST}, or -1 for unlimited."
        )
    return value
