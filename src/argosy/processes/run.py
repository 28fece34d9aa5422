"""Running parts of the control plane in this process until it is told to end."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, NoReturn

import structlog
import uvicorn

import argosy
from argosy.processes import clouds, home
from argosy.processes.control_plane import ControlPlane
from argosy.processes.health import HealthServer
from argosy.settings import Settings, split

log = structlog.get_logger()

# Longer than clients keep an idle connection (httpx: 5 s, uvicorn's own too): who closes it first must be the one that
# asks, or a question that is just on its way when it is closed is lost.
_KEEP_S = 75


def run(settings: Settings, parts: tuple[str, ...], *, migrates: bool) -> NoReturn:
    """Ends the process when it is told to. Raises home.Running when another process of this home has one of the parts.

    `migrates` brings an older database to this release.
    """
    _log_as_json()
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    hold = home.Hold(settings.home, parts)
    plane = ControlPlane(settings, migrates=migrates)
    started: list[Any] = []
    try:
        # Guests report to the conductor and operations need the task manager: users come last.
        if "conductor" in parts:
            started.append(plane.conductor_server())
            started[-1].start()
            _tell_health(started, settings.conductor.health_listen, lambda: _health(plane, "conductor"))
        if "taskmanager" in parts:
            manager = plane.task_manager(ran_before="taskmanager" in hold.ran_before)
            started.append(manager)
            manager.start()
            _tell_health(started, settings.taskmanager.health_listen, lambda: _health_of(plane, manager))
        if "api" in parts:
            started.append(_ApiServer(plane, settings))
            started[-1].start()
        hold.say({"ready": True, "endpoint": settings.api_endpoint, "welcome": welcome(settings)})
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


def _tell_health(started: list[Any], listen: str | None, ask: Callable[[], dict[str, Any]]) -> None:
    if listen is not None:
        started.append(HealthServer(*split(listen), ask))
        started[-1].start()


def _health(plane: ControlPlane, part: str) -> dict[str, Any]:
    return {"part": part, "release": argosy.__version__, "ready": plane.store.answers()}


def _health_of(plane: ControlPlane, manager: Any) -> dict[str, Any]:
    """Of a task manager, which is not well while the others may think it lost."""
    told = _health(plane, "taskmanager")
    member = manager.membership
    return {**told, "id": member.id, "leads": member.leads, "ready": told["ready"] and member.is_well}


def welcome(settings: Settings) -> str:
    """What a user wants to know when it is up."""
    endpoint = settings.api_endpoint
    where, clients = (
        f"{endpoint}/identity/v3",
        f"OS_CLIENT_CONFIG_FILE={clouds.path(settings.home)} OS_CLOUD=argosy",
    )
    if settings.identity == "keystone":
        where = f"Keystone, {settings.keystone.public_url or settings.keystone.auth_url}"
        clients = "OS_CLOUD=(a cloud of that Keystone)"
    return "\n".join(
        [
            f"Argosy is up. Home: {settings.home}",
            f"  API        {endpoint}/v1.0   docs {endpoint}/docs",
            f"  Identity   {where}",
            f"  Clients    export {clients}",
        ]
    )


class _ApiServer:
    """The API in a thread of its own."""

    def __init__(self, plane: ControlPlane, settings: Settings) -> None:
        host, port = settings.api_listen
        config = uvicorn.Config(
            plane.api(),
            host=host,
            port=port,
            loop="uvloop",
            http="httptools",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            # Who asks is who connects: believing X-Forwarded-For would let a guesser of passwords be many.
            proxy_headers=bool(settings.api.trusted_proxies),
            forwarded_allow_ips=[str(one) for one in settings.api.trusted_proxies],
            timeout_keep_alive=_KEEP_S,
            timeout_graceful_shutdown=3,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._serve, name="api", daemon=True)
        self._plane = plane
        self._drain_s = settings.api.drain_s
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
        self._plane.api_ending.set()
        time.sleep(self._drain_s)
        self._plane.end_streams()
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
