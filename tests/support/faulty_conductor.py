"""A conductor that serves the store of backups badly while a test says so: `python -m tests.support.faulty_conductor …`.

It takes the arguments of `argosy.processes`. `Faults` is the test's side: which requests, by method and a part of the
path, go wrong how, and how often.

    with Faults(argosy.home).fault("PUT", "chunk-", 500, times=2): …
"""

from __future__ import annotations

import asyncio
import json
import secrets
import sys
from collections import Counter
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from argosy.conductor import app as conductor
from argosy.processes.__main__ import main

How = int | Literal["cut", "hold", "slow"]
ALWAYS = 1_000_000


class Fault:
    """One that was ordered. `hits` counts the requests it has met."""

    def __init__(self, file: Path) -> None:
        self._file = file

    @property
    def hits(self) -> int:
        return len(self._file.read_text()) if self._file.exists() else 0


class Faults:
    """What a test orders, in a directory of the home."""

    def __init__(self, home: Path) -> None:
        self._directory = home / "faults"
        self._directory.mkdir(exist_ok=True)

    @contextmanager
    def fault(self, method: str, path: str, how: How, *, times: int = ALWAYS) -> Iterator[Fault]:
        """`how` is a status to answer; or "cut" (the connection, in the middle), "slow", and "hold": until this ends."""
        order = self._directory / f"{secrets.token_hex(4)}.json"
        written = order.with_suffix(".new")
        written.write_text(json.dumps({"method": method, "path": path, "how": how, "times": times}))
        written.rename(order)
        try:
            yield Fault(order.with_suffix(".hits"))
        finally:
            order.unlink()


class _Faulty:
    """The conductor's application, between which and the network faults are put."""

    def __init__(self, app: Any, directory: Path) -> None:
        self._app = app
        self._directory = directory
        self._met: Counter[str] = Counter()

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        found = self._order(scope) if scope["type"] == "http" else None
        if found is None:
            await self._app(scope, receive, send)
            return
        order, how = found
        if how == "hold":
            while order.exists():  # noqa: ASYNC110 - it is a file that another process removes
                await asyncio.sleep(0.02)
            await self._app(scope, receive, send)
        elif how == "slow":
            await self._app(scope, _slowly(receive), _slowly(send))
        elif how == "cut":
            await _start(send, 200)
            await send({"type": "http.response.body", "body": b"half", "more_body": True})
            raise ConnectionAbortedError("as the test ordered")
        else:
            while (await receive()).get("more_body"):
                pass
            await _start(send, how)
            await send({"type": "http.response.body", "body": b"a fault".ljust(100)})

    def _order(self, scope: MutableMapping[str, Any]) -> tuple[Path, Any] | None:
        for order in self._directory.glob("*.json"):
            try:
                asked = json.loads(order.read_text())
            except FileNotFoundError:
                continue
            fits = asked["method"] == scope["method"] and asked["path"] in scope["path"]
            if fits and self._met[order.name] < asked["times"]:
                self._met[order.name] += 1
                with order.with_suffix(".hits").open("a") as hits:
                    hits.write(".")
                return order, asked["how"]
        return None


def _slowly(what: Any) -> Any:
    async def slow(*message: Any) -> Any:
        await asyncio.sleep(0.05)
        return await what(*message)

    return slow


async def _start(send: Any, status: int) -> None:
    headers = [(b"content-length", b"100"), (b"content-type", b"text/plain")]
    await send({"type": "http.response.start", "status": status, "headers": headers})


def _make_faulty(home: Path) -> None:
    whole = conductor.application

    def application(*parts: Any) -> Any:
        return _Faulty(whole(*parts), home / "faults")

    conductor.application = application  # type: ignore[assignment] # this is what it is for


if __name__ == "__main__":
    _make_faulty(Path(sys.argv[sys.argv.index("--home") + 1]))
    sys.exit(main())
