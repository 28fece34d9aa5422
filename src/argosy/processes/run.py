"""Running parts of the control plane in this process until it is told to end."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any, NoReturn

import structlog
import uvicorn

from argosy.processes import clouds, home
from argosy.processes.control_plane import ControlPlane
from argosy.settings import Settings

log = structlog.get_logger()


def run(settings: Settings, parts: tuple[str, ...]) -> NoReturn:
    """Ends the process when it is told to. Raises home.Running when another process of this home has one of the parts."""
    _log_as_json()
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    hold = home.Hold(settings.home, parts)
    plane = ControlPlane(settings)
    started: list[Any] = []
    try:
        # Guests report to the conductor and operations need the task manager: users come last.
        if "conductor" in parts:
            started.append(plane.conductor_server())
            started[-1].start()
        if "taskmanager" in parts:
            started.append(plane.task_manager())
            started[-1].start()
        if "api" in parts:
            started.append(_ApiServer(plane.api(), *settings.api_listen, ending=plane.end_streams))
            started[-1].start()
        hold.say({"ready": True, "welcome": welcome(settings)})
        log.info("ready", parts=parts, home=str(settings.home))
        if "api" in parts and sys.stdout.isatty():
            print(welcome(settings))  # noqa: T201 - for the person at the terminal
        ended.wait()
    finally:
        for part in reversed(started):
            part.stop()
        log.info("ended", parts=parts)
    # Workflows are made to be interrupted at any line, and taken up by the next process. Taking the database
    # away from under them in an orderly way would look to them like failure.
    logging.shutdown()
    os._exit(0)


def welcome(settings: Settings) -> str:
    """What a user wants to know when it is up."""
    endpoint = settings.api.public_endpoint or f"http://{settings.api.listen}"
    return "\n".join(
        [
            f"Argosy is up. Home: {settings.home}",
            f"  API        {endpoint}/v1.0   docs {endpoint}/docs",
            f"  Identity   {endpoint}/identity/v3",
            f"  Clients    export OS_CLIENT_CONFIG_FILE={clouds.path(settings.home)} OS_CLOUD=argosy",
        ]
    )


class _ApiServer:
    """The API in a thread of its own."""

    def __init__(self, app: Any, host: str, port: int, *, ending: Callable[[], None]) -> None:
        """`ending` is called first when it stops."""
        config = uvicorn.Config(
            app,
            host=host,
            port=port,
            loop="uvloop",
            http="httptools",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            # Who asks is who connects: believing X-Forwarded-For would let a guesser of passwords be many.
            proxy_headers=False,
            timeout_graceful_shutdown=3,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._serve, name="api", daemon=True)
        self._ending = ending
        self._where = f"{host}:{port}"

    def start(self) -> None:
        """Return when it listens. Raises OSError when it cannot."""
        self._thread.start()
        pause = threading.Event()
        while not self._server.started:
            if not self._thread.is_alive():
                raise OSError(f"cannot listen at {self._where}: the address is in use or not this machine's")
            pause.wait(0.005)

    def stop(self) -> None:
        self._ending()
        self._server.should_exit = True
        self._thread.join(10)

    def _serve(self) -> None:
        try:
            self._server.run()
        except SystemExit:
            # uvicorn's way to say that it cannot listen; start() tells.
            log.warning("api cannot listen", address=self._where)


def _log_as_json() -> None:
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s %(message)s")
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(),
        ]
    )
