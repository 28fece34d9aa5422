"""What Keystone costs: lists per second with it, against the built-in identity on the same machine in the same run."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx

from bench import report
from bench.api import Fleet, filled
from bench.figures import Figures, ratios, table
from bench.load import Load
from tests.support.keystone_clients import KeystoneApi, Login, a_keystone, believing
from tests.support.server import Server, running

AIM = (
    1.1  # times the processor time of a request by the built-in identity, at most, with tokens that are known
)
WARM_UP_S = 0.3  # of Target.load
SIZE = 1_000
CONNECTIONS = (1, 16)
BUILT_IN, KNOWN, ASKED = "built-in", "Keystone, known", "Keystone, asked each time"
# An hour, so that no answer ends within a round; and none at all.
CACHE_S = {KNOWN: "3600", ASKED: "0"}


@dataclass(frozen=True)
class Taken:
    """A round's load, and the processor time of the API for one answer of it."""

    load: Load
    cpu_ms: float


Rounds = dict[tuple[str, int], list[Taken]]


def measure(*, quick: bool = False) -> tuple[str, str]:
    """The section of the report."""
    began = report.when()
    rounds, seconds, tokens = (2, 0.5, 5) if quick else (7, 2.0, 40)
    with ExitStack() as stack:
        keystone = stack.enter_context(a_keystone())
        user = keystone.user("member")
        servers = {BUILT_IN: stack.enter_context(running("api"))}
        fleets = {BUILT_IN: stack.enter_context(filled(servers[BUILT_IN], SIZE))}
        for what, cache_s in CACHE_S.items():
            argosy = stack.enter_context(believing(keystone, "api", ARGOSY_KEYSTONE__CACHE_S=cache_s))
            servers[what] = argosy.server
            fleets[what] = stack.enter_context(filled(argosy.server, SIZE, _caller(keystone, user)))
        taken: Rounds = {(what, connections): [] for what in fleets for connections in CONNECTIONS}
        for number in range(rounds):
            _say(f"round {number + 1} of {rounds}")
            turns = list(taken)
            for what, connections in turns if number % 2 == 0 else reversed(turns):
                one = _take(servers[what], fleets[what], connections, seconds)
                taken[what, connections].append(one)
        _say("new tokens")
        memory = {what: _memory_mb(server) for what, server in servers.items()}
        first, again = _new_tokens(keystone, user, fleets[KNOWN], tokens)
    real = os.environ.get("ARGOSY_TEST_CLOUD")
    which = "the Keystone of a real cloud" if real else "the simulated Keystone of the tests"
    return "Keystone", "\n\n".join([began, *_told(taken, which, first, again, memory)])


def _take(server: Server, fleet: Fleet, connections: int, seconds: float) -> Taken:
    before = _cpu_s(server)
    load = fleet.argosy.load(fleet.lists, connections, seconds)
    # The load's warm-up is not among its answers.
    return Taken(load, (_cpu_s(server) - before) * 1000 / (load.per_second * (seconds + WARM_UP_S)))


def _cpu_s(server: Server) -> float:
    fields = Path(f"/proc/{server.pid()}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _memory_mb(server: Server) -> float:
    status = Path(f"/proc/{server.pid()}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def _caller(keystone: KeystoneApi, user: Login) -> tuple[str, str]:
    token = keystone.log_in(user)
    return str(keystone.told_of(token)["project"]["id"]), token


def _new_tokens(keystone: KeystoneApi, user: Login, fleet: Fleet, count: int) -> tuple[Figures, Figures]:
    """Milliseconds of the first and the second list with each of so many new tokens."""
    taken: tuple[list[float], list[float]] = ([], [])
    address = f"http://{fleet.argosy.host}:{fleet.argosy.port}{fleet.lists[0]}"
    with httpx.Client(trust_env=False, timeout=30) as client:
        for _ in range(count):
            token = keystone.log_in(user)
            for times in taken:
                began = time.perf_counter()
                client.get(address, headers={"X-Auth-Token": token}).raise_for_status()
                times.append((time.perf_counter() - began) * 1000)
    return Figures.of(taken[0]), Figures.of(taken[1])


def _told(
    rounds: Rounds, which: str, first: Figures, again: Figures, memory: dict[str, float]
) -> Iterator[str]:
    yield (
        f"Lists of 20 of {SIZE:,} instances by a `serve api` process on SQLite, which knows its callers by its own "
        f"accounts or by {which}. Known: `keystone.cache_s` is long. Asked each time: it is 0, so that every request "
        "waits for Keystone. Loaded in turns by one process with kept connections."
    )
    rows, short = [], []
    for (what, connections), taken in rounds.items():
        ours, theirs = (
            Figures.of(one.load.per_second for one in each) for each in (taken, rounds[BUILT_IN, connections])
        )
        cpu, built_in = (
            Figures.of(one.cpu_ms for one in each) for each in (taken, rounds[BUILT_IN, connections])
        )
        more = ratios(cpu, built_in)
        if what == KNOWN and more.median > AIM:
            short.append(f"{more.median:.2f} by {connections}")
        rows.append(
            [
                f"{what}, {connections} connection{'s' if connections > 1 else ''}",
                ours.text(0),
                ratios(ours, theirs).text(2),
                cpu.text(2),
                more.text(2),
                f"{Figures.of(one.load.p50_ms for one in taken).median:.2f}",
                str(len(taken)),
            ]
        )
    yield table(
        ["", "per second", "/ built-in", "processor ms of the API", "/ built-in", "p50 ms", "n"], rows
    )
    yield (
        f"The first request with a new token takes {first.text(1)} ms, the next one {again.text(1)} ms "
        f"({len(first.values)} tokens). The API process has {memory[KNOWN]:.0f} MB resident, "
        f"{memory[BUILT_IN]:.0f} MB with the built-in identity."
    )
    yield (
        f"Reading: the aim is at most {AIM} times the processor time of the built-in identity while Keystone's answers "
        "are remembered; "
        + (f"missed: {', '.join(short)}." if short else "it is met.")
        + " Requests that bring one token at the same time share one question, so that many connections suffer less "
        "from asking each time than one."
        + " A token that is used all the time is asked about once in `cache_s` by each API process, 30 s by default."
    )


def _say(what: str) -> None:
    print(f"keystone: {what}", file=sys.stderr, flush=True)
