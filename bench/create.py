"""From the request for a database to its first query, against a script that does it by hand."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from argosy import catalog
from argosy.rpc.certificates import Authority
from bench import by_hand, clients, report, timeline
from bench.by_hand import Certificate, Image, Script, Times
from bench.clients import Ask, Door, NotYet
from bench.figures import Figures, listed, ratios, table
from tests.support import images
from tests.support.server import Client, Server, running

AIM_S = 1.0
FLAVOR = "2"
AT_ONCE = 10
PAUSE_AT_ONCE_S = clients.PAUSE_S * AT_ONCE  # together the clients ask as often as one does
_HAND_FIRST = (
    230  # the last octets of the addresses of servers started by hand; instances have the first ones
)


@dataclass(frozen=True)
class Subject:
    """A datastore's version, a client for it, and the script that is its rival."""

    datastore: str
    version: str
    ask: Ask
    script: type[Script]
    has_databases: bool = True

    @property
    def name(self) -> str:
        return f"{catalog.datastores()[self.datastore].title} {self.version}"


SUBJECTS = (
    Subject("postgresql", "17", clients.ask_postgresql, by_hand.PostgresScript),
    Subject("postgresql", "18", clients.ask_postgresql, by_hand.PostgresScript),
    Subject("mariadb", "11.8", clients.ask_mariadb, by_hand.MariaDbScript),
    Subject("valkey", "9", clients.ask_valkey, by_hand.ValkeyScript, has_databases=False),
    Subject("redis", "7", clients.ask_valkey, by_hand.ValkeyScript, has_databases=False),
)
MANY = SUBJECTS[0]


@dataclass
class Rounds:
    """What was measured of one subject."""

    first_query: list[float] = field(default_factory=list)
    breakdowns: list[timeline.Breakdown] = field(default_factory=list)
    by_hand: list[Times] = field(default_factory=list)
    server_version: str = ""


@dataclass
class AtOnce:
    """Creates begun together: seconds from the first request to each one's first query, a list per round."""

    argosy: list[list[float]] = field(default_factory=list)
    by_hand: list[list[float]] = field(default_factory=list)


@dataclass(frozen=True)
class Created:
    """An instance and the moments of its making, in seconds since 1970."""

    instance_id: str
    posted: float
    answered: float
    queried: float


class Bench:
    """A running Argosy to create in, and a place for servers started by hand."""

    def __init__(self, argosy: Server) -> None:
        self.argosy = argosy
        self.client = argosy.client()
        self._hand = argosy.home / "by-hand"
        self._hand.mkdir(mode=0o755)
        (self._hand / "authority").mkdir(mode=0o700)
        self._authority = Authority.open(self._hand / "authority", "by-hand")
        self._ca = self._hand / "ca.crt"
        self._ca.write_text(self._authority.certificate)

    def create(
        self, subject: Subject, name: str, client: Client, pause_s: float = clients.PAUSE_S
    ) -> Created:
        """Ask for an instance with a user (and a database), and query it as that user as soon as it can be."""
        password = secrets.token_urlsafe(16)
        asked: dict[str, Any] = {
            "name": name,
            "flavorRef": FLAVOR,
            "volume": {"size": 1},
            "datastore": {"type": subject.datastore, "version": subject.version},
            "users": [{"name": "app", "password": password}],
        }
        if subject.has_databases:
            asked["databases"] = [{"name": "app"}]
            asked["users"][0]["databases"] = [{"name": "app"}]
        posted = time.time()
        answer = client.post("/instances", json={"instance": asked})
        answered = time.time()
        if answer.status_code != 200:
            raise RuntimeError(f"the create was refused: {answer.text}")
        instance_id = answer.json()["instance"]["id"]

        door: Door | None = None
        looked_at = 0.0

        def look() -> None:
            nonlocal door, looked_at
            door, looked_at = self._door(client, instance_id, password), time.monotonic()
            if door is None:
                raise NotYet("it has no address")

        def at_door(ask: Ask) -> clients.Asking:
            def asked() -> None:
                # Now and then also whether the create has failed.
                if time.monotonic() - looked_at > 2:
                    look()
                assert door is not None
                ask(door)

            return asked

        for asking in (look, at_door(clients.knock), at_door(subject.ask)):
            queried = clients.first_answer(asking, f"instance {instance_id}", pause_s=pause_s)
        return Created(instance_id, posted, answered, queried)

    def _door(self, client: Client, instance_id: str, password: str) -> Door | None:
        shown = client.get(f"/instances/{instance_id}").json()["instance"]
        if shown["status"] == "ERROR":
            raise RuntimeError(f"the create failed: {shown.get('fault')}")
        if not shown.get("addresses"):
            return None
        place = shown["addresses"][0]
        ca = self.argosy.home / "database-ca.crt"
        return Door(place["address"], place["port"], "app", "app", ca, password)

    def finish(self, made: Created) -> dict[str, Any]:
        """Wait until its operation has ended too."""
        return self.argosy.wait_until_healthy(self.client, made.instance_id)

    def delete(self, instance_id: str) -> None:
        answer = self.client.delete(f"/instances/{instance_id}")
        if answer.status_code != 202:
            raise RuntimeError(f"the delete was refused: {answer.text}")
        self.argosy.wait_until_gone(self.client, instance_id)

    def script(self, subject: Subject, number: int = 0, pause_s: float = clients.PAUSE_S) -> Script:
        """A server to be started by hand, the number-th at a time, its certificate lying ready."""
        address = str(self.argosy.network[_HAND_FIRST + number])
        port = catalog.datastores()[subject.datastore].port
        ready = self._hand / f"tls-{number}"
        ready.mkdir(mode=0o755, exist_ok=True)
        door = Door(address, port, "app", "app", self._ca, secrets.token_urlsafe(16))
        issued = self._authority.issue(common_name=address, addresses=[address], server=True)
        bundle, template = images.image(subject.datastore, subject.version)
        certificate = Certificate(ready / "server.crt", ready / "server.key")
        script = subject.script(
            Image(subject.version, bundle, template),
            self._hand / f"server-{number}",
            door,
            certificate,
            pause_s,
        )
        script.file(certificate.certificate, issued.certificate)
        script.file(certificate.key, issued.key)
        return script

    def settle(self) -> None:
        """Let what was measured before reach the disk, so that nobody pays for somebody else's writes."""
        subprocess.run(["sync", "--file-system", self.argosy.home], check=True)


