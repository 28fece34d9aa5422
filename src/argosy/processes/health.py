"""Whether a process can do its work, told to balancers and probes: GET /healthz over plain HTTP, 200 or 503.

For conductors and task managers, which answer nobody without a certificate, or nobody at all. Tells no secret.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PATH = "/healthz"


class HealthServer:
    """`ask` returns facts, of which `ready` decides."""

    def __init__(self, host: str, port: int, ask: Callable[[], dict[str, Any]]) -> None:
        """Raises OSError when it cannot listen."""

        class Handler(BaseHTTPRequestHandler):
            timeout = 10

            def do_GET(self) -> None:
                if self.path != PATH:
                    self.send_error(HTTPStatus.NOT_FOUND)
                    return
                facts = ask()
                content = json.dumps(facts).encode()
                self.send_response(HTTPStatus.OK if facts["ready"] else HTTPStatus.SERVICE_UNAVAILABLE)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                with suppress(ConnectionError):  # a balancer may look at the status alone
                    self.wfile.write(content if self.command == "GET" else b"")

            do_HEAD = do_GET  # noqa: N815 - the standard library's name

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its signature
                pass  # a line a second from each balancer

        try:
            self._server = ThreadingHTTPServer((host, port), Handler)
        except OSError as error:
            raise OSError(f"cannot listen at {host}:{port}: {error.strerror}") from error
        self._thread = threading.Thread(target=self._server.serve_forever, name="health", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
