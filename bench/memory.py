"""What processes hold when nothing happens: the control plane's, and each instance's agent and server."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from argosy import marks
from bench import api, by_hand, report
from bench.clients import PAUSE_S
from bench.create import SUBJECTS, Bench
from bench.figures import Figures, listed, table
from tests.support import images
from tests.support.server import Server, running

IDLE_S = 30.0
CONTROL_PLANE_AIM_MB = 200.0
AGENT_AIM_MB = 45.0
PARTS = ("conductor", "taskmanager", "api")
_READINGS = 5


@dataclass(frozen=True)
class Held:
    """Of some processes together, in MB (2**20 bytes): resident, and with shared pages divided by who shares them."""

    rss: float
    pss: float
    processes: int


def measure(*, quick: bool = False) -> tuple[str, str]:
    """The section of the report."""
    began = report.when()
    idle_s = 3.0 if quick else IDLE_S
    for subject in SUBJECTS:
        images.image(subject.datastore, subject.version)
    with running() as argosy:
        _say("an instance of each")
        bench = Bench(argosy)
        made = {}
        for subject in SUBJECTS:
            created = bench.create(
                subject, f"bench-{subject.datastore}-{subject.version}", bench.client, PAUSE_S
            )
            bench.finish(created)
            made[subject.name] = created.instance_id
        _say(f"idle for {idle_s:.0f} s, all in one process")
        time.sleep(idle_s)  # idleness is what is measured
        whole = read({"`argosy up`: all in one process": _pids(argosy, "api")})
        guests = read(
            {name: [_agent(argosy, instance_id)] for name, instance_id in made.items()}
            | {_server_name(name): _server(argosy, instance_id) for name, instance_id in made.items()}
        )
        argosy.down()
        # The databases serve meanwhile, and report to the new conductor.
        argosy.start(*PARTS)
        fleet = api.Fleet(argosy)
        with api.bare_application(fleet) as rival:
            fleet.check_answers()
            _say(f"idle for {idle_s:.0f} s, a process for each part")
            time.sleep(idle_s)  # idleness is what is measured
            parts = read(
                {f"`argosy serve {part}`": _pids(argosy, part) for part in PARTS}
                | {"for comparison: the bare FastAPI + SQLAlchemy application": [rival.pid]}
            )
    return "Memory", "\n\n".join([began, *_told(whole | parts, guests, list(made), idle_s)])


def _pids(argosy: Server, part: str) -> list[int]:
    pid = argosy.pid(part)
    assert pid is not None
    return [pid]


def _agent(argosy: Server, instance_id: str) -> int:
    return int(json.loads((argosy.home / "instances" / instance_id / "agent.json").read_text())["pid"])


def _server(argosy: Server, instance_id: str) -> list[int]:
    stored = json.loads((argosy.home / "instances" / instance_id / "sockets" / "server.json").read_text())
    return sorted(marks.with_descendants([int(stored["pid"])]))


def _server_name(name: str) -> str:
    return f"server of {name}"


def read(groups: dict[str, list[int]]) -> dict[str, list[Held]]:
    """A few readings a second apart, so that one in the middle of a heartbeat does not decide."""
    found: dict[str, list[Held]] = {name: [] for name in groups}
    for number in range(_READINGS):
        if number:
            time.sleep(1)
        for name, pids in groups.items():
            found[name].append(_held(pids))
    return found


def _held(pids: Iterable[int]) -> Held:
    """By smaps_rollup (proc(5)); a process that has ended meanwhile, such as a worker of a server's, holds nothing."""
    rss = pss = 0.0
    processes = 0
    for pid in pids:
        try:
            text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue
        sizes = {
            name: int(size) / 1024 for name, size in re.findall(r"^(\w+): +(\d+) kB$", text, re.MULTILINE)
        }
        rss += sizes["Rss"]
        pss += sizes["Pss"]
        processes += 1
    return Held(rss, pss, processes)


def _told(
    plane: dict[str, list[Held]], guests: dict[str, list[Held]], names: list[str], idle_s: float
) -> Iterator[str]:
    yield (
        f"After {idle_s:.0f} s of idleness with one instance of each datastore, in MB from smaps_rollup: RSS counts all a "
        "process has in memory, PSS divides what processes share, such as libraries, among them. Medians of "
        f"{_READINGS} readings a second apart."
    )
    yield table(["control plane, MB", "RSS", "PSS"], [[name, *sizes(held)] for name, held in plane.items()])
    together = [_median(plane[f"`argosy serve {part}`"], "pss") for part in PARTS]
    whole = _median(next(iter(plane.values())), "rss")
    yield (
        f"Reading: the aim for the control plane in one process is under {CONTROL_PLANE_AIM_MB:.0f} MB; its RSS is "
        f"{whole:.0f} MB, so it is {'met' if whole < CONTROL_PLANE_AIM_MB else 'missed'}. As processes of their own its "
        f"parts hold {sum(together):.0f} MB together (PSS)."
    )
    yield table(
        [
            "agents and their servers, MB",
            "agent RSS",
            "agent PSS",
            "server RSS",
            "server PSS",
            "server's processes",
        ],
        [
            [
                name,
                *sizes(guests[name]),
                *sizes(guests[_server_name(name)]),
                str(guests[_server_name(name)][0].processes),
            ]
            for name in names
        ],
    )
    large = [
        f"{name} ({size:.0f} MB)" for name in names if (size := _median(guests[name], "rss")) >= AGENT_AIM_MB
    ]
    yield (
        f"Reading: the aim for an agent is an RSS under {AGENT_AIM_MB:.0f} MB; "
        + (f"missed for {listed(large)}." if large else "it is met for all.")
        + f" Flavor of {by_hand.MEMORY_MB} MB. A server's RSS counts its shared memory once per process: its PSS is "
        "what it costs."
    )


def _median(held: list[Held], kind: str) -> float:
    return Figures.of(getattr(one, kind) for one in held).median


def sizes(held: list[Held]) -> list[str]:
    return [f"{_median(held, kind):.0f}" for kind in ("rss", "pss")]


def _say(what: str) -> None:
    print(f"memory: {what}", file=sys.stderr, flush=True)
