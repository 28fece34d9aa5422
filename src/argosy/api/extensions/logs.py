"""/instances/{id}/logs/{name}/lines: the lines of a log as they are written, for following it."""

from __future__ import annotations

from typing import Any

from argosy.api.call import Asked, number
from argosy.api.route import faults, resource
from argosy.api.v1 import shapes
from argosy.api.v1.logs import check_name
from argosy.domain.logs import SYSTEM
from argosy.rpc import messages

router = resource("logs")

LINES, LINES_MAX = 100, 10_000
BYTES = 1_000_000


@router.get(
    "/instances/{instance_id}/logs/{name}/lines",
    response_model=shapes.LogLines,
    responses=faults(400, 404, 503),
    openapi_extra=shapes.OF_A_LOG,
)
def read_lines(call: Asked, instance_id: str, name: str) -> dict[str, Any]:
    """Lines from `position` on, or the last `lines` of them; ask again from `next` to follow the log.

    `end` is where the log ends now: there is more at once while `next` is not that. `missed` says that what was
    asked for has been rotated away. An owner reads the error log here, the guest's own is for administrators.
    """
    call.allow(f"instance:log:read:{name}" if name in SYSTEM else "instance:log:read")
    instance = call.instance(instance_id)
    check_name(call, instance, name)
    position, lines = call.asks("position"), call.asks("lines")
    asked = messages.ReadLog(
        name=name,
        position=None if position is None else number(position, "position", least=0),
        last=LINES if lines is None else min(number(lines, "lines", least=0), LINES_MAX),
        limit=BYTES,
    )
    part = call.guest(instance, asked)
    return {
        "lines": {
            "text": part.text,
            "position": part.position,
            "next": part.next,
            "end": part.log.ends,
            "missed": part.missed,
        }
    }
