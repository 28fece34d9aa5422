"""What a guest tells the conductor: POST /v1/reports, numbered, so that an older one is dropped."""

from __future__ import annotations

import http.client
import ssl
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict

PATH = "/v1/reports"


class GuestEvent(BaseModel):
    """Something that happened to the database server, such as a crash."""

    model_config = ConfigDict(extra="ignore")
    kind: str
    message: str


class GuestReport(BaseModel):
    """A guest's word on its database server; `service` is a `domain.status.Service`."""

    model_config = ConfigDict(extra="ignore")
    instance_id: str
    number: int
    service: str
    volume_used_bytes: int | None = None
    server_version: str | None = None
    restart_required: bool = False
    events: list[GuestEvent] = []


class ConductorClient:
    """Sends reports. On the standard library's HTTP client: every megabyte here is paid per instance."""

    def __init__(self, url: str, context: ssl.SSLContext, *, timeout_s: float = 5) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port or 443
        self._context = context
        self._timeout_s = timeout_s

    def send(self, report: GuestReport) -> None:
        """Raises OSError when the conductor cannot be reached or refuses."""
        connection = http.client.HTTPSConnection(
            self._host, self._port, context=self._context, timeout=self._timeout_s
        )
        try:
            connection.request(
                "POST",
                PATH,
                report.model_dump_json(),
                {"Content-Type": "application/json", "Connection": "close"},
            )
            answer = connection.getresponse()
            text = answer.read(1000)
        except http.client.HTTPException as error:
            raise ConnectionError(str(error)) from error
        finally:
            connection.close()
        if answer.status != 204:
            raise ConnectionError(f"the conductor answered {answer.status}: {text.decode(errors='replace')}")
