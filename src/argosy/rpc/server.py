"""An HTTPS server for an ASGI application, with mutual TLS, that says who the caller is.

The application finds the caller's verified name in `scope["extensions"]["argosy.peer"]`.
"""

from __future__ import annotations

import asyncio
import ssl
import threading
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from argosy.rpc.tls import common_name

PEER = "argosy.peer"


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
            timeout_graceful_shutdown=3,
        )
        config.load()
        config.ssl = context
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._run, name=f"https-{port}", daemon=True)
        self._address = f"{host}:{port}"
        self._failure: BaseException | None = None

    def start(self, timeout_s: float = 20) -> None:
        """Return when the server listens. Raises OSError when it cannot."""
        self._thread.start()
        waiting = threading.Event()
        for _ in range(int(timeout_s * 200)):
            if self._server.started:
                return
            if not self._thread.is_alive():
                break
            waiting.wait(0.005)
        raise OSError(f"cannot listen at {self._address}: {self._failure or 'it is in use, or not ours'}")

    def stop(self) -> None:
        self._server.should_exit = True
        self._thread.join(10)

    def _run(self) -> None:
        try:
            self._server.run()
        except (Exception, SystemExit) as error:  # noqa: BLE001 - told by start()
            self._failure = error
