"""What a guest tells the conductor: POST /v1/reports, numbered, so that an older one is dropped."""

from __future__ import annotations

import http
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
    # None when the volume has no file system of its own.
    volume_size_bytes: int | None = None
    server_version: str | None = None
    restart_required: bool = False
    release: int = 1
    # Why the values of the configuration group are not the ones in force, when the server does not start with them.
    configuration_error: str | None = None
    events: list[GuestEvent] = []


class ConductorClient:
    """Sends reports, one at a time, over a connection that is kept from one heartbeat to the next.

    On the standard library's HTTP client: every megabyte here is paid per instance.
    """

    def __init__(self, url: str, context: ssl.SSLContext, *, timeout_s: float = 5) -> None:
        parts = urlsplit(url)
        self._connection = http.client.HTTPSConnection(
            parts.hostname or "", parts.port or 443, context=context, timeout=timeout_s
        )

    def send(self, report: GuestReport) -> None:
        """Raises OSError when the conductor cannot be reached or refuses."""
        text = report.model_dump_json()
        kept = self._connection.sock is not None
        try:
            status, said = self._post(text)
        except (ConnectionError, ssl.SSLError):
            if not kept:
                raise
            # A conductor that was started anew knows nothing of a kept connection. A second report is harmless.
            status, said = self._post(text)
        if status != http.HTTPStatus.NO_CONTENT:
            self._connection.close()
            raise ConnectionError(f"the conductor answered {status}: {said.decode(errors='replace')}")

    def close(self) -> None:
        self._connection.close()

    def _post(self, text: str) -> tuple[int, bytes]:
        try:
            self._connection.request("POST", PATH, text, {"Content-Type": "application/json"})
            answer = self._connection.getresponse()
            return answer.status, answer.read()
        except http.client.HTTPException as error:
            self._connection.close()
            raise ConnectionError(str(error)) from error
        except OSError:
            self._connection.close()
            raise