def measure(*, quick: bool = False) -> tuple[str, str]:
    """The section of the report."""
    began = report.when()
    rounds, rounds_at_once = (2, 1) if quick else (9, 2)
    for subject in SUBJECTS:
        _say(f"the software of {subject.name}")
        images.image(subject.datastore, subject.version)
    with running() as argosy:
        bench = Bench(argosy)
        measured = {subject.name: _measure(bench, subject, rounds) for subject in SUBJECTS}
        at_once = AtOnce()
        for number in range(rounds_at_once):
            _say(f"{AT_ONCE} at once, round {number + 1} of {rounds_at_once}")
            at_once.argosy.append(_argosy_at_once(bench))
            at_once.by_hand.append(_hand_at_once(bench))
    return "Create", "\n\n".join([began, *_told(measured), *_told_at_once(at_once)])


def _measure(bench: Bench, subject: Subject, rounds: int) -> Rounds:
    measured = Rounds()

    def argosy(counts: bool) -> None:
        bench.settle()
        made = bench.create(subject, "bench", bench.client)
        shown = bench.finish(made)
        if counts:
            measured.server_version = shown["datastore"]["version_number"]
            measured.first_query.append(made.queried - made.posted)
            measured.breakdowns.append(
                timeline.read(
                    bench.argosy.home,
                    made.instance_id,
                    posted=made.posted,
                    answered=made.answered,
                    queried=made.queried,
                )
            )
        bench.delete(made.instance_id)

    def hand(counts: bool) -> None:
        script = bench.script(subject)
        bench.settle()
        with script.running() as times:
            if counts:
                measured.by_hand.append(times)

    # The first of each is to warm up. Then they take turns at going first.
    for number in range(rounds + 1):
        _say(f"{subject.name}, round {number} of {rounds}")
        turns: list[Callable[[bool], None]] = [argosy, hand]
        for turn in turns if number % 2 else reversed(turns):
            turn(number > 0)
    return measured


def _argosy_at_once(bench: Bench) -> list[float]:
    users = [bench.argosy.client() for _ in range(AT_ONCE)]
    bench.settle()
    with ThreadPoolExecutor(AT_ONCE) as pool:
        made = list(pool.map(lambda user: bench.create(MANY, "bench", user, PAUSE_AT_ONCE_S), users))
        for one in made:
            bench.finish(one)
        list(pool.map(lambda one: bench.delete(one.instance_id), made))
    began = min(one.posted for one in made)
    return [one.queried - began for one in made]


