"""An HTTPS server for an ASGI application, with mutual TLS, that says who the caller is.

The application finds the caller's verified name in `scope["extensions"]["argosy.peer"]`.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from argosy.rpc.tls import common_name

PEER = "argosy.peer"
_BACKLOG = 1024
_KEEP_S = 30  # longer than from one heartbeat to the next: a handshake costs both sides milliseconds


class _PeerProtocol(H11Protocol):
    """uvicorn tells an application nothing of the client's certificate; this puts its name into the scope."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # uvicorn's own signature
        super().connection_made(transport)
        tls = transport.get_extra_info("ssl_object")
        peer = common_name(tls.getpeercert()) if tls is not None else None
        application = self.app

        async def with_peer(scope: Any, receive: Any, send: Any) -> None:
            scope.setdefault("extensions", {})[PEER] = peer
            await application(scope, receive, send)

        self.app = with_peer

    def shutdown(self) -> None:
        # A caller that keeps an idle connection does not hear our goodbye, and we would wait for its answer.
        if self.cycle is None or self.cycle.response_complete:
            self.transport.abort()
        else:
            super().shutdown()


class TlsServer:
    """The application served in a thread of its own."""

    def __init__(self, app: Any, host: str, port: int, context: ssl.SSLContext) -> None:
        config = uvicorn.Config(
            app,
            host=host,
            port=port,
            http=_PeerProtocol,
            ws="none",
            lifespan="off",
            loop="asyncio",
            log_config=None,
            access_log=False,
            timeout_keep_alive=_KEEP_S,
            timeout_graceful_shutdown=3,
        )
        config.load()
        config.ssl = context
        self._server = uvicorn.Server(config)
        self._address = (host, port)
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Return when callers can connect; the first ones may wait a moment. Raises OSError when it cannot listen."""
        host, port = self._address
        try:
            listener = socket.create_server((host, port), backlog=_BACKLOG)
        except OSError as error:
            raise OSError(f"cannot listen at {host}:{port}: {error.strerror}") from error
        self._thread = threading.Thread(target=self._run, args=(listener,), name=f"https-{port}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._server.should_exit = True
        if self._thread is not None:
            self._thread.join(10)

    def _run(self, listener: socket.socket) -> None:
        with listener:
            self._server.run(sockets=[listener])
