"""What a machine's guest asks of the conductor about itself: to be enrolled, what it is, its agent's code.

On the standard library's HTTP client, as `rpc.reports` is, and over a connection for each question: they are rare.
"""

from __future__ import annotations

import http.client
import json
import ssl
from http import HTTPStatus
from urllib.parse import urlsplit

from argosy.domain.errors import Failed
from argosy.domain.guest import Told
from argosy.rpc import agent_code, enrolment
from argosy.rpc.conductors import Conductors


class Refused(Failed):
    """The conductor answers, and will not."""

    code = "refused-by-conductor"


class Conductor:
    """One of several, when `urls` has commas between: each will do."""

    def __init__(self, urls: str, context: ssl.SSLContext, *, timeout_s: float = 10) -> None:
        self._conductors = Conductors(urls)
        self._context = context
        self._timeout_s = timeout_s

    def enrol(self, asked: enrolment.Enrol) -> enrolment.Enrolled:
        """Raises OSError while no conductor answers, and Refused."""
        said = self._ask("POST", enrolment.ENROL, asked.model_dump_json())
        return enrolment.Enrolled.model_validate_json(said)

    def told(self) -> Told:
        """Raises as `enrol` does."""
        return Told.of(_object(self._ask("GET", enrolment.TOLD)))

    def code(self) -> bytes:
        """The agent's code of the conductor's release, packed. Raises as `enrol` does."""
        return self._ask("GET", agent_code.CODE)

    def _ask(self, method: str, path: str, text: str | None = None) -> bytes:
        away: OSError = ConnectionError("no conductor is known")
        for _ in range(len(self._conductors)):
            url = self._conductors.current
            try:
                status, said = self._one(url, method, path, text)
            except OSError as error:
                away = error
                self._conductors.pass_over(url)
                continue
            if status == HTTPStatus.OK:
                return said
            words = f"the conductor answered {status}: {said.decode(errors='replace')[:500]}"
            if status < HTTPStatus.INTERNAL_SERVER_ERROR:
                raise Refused(f"{words[0].upper()}{words[1:]}.")
            away = ConnectionError(words)
            self._conductors.pass_over(url)
        raise away

    def _one(self, url: str, method: str, path: str, text: str | None) -> tuple[int, bytes]:
        parts = urlsplit(url)
        connection = http.client.HTTPSConnection(
            parts.hostname or "", parts.port or 443, context=self._context, timeout=self._timeout_s
        )
        try:
            headers = {} if text is None else {"Content-Type": "application/json"}
            connection.request(method, path, text, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except http.client.HTTPException as error:
            raise ConnectionError(str(error) or type(error).__name__) from error
        finally:
            connection.close()


def _object(text: bytes) -> dict[str, object]:
    found = json.loads(text)
    if not isinstance(found, dict):
        raise ConnectionError("the conductor told something that is no object")
    return found
