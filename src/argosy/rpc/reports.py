"""What a guest tells the conductor: POST /v1/reports, numbered, so that an older one is dropped."""

from __future__ import annotations

import http
import http.client
import ssl
from urllib.parse import urlsplit

from pydantic import AwareDatetime, BaseModel, ConfigDict

from argosy.domain.errors import Conflict
from argosy.rpc import segments
from argosy.rpc.conductors import Conductors

PATH = "/v1/reports"


class GuestEvent(BaseModel):
    """Something that happened to the database server, such as a crash."""

    model_config = ConfigDict(extra="ignore")
    kind: str
    message: str


class LogReport(BaseModel):
    """How far the archive of the server's log is: `lag_bytes` wait in finished segments, everything until `until` is in it.

    `error` says why it cannot be archived now.
    """

    model_config = ConfigDict(extra="ignore")
    archive_id: str
    lag_bytes: int
    until: AwareDatetime | None = None
    error: str | None = None


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
    agent: str = ""  # digest of its agent's code, see rpc/agent_code.py
    # Why the values of the configuration group are not the ones in force, when the server does not start with them.
    configuration_error: str | None = None
    events: list[GuestEvent] = []
    log: LogReport | None = None


class ConductorClient:
    """Sends reports, one at a time, over a connection that is kept from one heartbeat to the next.

    Where guests are told several conductors, the next is asked when one does not answer, or cannot. On the standard
    library's HTTP client: every megabyte here is paid per instance.
    """

    def __init__(self, url: str, context: ssl.SSLContext, *, timeout_s: float = 5) -> None:
        self._conductors = Conductors(url)
        self._context = context
        self._timeout_s = timeout_s
        self._asked = self._conductors.current
        self._connection = self._connect()

    def send(self, report: GuestReport) -> None:
        """Raises OSError when the conductor cannot be reached or refuses."""
        status, said = self._tell(PATH, report.model_dump_json())
        if status != http.HTTPStatus.NO_CONTENT:
            raise self._refused(status, said)

    def tell_segment(self, told: segments.SegmentTold) -> segments.SegmentsKnown:
        """Raises OSError as above, and Conflict when this archive has ended."""
        status, said = self._tell(segments.PATH, told.model_dump_json())
        if status == http.HTTPStatus.CONFLICT:
            raise Conflict("This archive of the log has ended.", code="archive-ended")
        if status != http.HTTPStatus.OK:
            raise self._refused(status, said)
        return segments.SegmentsKnown.model_validate_json(said)

    def close(self) -> None:
        self._connection.close()

    def _connect(self) -> http.client.HTTPSConnection:
        parts = urlsplit(self._asked)
        return http.client.HTTPSConnection(
            parts.hostname or "", parts.port or 443, context=self._context, timeout=self._timeout_s
        )

    def _tell(self, path: str, text: str) -> tuple[int, bytes]:
        for others in reversed(range(len(self._conductors))):
            try:
                status, said = self._tell_one(path, text)
            except OSError:
                self._pass_over()
                if not others:
                    raise
                continue
            if status >= http.HTTPStatus.INTERNAL_SERVER_ERROR:
                self._pass_over()
                if others:
                    continue
            break
        return status, said

    def _pass_over(self) -> None:
        if len(self._conductors) > 1:
            self._connection.close()
            self._conductors.pass_over(self._asked)
            self._asked = self._conductors.current
            self._connection = self._connect()

    def _tell_one(self, path: str, text: str) -> tuple[int, bytes]:
        kept = self._connection.sock is not None
        try:
            return self._post(path, text)
        except (ConnectionError, ssl.SSLError):
            if not kept:
                raise
            # A conductor that was started anew knows nothing of a kept connection. Being told twice is harmless.
            return self._post(path, text)

    def _refused(self, status: int, said: bytes) -> ConnectionError:
        self._connection.close()
        return ConnectionError(f"the conductor answered {status}: {said.decode(errors='replace')}")

    def _post(self, path: str, text: str) -> tuple[int, bytes]:
        try:
            self._connection.request("POST", path, text, {"Content-Type": "application/json"})
            answer = self._connection.getresponse()
            return answer.status, answer.read()
        except http.client.HTTPException as error:
            self._connection.close()
            raise ConnectionError(str(error)) from error
        except OSError:
            self._connection.close()
            raise
