"""/certificate-authority: who signs the certificates that database servers show."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from argosy.api.call import Asked
from argosy.api.route import faults, resource
from argosy.api.v1 import shapes

router = resource("certificates")


@router.get("/certificate-authority", response_model=shapes.ShownAuthority, responses=faults())
def show_certificate_authority(call: Asked) -> dict[str, Any] | Response:
    """The certificate, as PEM, with which clients verify every database server; bare for `Accept: text/plain`."""
    call.allow("certificate_authority:show")
    if call.request.headers.get("accept", "").startswith("text/plain"):
        return Response(call.parts.database_ca, media_type="text/plain")
    return {"certificate_authority": {"pem": call.parts.database_ca}}
