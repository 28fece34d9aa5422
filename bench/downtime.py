"""What operations on an instance cost a client that writes, against doing the same by hand."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from argosy import catalog
from argosy.rpc.certificates import Authority
from bench import by_hand, clients, report
from bench.by_hand import Certificate, Image, Script
from bench.clients import Ask, Door
from bench.figures import Figures, table
from tests.support import images
from tests.support.server import Client, Server, running, wait_until
from tests.support.writer import Place, Writer, writing

FLAVOR, LARGER, LARGER_MB = "2", "3", 1024
IDLE_S = 2.0
_HAND = 230  # the last octet of the address of servers started by hand; instances have the first ones


@dataclass(frozen=True)
class Subject:
    """A version, the one it is moved to, and the script that is its rival."""

    datastore: str
    version: str
    newer: str
    ask: Ask
    script: type[Script]
    has_databases: bool = True

    @property
    def name(self) -> str:
        return f"{catalog.datastores()[self.datastore].title} {self.version}"


SUBJECTS = (
    Subject("postgresql", "15", "17", clients.ask_postgresql, by_hand.PostgresScript),
    Subject("mariadb", "10.11", "11.8", clients.ask_mariadb, by_hand.MariaDbScript),
    Subject("valkey", "8", "9", clients.ask_valkey, by_hand.ValkeyScript, has_databases=False),
)

IDLE, RESTART, FLAVOR_RESIZE, VOLUME_RESIZE, UPGRADE = (
    "nothing",
    "restart",
    "flavor resize",
    "volume resize",
    "major upgrade",
)
OPERATIONS = (IDLE, RESTART, FLAVOR_RESIZE, VOLUME_RESIZE, UPGRADE)
BY_HAND = (IDLE, RESTART, FLAVOR_RESIZE, UPGRADE)


@dataclass
class Gaps:
    """The longest time without an acknowledged write during each operation, milliseconds, a value per round."""

    argosy: dict[str, list[float]] = field(default_factory=lambda: {one: [] for one in OPERATIONS})
    by_hand: dict[str, list[float]] = field(default_factory=lambda: {one: [] for one in BY_HAND})
    lost: int = 0


class Bench:
    """A running Argosy, and a place for servers started by hand."""

    def __init__(self, argosy: Server) -> None:
        self.argosy = argosy
        self.client: Client = argosy.client()
        self._hand = argosy.home / "by-hand"
        self._hand.mkdir(mode=0o755)
        (self._hand / "authority").mkdir(mode=0o700)
        self._authority = Authority.open(self._hand / "authority", "by-hand")
        self._ca = self._hand / "ca.crt"
        self._ca.write_text(self._authority.certificate)

    def round(self, subject: Subject, gaps: Gaps) -> None:
        """All operations on one instance, one after the other, under one writer; then the same by hand."""
        shown = self._create(subject)
        place = shown["addresses"][0]
        where = Place(
            subject.datastore,
            place["address"],
            place["port"],
            "app",
            self.argosy.home / "database-ca.crt",
            "of-the-writer-1",
            "app" if subject.has_databases else "",
        )
        instance = f"/instances/{shown['id']}"
        with writing(where) as writer:
            for operation, begin in self._asked(instance, subject):
                do = partial(self._do, shown["id"], begin)
                gaps.argosy[operation].append(self._gap(writer, do))
        gaps.lost += len(writer.missing())
        self.client.delete(instance)
        self.argosy.wait_until_gone(self.client, shown["id"])
        self._round_by_hand(subject, gaps)

    def _create(self, subject: Subject) -> dict[str, Any]:
        user: dict[str, Any] = {"name": "app", "password": "of-the-writer-1"}
        asked: dict[str, Any] = {
            "name": "bench",
            "flavorRef": FLAVOR,
            "volume": {"size": 1},
            "datastore": {"type": subject.datastore, "version": subject.version},
            "users": [user],
        }
        if subject.has_databases:
            asked["databases"] = user["databases"] = [{"name": "app"}]
        answer = self.client.post("/instances", json={"instance": asked})
        if answer.status_code != 200:
            raise RuntimeError(f"the create was refused: {answer.text}")
        return self.argosy.wait_until_healthy(self.client, answer.json()["instance"]["id"])

    def _asked(self, instance: str, subject: Subject) -> Iterator[tuple[str, Callable[[], Any] | None]]:
        def post(action: dict[str, Any]) -> Callable[[], Any]:
            return lambda: self.client.post(f"{instance}/action", json=action)

        yield IDLE, None
        yield RESTART, post({"restart": {}})
        yield FLAVOR_RESIZE, post({"resize": {"flavorRef": LARGER}})
        yield VOLUME_RESIZE, post({"resize": {"volume": {"size": 2}}})
        newer = {"instance": {"datastore_version": subject.newer}}
        yield UPGRADE, lambda: self.client.patch(instance, json=newer)

    def _do(self, instance_id: str, begin: Callable[[], Any] | None) -> None:
        if begin is None:
            time.sleep(IDLE_S)
            return
        answer = begin()
        if answer.status_code != 202:
            raise RuntimeError(f"refused: {answer.text}")
        newest = f"/operations?limit=1&instance_id={instance_id}"

        def ended() -> bool:
            (operation,) = self.client.get(newest).json()["operations"]
            if operation["state"] == "failed":
                raise RuntimeError(f"{operation['kind']} failed: {operation['error']}")
            return bool(operation["state"] == "succeeded")

        wait_until("the operation has ended", ended, 300)
        self.argosy.wait_until_healthy(self.client, instance_id)

    def _gap(self, writer: Writer, do: Callable[[], None]) -> float:
        writer.goes_on()
        began = time.monotonic()
        do()
        writer.goes_on()
        return 1000 * writer.longest_gap_s(since=began)

    def _round_by_hand(self, subject: Subject, gaps: Gaps) -> None:
        address = str(self.argosy.network[_HAND])
        port = catalog.datastores()[subject.datastore].port
        ready = self._hand / "tls"
        ready.mkdir(mode=0o755, exist_ok=True)
        database = "app" if subject.has_databases else ""
        door = Door(address, port, "app", database, self._ca, "of-the-writer-1")
        issued = self._authority.issue(common_name=address, addresses=[address], server=True)
        certificate = Certificate(ready / "server.crt", ready / "server.key")
        script = subject.script(
            _image(subject.datastore, subject.version), self._hand / "server", door, certificate
        )
        script.file(certificate.certificate, issued.certificate)
        script.file(certificate.key, issued.key)
        where = Place(subject.datastore, address, port, "app", self._ca, "of-the-writer-1", database)
        steps: dict[str, Callable[[], None]] = {
            IDLE: lambda: time.sleep(IDLE_S),
            RESTART: script.restart,
            FLAVOR_RESIZE: lambda: script.resize(LARGER_MB),
            UPGRADE: lambda: script.upgrade(_image(subject.datastore, subject.newer)),
        }
        with script.running(), writing(where) as writer:
            for operation, do in steps.items():
                gaps.by_hand[operation].append(self._gap(writer, do))


def measure(*, quick: bool = False) -> tuple[str, str]:
    """The section of the report."""
    began = report.when()
    for subject in SUBJECTS:
        for version in (subject.version, subject.newer):
            images.image(subject.datastore, version)
    measured = {}
    with running() as argosy:
        bench = Bench(argosy)
        for subject in SUBJECTS:
            gaps = measured[subject.name] = Gaps()
            for _ in range(1 if quick else 3):
                bench.round(subject, gaps)
    return "Downtime", "\n\n".join([began, *_told(measured)])


def _image(datastore: str, version: str) -> Image:
    bundle, template = images.image(datastore, version)
    return Image(version, bundle, template)


def _told(measured: dict[str, Gaps]) -> Iterator[str]:
    yield (
        "One client that writes row after row over TLS, each acknowledged before the next, and connects again the moment "
        "it is sent away: the longest time between two acknowledged writes during an operation, milliseconds. *Nothing* is "
        f"{IDLE_S:.0f} s without an operation. *By hand* is the shortest way the server's manual knows, with everything laid "
        "ready before: a restart; a size set online where the server can (MariaDB's buffer pool, Valkey's memory), "
        "otherwise a restart; pg_upgrade with hard links, or the newer server on the same files."
    )
    rows = []
    for name, gaps in measured.items():
        for operation in OPERATIONS:
            ours = Figures.of(gaps.argosy[operation])
            theirs = gaps.by_hand.get(operation)
            hand = Figures.of(theirs) if theirs else None
            rows.append(
                [
                    f"{name}, {operation}",
                    ours.text(0),
                    hand.text(0) if hand else "",
                    f"{ours.median / hand.median:.1f}" if hand and operation != IDLE else "",
                    str(len(ours.values)),
                ]
            )
    yield table(["ms without an acknowledged write", "Argosy", "by hand", "Argosy / by hand", "n"], rows)
    lost = sum(gaps.lost for gaps in measured.values())
    yield (
        f"Reading: of the writes that Argosy's instances acknowledged, {lost} were missing at the end. An upgrade of Argosy's "
        "takes longer because there is a way back from it: the data is copied, the copy converted, and a server of the new "
        "version proves itself on it, all while nobody is served. MariaDB's flavor resize across 1 GB also changes settings "
        "that its server takes at a start only."
    )