def _hand_at_once(bench: Bench) -> list[float]:
    scripts = [bench.script(MANY, number, PAUSE_AT_ONCE_S) for number in range(AT_ONCE)]
    bench.settle()
    with ExitStack() as stack, ThreadPoolExecutor(AT_ONCE) as pool:
        began = time.time()

        def start(script: Script) -> float:
            # The server goes on until the stack ends, as an instance does until it is deleted.
            stack.enter_context(script.running())
            return time.time() - began

        return list(pool.map(start, scripts))


def _told(measured: dict[str, Rounds]) -> Iterator[str]:
    yield (
        f"From the POST of a create (flavor of {by_hand.MEMORY_MB} MB, 1 GB volume, a user and, where the datastore has "
        "them, a database) to the first query of that user over TLS with the certificate checked, asked every "
        f"{clients.PAUSE_S * 1000:.0f} ms by the client itself; software pulled before. *By hand* is a script that "
        "copies the same template, starts the same server and makes the same user; *floor* is its way to the "
        "administrator's first query only. One warm-up each, then in turns."
    )
    rows, late = [], []
    for name, rounds in measured.items():
        ours = Figures.of(rounds.first_query)
        hand = Figures.of(times.user for times in rounds.by_hand)
        floor = Figures.of(times.administrator for times in rounds.by_hand)
        active = Figures.of(one.active for one in rounds.breakdowns)
        if ours.median >= AIM_S:
            late.append(f"{name} ({ours.median:.2f} s)")
        rows.append(
            [
                f"{name} ({rounds.server_version})",
                ours.text(2),
                f"{ours.least:.2f}",
                f"{active.median:.2f}",
                hand.text(2),
                f"{hand.least:.2f}",
                f"{floor.median:.2f}",
                ratios(ours, hand).text(1),
                str(len(ours.values)),
            ]
        )
    yield table(
        ["seconds", "Argosy", "least", "until ACTIVE", "by hand", "least", "floor", "Argosy / by hand", "n"],
        rows,
    )
    yield (
        f"Reading: the aim is a median under {AIM_S:.0f} s for each; "
        + (f"missed by {listed(late)}." if late else "it is met by all.")
        + " What Argosy does and the script does not: a durable operation, an address, certificates, a control group, an "
        "own account, a file system of the asked size, a supervising agent, and its report."
    )
    yield from _told_phases(measured)


def _told_phases(measured: dict[str, Rounds]) -> Iterator[str]:
    yield "Where Argosy's time goes: medians in milliseconds, one after the other up to the client's query."
    medians = {
        name: [
            Figures.of(1000 * one.phases[place] for one in rounds.breakdowns).median
            for place in range(len(timeline.PHASES))
        ]
        for name, rounds in measured.items()
    }
    rows = [
        [phase, *(f"{of[place]:.0f}" for of in medians.values())]
        for place, phase in enumerate(timeline.PHASES)
    ]
    boots = [
        Figures.of(1000 * one.agent_boot for one in rounds.breakdowns).median for rounds in measured.values()
    ]
    rows.append(["*agent's boot as a whole*", *(f"*{boot:.0f}*" for boot in boots)])
    yield table(["ms", *measured], rows)
    longest = {name: max(range(len(of)), key=of.__getitem__) for name, of in medians.items()}
    yield (
        "Reading: the longest phase is "
        + listed(
            [
                f"for {name} '{timeline.PHASES[place]}' ({medians[name][place]:.0f} of {sum(medians[name]):.0f} ms)"
                for name, place in longest.items()
            ]
        )
        + "."
    )


def _told_at_once(measured: AtOnce) -> Iterator[str]:
    yield f"{AT_ONCE} creates of {MANY.name} at once, and {AT_ONCE} scripts at once, each counted from the first request; clients ask every {PAUSE_AT_ONCE_S * 1000:.0f} ms."
    rows, totals = [], []
    for name, rounds in (("Argosy", measured.argosy), ("by hand", measured.by_hand)):
        totals.append(Figures.of(max(one) for one in rounds))
        each = Figures.of(seconds for one in rounds for seconds in one)
        rows.append(
            [
                name,
                totals[-1].text(2),
                f"{totals[-1].median / AT_ONCE:.2f}",
                each.text(2),
                f"{each.least:.2f}",
                str(len(rounds)),
            ]
        )
    yield table(["seconds", "until the last answers", "per instance", "each", "first of all", "n"], rows)
    yield (
        f"Reading: {AT_ONCE} at once take {ratios(*totals).median:.1f} times as long as by hand "
        f"on {os.cpu_count()} cores, which bound both."
    )


def _say(what: str) -> None:
    print(f"create: {what}", file=sys.stderr, flush=True)
