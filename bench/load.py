"""Loads an HTTP server as fast as it answers: `python -m bench.load`, a plan on standard input, figures on standard output.

A process of its own, so that it shares nothing with a server but the machine. Each connection is kept and sends
its next request when the last is answered. It speaks just enough HTTP/1.1 to cost little beside the servers.
"""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import cast

import uvloop

from bench.figures import quantile
from bench.report import ROOT

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


@dataclass(frozen=True)
class Plan:
    """Whom to ask for what: `paths` are taken in turns, by `connections` at once, for `seconds` after the warm-up."""

    host: str
    port: int
    headers: dict[str, str]
    paths: list[str]
    connections: int
    seconds: float
    warm_up_s: float


@dataclass(frozen=True)
class Load:
    """What came of it: answers per second, and latencies in milliseconds."""

    per_second: float
    p50_ms: float
    p99_ms: float
    answers: int


def run(plan: Plan) -> Load:
    """Do it in a process of its own. Raises RuntimeError when an answer was not 200."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.load"],
        input=json.dumps(asdict(plan)),
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"the load generator failed: {done.stderr[-2000:]}")
    return Load(**json.loads(done.stdout))


class _Connection(asyncio.Protocol):
    """One connection: a request, its answer, the next request."""

    def __init__(self, requests: Sequence[bytes], first: int, latencies: list[float]) -> None:
        self._requests = requests
        self._next = first
        self._latencies = latencies
        self._received = b""
        self._missing = 0  # bytes of the body, once its head is there
        self._sent_at = 0.0
        self._transport: asyncio.Transport | None = None
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by inheritance
        self._send()

    def data_received(self, data: bytes) -> None:
        if self._missing:
            self._missing -= len(data)
        else:
            self._received += data
            head, end, body = self._received.partition(b"\r\n\r\n")
            if not end:
                return
            length = _LENGTH.search(head)
            if not head.startswith(b"HTTP/1.1 200") or length is None:
                self._fail(RuntimeError(f"answered {self._received[:1000]!r}"))
                return
            self._missing = int(length[1]) - len(body)
        if self._missing == 0:
            self._latencies.append(time.perf_counter() - self._sent_at)
            self._send()

    def connection_lost(self, error: Exception | None) -> None:
        self._fail(error or ConnectionResetError("the server closed the connection"))

    def stop(self) -> None:
        if not self.ended.done():
            self.ended.set_result(None)
        if self._transport is not None:
            self._transport.abort()

    def _send(self) -> None:
        assert self._transport is not None
        self._received = b""
        self._sent_at = time.perf_counter()
        self._transport.write(self._requests[self._next % len(self._requests)])
        self._next += 1

    def _fail(self, error: Exception) -> None:
        if not self.ended.done():
            self.ended.set_exception(error)


async def _load(plan: Plan) -> Load:
    head = "".join(f"{name}: {value}\r\n" for name, value in plan.headers.items())
    requests = [f"GET {path} HTTP/1.1\r\n{head}\r\n".encode() for path in plan.paths]
    latencies: list[float] = []
    loop = asyncio.get_running_loop()
    connections: list[_Connection] = []
    for number in range(plan.connections):
        # Each begins at another place of the list.
        first = number * len(requests) // plan.connections
        _, connection = await loop.create_connection(
            lambda first=first: _Connection(requests, first, latencies),  # type: ignore[misc]  # cannot infer defaults
            plan.host,
            plan.port,
        )
        connections.append(connection)
    endings = [connection.ended for connection in connections]
    await asyncio.wait(endings, timeout=plan.warm_up_s, return_when=asyncio.FIRST_COMPLETED)
    latencies.clear()
    began = time.perf_counter()
    failed, _ = await asyncio.wait(endings, timeout=plan.seconds, return_when=asyncio.FIRST_COMPLETED)
    took = time.perf_counter() - began
    measured = list(latencies)
    for connection in connections:
        connection.stop()
    for ending in failed:
        ending.result()
    if not measured:
        raise RuntimeError("nothing was answered in time")
    return Load(
        per_second=len(measured) / took,
        p50_ms=1000 * quantile(measured, 0.5),
        p99_ms=1000 * quantile(measured, 0.99),
        answers=len(measured),
    )


def main() -> None:
    print(json.dumps(asdict(uvloop.run(_load(Plan(**json.load(sys.stdin)))))))


if __name__ == "__main__":
    main()
