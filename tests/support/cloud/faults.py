"""What goes wrong on demand: the next calls of a route are refused, hang, or are cut off after they acted."""

from __future__ import annotations

import json
import re
import threading
from dataclasses import dataclass
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send


@dataclass
class Fault:
    """Of `times` calls whose method and path match, once `after` of them went well.

    `acts` says whether the service does what was asked.
    """

    method: str
    path: re.Pattern[str]
    times: int
    status: int | None = None
    message: str = ""
    retry_after: str | None = None
    acts: bool = False
    hangs: bool = False
    after: int = 0
    met: int = 0


class Faults:
    """Used by the test's thread; asked by the server's."""

    def __init__(self) -> None:
        self._planned: list[Fault] = []
        self._lock = threading.Lock()
        self.calls: list[str] = []  # every one, as "METHOD /path"

    def refuse(
        self,
        route: str,
        status: int,
        *,
        times: int = 1,
        retry_after: int | None = None,
        message: str = "",
        acts: bool = False,
    ) -> Fault:
        """Answer the next calls of `route` by `status`, when `acts` after having done what they ask.

        A route is a method (or *) and a regular expression for the end of a path, as in "POST /servers".
        """
        wait = None if retry_after is None else str(retry_after)
        return self._plan(route, Fault("", re.compile(""), times, status, message, wait, acts))

    def cut(self, route: str, *, times: int = 1, acts: bool = True, after: int = 0) -> Fault:
        """Close the connection in the place of an answer."""
        return self._plan(route, Fault("", re.compile(""), times, acts=acts, after=after))

    def hang(self, route: str, *, times: int = 1, acts: bool = True) -> Fault:
        """Never answer: the caller has to give up."""
        return self._plan(route, Fault("", re.compile(""), times, acts=acts, hangs=True))

    def forget(self) -> None:
        with self._lock:
            self._planned.clear()
            self.calls.clear()

    def _plan(self, route: str, fault: Fault) -> Fault:
        fault.method, _, path = route.partition(" ")
        fault.path = re.compile(path + "$")
        with self._lock:
            self._planned.append(fault)
        return fault

    def meet(self, method: str, path: str) -> Fault | None:
        with self._lock:
            self.calls.append(f"{method} {path}")
            for fault in self._planned:
                if fault.met < fault.times and fault.method in {"*", method} and fault.path.search(path):
                    if fault.after:
                        fault.after -= 1
                        continue
                    fault.met += 1
                    return fault
        return None

    def count(self, route: str) -> int:
        """How many calls of a route there were, refused ones too."""
        method, _, path = route.partition(" ")
        ending = re.compile(path + "$")
        with self._lock:
            calls = [call.split(" ", 1) for call in self.calls]
        return sum(method in {"*", called} and bool(ending.search(where)) for called, where in calls)


async def _read(receive: Receive) -> Receive:
    """The whole request, so that it can be acted on whatever becomes of its connection."""
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    rest = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return rest.pop() if rest else {"type": "http.disconnect"}

    return again


class Faulty:
    """The cloud's outermost layer, which makes the faults happen."""

    def __init__(self, app: ASGIApp, faults: Faults) -> None:
        self._app, self._faults = app, faults

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        fault = None
        if scope["type"] == "http":
            fault = self._faults.meet(scope["method"], scope["path"])
        if fault is None:
            await self._app(scope, receive, send)
            return
        request = await _read(receive)
        if fault.acts:

            async def swallow(message: Message) -> None:
                """The service believes to have answered."""

            await self._app(scope, request, swallow)
        if fault.hangs:
            await self._wait_until_gone(receive)
            return
        if fault.status is None:
            # There is no ASGI message for this; `send` is a method of uvicorn's request, which has the connection.
            cycle: Any = send.__self__  # type: ignore[attr-defined]
            cycle.transport.abort()
            await self._wait_until_gone(receive)
            return
        headers = [(b"content-type", b"application/json")]
        if fault.retry_after is not None:
            headers.append((b"retry-after", fault.retry_after.encode()))
        await send({"type": "http.response.start", "status": fault.status, "headers": headers})
        said = {"error": {"code": fault.status, "message": fault.message or "A fault of the test's making."}}
        await send({"type": "http.response.body", "body": json.dumps(said).encode()})

    async def _wait_until_gone(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
