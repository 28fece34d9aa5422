"""The API's throughput and latency, against the barest application that answers the same."""

from __future__ import annotations

import random
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import sqlalchemy as sa

from argosy.metadata.store import create_engine
from argosy.metadata.tables import instances
from bench import bare, load, report
from bench.figures import Figures, listed, ratios, table
from bench.load import Load, Plan
from tests.support.server import Server, running

AIM = 0.5  # of the rival's throughput
SIZES = (100, 1_000, 10_000)
CONNECTIONS = (1, 16)
VERSIONS = {"postgresql": ("17", "17.12"), "mariadb": ("11.8", "11.8.6"), "valkey": ("9", "9.1.2")}
_NOBODY = 250  # the last octet of an address where no agent is
_HOST = "bench"  # what clients call both servers, so that the links in their answers are the same


@dataclass(frozen=True)
class Target:
    """A server to load."""

    host: str
    port: int
    headers: dict[str, str]

    def load(self, paths: list[str], connections: int, seconds: float) -> Load:
        return load.run(Plan(self.host, self.port, self.headers, paths, connections, seconds, warm_up_s=0.3))

    def get(self, path: str) -> Any:
        answer = httpx.get(f"http://{self.host}:{self.port}{path}", headers=self.headers, timeout=30)
        answer.raise_for_status()
        return answer


@dataclass
class Pair:
    """The loads of both, a round each."""

    argosy: list[Load] = field(default_factory=list)
    bare: list[Load] = field(default_factory=list)


class Fleet:
    """The API of a home, its project's instances, and where the rival on the same database listens."""

    def __init__(self, server: Server, caller: tuple[str, str] | None = None) -> None:
        """`caller` is a project and a token; unset, the built-in user's."""
        if caller is None:
            client = server.client()
            caller = client.project_id, client.token
        self.project_id, token = caller
        self.url = server.settings.database_url
        host, port = server.settings.api_listen
        self.argosy = Target(host, port, {"Host": _HOST, "X-Auth-Token": token})
        self.bare = Target(str(server.network[3]), port, {"Host": _HOST})
        self.ids = sorted(one["id"] for one in self.argosy.get(self.lists[0]).json()["instances"])

    @property
    def size(self) -> int:
        return len(self.ids)

    @property
    def lists(self) -> list[str]:
        return [f"/v1.0/{self.project_id}/instances"]

    @property
    def last_lists(self) -> list[str]:
        """Of the last page."""
        return [f"{self.lists[0]}?marker={self.ids[-bare.PAGE - 1]}"]

    def shows(self, count: int = 1000) -> list[str]:
        chosen = random.Random(1).sample(self.ids, min(count, self.size))  # noqa: S311 - not a secret
        return [f"/v1.0/{self.project_id}/instances/{one}" for one in chosen]

    def check_answers(self) -> None:
        """Have both answer once, so that each has loaded what it loads with the first request."""
        for target in (self.argosy, self.bare):
            target.get(self.lists[0])
            target.get(self.shows(1)[0])

    def check_same(self) -> None:
        """Raises AssertionError unless both answer the same bytes."""
        for path in (*self.lists, *self.last_lists, *self.shows(3)):
            ours, theirs = self.argosy.get(path), self.bare.get(path)
            if len(ours.content) != len(theirs.content) or ours.json() != theirs.json():
                raise AssertionError(
                    f"bench/bare.py must answer {path} as the API does:\n{ours.text}\nnot\n{theirs.text}"
                )


def measure(*, quick: bool = False) -> tuple[str, str]:
    """The section of the report."""
    began = report.when()
    rounds, seconds = (2, 0.5) if quick else (5, 2.0)
    with ExitStack() as stack:
        fleets = []
        for size in SIZES:
            _say(f"an API with {size} instances")
            fleets.append(stack.enter_context(filled(stack.enter_context(running("api")), size)))
            stack.enter_context(bare_application(fleets[-1]))
            fleets[-1].check_same()
        biggest = fleets[-1]
        asked = {
            "show one": biggest.shows(),
            f"list {bare.PAGE} of {biggest.size:,}": biggest.lists,
        }
        pairs = {(what, connections): Pair() for what in asked for connections in CONNECTIONS}
        growth = {(fleet.size, which): Pair() for fleet in fleets for which in ("first", "last")}
        for number in range(rounds):
            _say(f"round {number + 1} of {rounds}")
            for (what, connections), pair in pairs.items():
                _take(pair, biggest, asked[what], connections, seconds, argosy_first=number % 2 == 0)
            for fleet in fleets:
                for which, paths in (("first", fleet.lists), ("last", fleet.last_lists)):
                    _take(
                        growth[fleet.size, which], fleet, paths, 1, seconds / 3, argosy_first=number % 2 == 0
                    )
        sizes = {what: len(biggest.argosy.get(paths[0]).content) for what, paths in asked.items()}
    return "API", "\n\n".join([began, *_told(pairs, sizes), *_told_growth(growth)])


def _take(
    pair: Pair, fleet: Fleet, paths: list[str], connections: int, seconds: float, *, argosy_first: bool
) -> None:
    turns = [(pair.argosy, fleet.argosy), (pair.bare, fleet.bare)]
    for loads, target in turns if argosy_first else reversed(turns):
        loads.append(target.load(paths, connections, seconds))


