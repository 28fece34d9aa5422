"""A request whose body, or answer, is of any size: read and written in parts by a thread, as ASGI's servers let it.

What the other side is slow to send or take is waited for, so no more than a part or two is in memory.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator, MutableMapping, Sequence
from contextlib import suppress
from typing import Any

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers = Sequence[tuple[bytes, bytes]]


class HungUp(Exception):
    """The other side is gone, or was cut off."""


class Conversation:
    """One request. `run` is for the event loop, everything else for the thread that it starts."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._loop = asyncio.get_running_loop()
        self._gone = threading.Event()
        self.started = False
        self._more = True

    async def run(self, work: Callable[[], None], *, reads: bool) -> None:
        """Have a thread of its own do the work; raises what that raises. `reads` says that it takes the body."""
        done: asyncio.Future[None] = self._loop.create_future()
        watcher = None if reads else self._loop.create_task(self._watch())

        def tell(error: BaseException | None) -> None:
            if done.done():
                return
            if error is None:
                done.set_result(None)
            else:
                done.set_exception(error)

        def thread() -> None:
            error: BaseException | None = None
            try:
                work()
            except BaseException as raised:  # noqa: BLE001 - raised again by whoever waits
                error = raised
            with suppress(RuntimeError):  # the loop has ended: nobody waits
                self._loop.call_soon_threadsafe(tell, error)

        threading.Thread(target=thread, name="conversation", daemon=True).start()
        try:
            await done
        finally:
            self._gone.set()
            if watcher is not None:
                watcher.cancel()

    def parts(self) -> Iterator[bytes]:
        """The request's body, or what is left of it. Raises HungUp when it is cut off."""
        while self._more:
            message = self._wait(self._next())
            if message["type"] != "http.request":
                raise HungUp
            self._more = message.get("more_body", False)
            if message.get("body"):
                yield message["body"]

    def start(self, status: int, headers: Headers) -> None:
        self.started = True
        self._wait(self._say({"type": "http.response.start", "status": status, "headers": list(headers)}))

    def write(self, part: bytes) -> None:
        """Raises HungUp."""
        self._wait(self._say({"type": "http.response.body", "body": part, "more_body": True}))

    def end(self, last: bytes = b"") -> None:
        """Without it the other side knows that the answer is not whole."""
        self._wait(self._say({"type": "http.response.body", "body": last}))

    async def _next(self) -> MutableMapping[str, Any]:
        return await self._receive()

    async def _say(self, message: MutableMapping[str, Any]) -> None:
        await self._send(message)

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._gone.set()

    def _wait(self, doing: Coroutine[Any, Any, Any]) -> Any:
        try:
            future = asyncio.run_coroutine_threadsafe(doing, self._loop)
        except RuntimeError as error:
            doing.close()
            raise HungUp from error
        while True:
            try:
                return future.result(1)
            except TimeoutError:
                if self._gone.is_set():
                    future.cancel()
                    raise HungUp from None
