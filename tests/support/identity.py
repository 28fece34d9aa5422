"""The built-in identity behind a real HTTP server, on a fresh database."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import uvicorn
from argon2 import PasswordHasher
from fastapi import FastAPI
from sqlalchemy import Engine
from starlette.types import ASGIApp, Receive, Scope, Send

from argosy.api.identity import identity_router
from argosy.identity import Directory, Identity, ensure_bootstrap
from argosy.identity.passwords import Passwords
from argosy.metadata.accounts import Accounts
from argosy.metadata.store import create_engine
from argosy.metadata.tables import metadata

_STARTS_WITHIN_S = 30


@dataclass
class Home:
    """A fresh home's identity; `passwords` are those of the users `demo` and `admin`."""

    app: FastAPI
    identity: Identity
    directory: Directory
    passwords: dict[str, str]


@contextmanager
def fresh_home(folder: Path) -> Iterator[Home]:
    database, passwords = _new_database()
    path = folder / "identity.sqlite"
    path.write_bytes(database)
    engine = create_engine(f"sqlite:///{path}")
    identity, directory = _on(engine)
    app = FastAPI()
    app.include_router(identity_router(identity, directory))
    try:
        yield Home(app, identity, directory, dict(passwords))
    finally:
        engine.dispose()


@cache
def _new_database() -> tuple[bytes, dict[str, str]]:
    """Made once for all tests, which get a copy each."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "identity.sqlite"
        engine = create_engine(f"sqlite:///{path}")
        tables = [table for table in metadata.sorted_tables if table.name.startswith("identity_")]
        metadata.create_all(engine, tables=tables)
        _, directory = _on(engine)
        passwords: dict[str, str] = {}
        ensure_bootstrap(directory, passwords.update)
        engine.dispose()
        return path.read_bytes(), passwords


def _on(engine: Engine) -> tuple[Identity, Directory]:
    store = Accounts(engine)
    cheap = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)
    identity = Identity(store, passwords=Passwords(cheap))
    return identity, Directory(store, identity)


class Server:
    """A real HTTP server whose application a test may exchange: starting one costs far more than a fresh home."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.app: ASGIApp = FastAPI()


@contextmanager
def running_server(
    host: str = "127.77.240.1", certificate: tuple[Path, Path] | None = None
) -> Iterator[Server]:
    """With a certificate and its key, by TLS."""

    async def present(scope: Scope, receive: Receive, send: Send) -> None:
        await served.app(scope, receive, send)

    # It keeps an idle connection for longer than its clients do, as the API does.
    config = uvicorn.Config(
        present, host=host, port=0, log_level="warning", lifespan="off", timeout_keep_alive=75
    )
    if certificate is not None:
        config.ssl_certfile, config.ssl_keyfile = certificate
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        deadline = time.monotonic() + _STARTS_WITHIN_S
        while not server.started:
            assert thread.is_alive(), "the server did not start"
            assert time.monotonic() < deadline, "the server did not start in time"
            time.sleep(0.005)
        port = server.servers[0].sockets[0].getsockname()[1]
        served = Server(f"{'https' if certificate else 'http'}://{host}:{port}")
        yield served
    finally:
        server.should_exit = True
        thread.join()