@contextmanager
def bare_application(fleet: Fleet) -> Iterator[subprocess.Popen[bytes]]:
    """The rival, listening."""
    listen = f"{fleet.bare.host}:{fleet.bare.port}"
    rival = subprocess.Popen(
        [sys.executable, "-m", "bench.bare", "--database", fleet.url, "--listen", listen], cwd=report.ROOT
    )
    try:
        deadline = time.monotonic() + 30
        while not _listens(fleet.bare):
            if rival.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the bare application does not listen at {listen}")
            time.sleep(0.02)
        yield rival
    finally:
        rival.terminate()
        try:
            rival.wait(10)
        except subprocess.TimeoutExpired:
            rival.kill()
            rival.wait()


def _listens(target: Target) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((target.host, target.port)) == 0


@contextmanager
def filled(server: Server, size: int, caller: tuple[str, str] | None = None) -> Iterator[Fleet]:
    """So many instances more in the metadata database, of several datastores and as if they served."""
    fleet = Fleet(server, caller)
    rows = [_row(fleet.project_id, str(server.network[_NOBODY]), number, size) for number in range(size)]
    engine = create_engine(fleet.url)
    try:
        with engine.begin() as connection:
            connection.execute(sa.insert(instances), rows)
        fleet.ids = sorted([*fleet.ids, *(row["id"] for row in rows)])
        yield fleet
    finally:
        # Else whoever takes the home down would look for their servers.
        with engine.begin() as connection:
            connection.execute(
                sa.delete(instances).where(instances.c.address == str(server.network[_NOBODY]))
            )
        engine.dispose()


def _row(project_id: str, address: str, number: int, size: int) -> dict[str, Any]:
    now = datetime.now(UTC)
    datastore = list(VERSIONS)[number % len(VERSIONS)]
    version, server_version = VERSIONS[datastore]
    volume_gb = 1 + number % 100
    return {
        "id": str(uuid.uuid4()),
        "project_id": project_id,
        "name": f"bench-{number:05}",
        "datastore": datastore,
        "version": version,
        "flavor_id": "2",
        "volume_gb": volume_gb,
        "access": {"is_public": False, "allowed_cidrs": []},
        "address": address,
        "platform": {
            "name": "local",
            "limits": {
                "memory": "cgroup v1, 512 MB and 64 MB for the agent",
                "cpu": "cgroup v1, time of 1 vcpu at most",
                "volume": f"file system of its own, {volume_gb} GB",
            },
        },
        "created_at": now - timedelta(seconds=size - number),
        "updated_at": now - timedelta(seconds=size - number),
        "service": "healthy",
        "report_number": 1,
        # Ahead of the clock, so that no guest falls silent while we measure.
        "reported_at": now + timedelta(days=1),
        "volume_used_bytes": 40_000_000 + number,
        "server_version": server_version,
    }


def _told(pairs: dict[tuple[str, int], Pair], sizes: dict[str, int]) -> Iterator[str]:
    yield (
        "One `serve api` process on SQLite, with a token, against a FastAPI + SQLAlchemy application of one file that "
        "answers the same bytes ("
        + listed([f"{what}: {size:,}" for what, size in sizes.items()])
        + ") from the same SQLite file, pool and uvicorn settings, and asks nobody who they are. "
        "Loaded in turns by one process with kept connections."
    )
    rows, short = [], []
    for (what, connections), pair in pairs.items():
        ours, theirs = (Figures.of(one.per_second for one in loads) for loads in (pair.argosy, pair.bare))
        ratio = ratios(ours, theirs)
        if ratio.median < AIM:
            short.append(f"'{what}' by {connections} ({ratio.median:.2f})")
        rows.append(
            [
                f"{what}, {connections} connection{'s' if connections > 1 else ''}",
                ours.text(0),
                theirs.text(0),
                ratio.text(2),
                *(_latencies(loads) for loads in (pair.argosy, pair.bare)),
                str(len(ours.values)),
            ]
        )
    yield table(
        [
            "",
            "Argosy, per second",
            "bare, per second",
            "Argosy / bare",
            "Argosy p50, p99 ms",
            "bare p50, p99 ms",
            "n",
        ],
        rows,
    )
    yield (
        f"Reading: the aim is at least {AIM} of the bare application's throughput; "
        + (f"missed for {listed(short)}." if short else "it is met everywhere.")
        + " What Argosy does besides: check the token, the project and the policy, number and count requests, "
        "derive the status. The load generator takes its share of the cores from both."
    )


def _latencies(loads: Sequence[Load]) -> str:
    middle, late = (Figures.of(getattr(one, name) for one in loads).median for name in ("p50_ms", "p99_ms"))
    return f"{middle:.2f}, {late:.2f}"


def _told_growth(growth: dict[tuple[int, str], Pair]) -> Iterator[str]:
    yield f"Milliseconds (p50, one connection) of a list of {bare.PAGE}, by how many instances the project has."
    rows = []
    medians: dict[tuple[int, str], float] = {}
    for (size, which), pair in growth.items():
        ours, theirs = (Figures.of(one.p50_ms for one in loads) for loads in (pair.argosy, pair.bare))
        medians[size, which] = ours.median
        rows.append(
            [
                f"{size:,} instances, {which} page",
                ours.text(2),
                theirs.text(2),
                str(len(ours.values)),
            ]
        )
    yield table(["", "Argosy", "bare", "n"], rows)
    grown = {which: medians[SIZES[-1], which] / medians[SIZES[0], which] for which in ("first", "last")}
    yield (
        f"Reading: flat is the aim. With {SIZES[-1] // SIZES[0]} times the instances the first page takes "
        f"{grown['first']:.2f} and the last page {grown['last']:.2f} times as long."
    )


def _say(what: str) -> None:
    print(f"api: {what}", file=sys.stderr, flush=True)
