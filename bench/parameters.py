"""A parameter changed in a configuration group: until every instance that follows it has the new value."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import psycopg
import pymysql

from argosy import catalog
from bench import clients, report
from bench.clients import Door
from bench.figures import Figures, ratios, table
from tests.support import images
from tests.support.server import Client, Server, running, wait_until

MANY = 20
FLAVOR = "1"


@dataclass(frozen=True)
class Subject:
    """A version, one of its parameters that a running server takes, and values to go to and fro between."""

    datastore: str
    version: str
    parameter: str
    values: tuple[str, str]

    @property
    def name(self) -> str:
        return f"{catalog.datastores()[self.datastore].title} {self.version}"


SUBJECTS = (
    Subject("postgresql", "17", "work_mem", ("2048", "4096")),
    Subject("mariadb", "11.8", "max_connect_errors", ("2048", "4096")),
    Subject("valkey", "8", "maxmemory-policy", ("allkeys-lru", "volatile-lru")),
)


@dataclass
class Rounds:
    """Seconds from the PATCH until one, and all, have the value; and the same by hand, one after the other."""

    one: list[float] = field(default_factory=list)
    many: list[float] = field(default_factory=list)
    by_hand: list[float] = field(default_factory=list)


class Fleet:
    """Instances of one version, whose roots their owner may use by hand."""

    def __init__(self, argosy: Server, client: Client, subject: Subject) -> None:
        self.subject = subject
        self._client = client
        self._instances = argosy.home / "instances"
        self._ca = argosy.home / "database-ca.crt"
        asked = {
            "flavorRef": FLAVOR,
            "volume": {"size": 1},
            "datastore": {"type": subject.datastore, "version": subject.version},
        }
        for number in range(MANY):
            answer = client.post("/instances", json={"instance": {"name": f"n{number}", **asked}})
            if answer.status_code != 200:
                raise RuntimeError(f"the create was refused: {answer.text}")
        listed = client.get("/instances").json()["instances"]
        self.ids = [one["id"] for one in listed]
        self.doors = [self._door(argosy.wait_until_healthy(client, one)) for one in self.ids]

    def _door(self, shown: dict[str, Any]) -> Door:
        root = self._client.post(f"/instances/{shown['id']}/root").json()["user"]
        place = shown["addresses"][0]
        management = self._instances / str(shown["id"]) / "etc/os_admin.password"
        if management.exists():
            _MANAGEMENT[place["address"]] = management.read_text().strip()
        return Door(place["address"], place["port"], root["name"], "", self._ca, root["password"])

    def group(self, name: str, members: list[str]) -> str:
        """A configuration group that these follow."""
        subject = self.subject
        asked = {
            "name": name,
            "values": {subject.parameter: subject.values[0]},
            "datastore": {"type": subject.datastore, "version": subject.version},
        }
        made = self._client.post("/configurations", json={"configuration": asked})
        if made.status_code != 200:
            raise RuntimeError(f"the group was refused: {made.text}")
        group: str = made.json()["configuration"]["id"]
        for instance_id in members:
            answer = self._client.put(
                f"/instances/{instance_id}", json={"instance": {"configuration": group}}
            )
            if answer.status_code != 202:
                raise RuntimeError(f"the group was not attached: {answer.text}")
        doors = [self.doors[self.ids.index(one)] for one in members]
        wait_until("the group holds", lambda: all(self.value(one) == subject.values[0] for one in doors), 120)
        return group

    def detach(self) -> None:
        for instance_id in self.ids:
            self._client.put(f"/instances/{instance_id}", json={"instance": {"configuration": None}})
        wait_until("nobody is busy", self._idle, 120)

    def _idle(self) -> bool:
        listed = self._client.get("/instances").json()["instances"]
        return all(one["operating_status"] == "HEALTHY" for one in listed)

    def change(self, group: str, value: str, doors: list[Door]) -> float:
        """Seconds from the PATCH until each of these servers has the value."""
        wait_until("nobody is busy", self._idle, 120)
        began = time.perf_counter()
        values = {"values": {self.subject.parameter: value}}
        answer = self._client.patch(f"/configurations/{group}", json={"configuration": values})
        if answer.status_code != 200:
            raise RuntimeError(f"the change was refused: {answer.text}")
        for door in doors:
            wait_until("the value is there", lambda door=door: self.value(door) == value, 120, 0.002)  # type: ignore[misc]  # cannot infer defaults
        return time.perf_counter() - began

    def value(self, door: Door) -> str:
        """What the server uses now."""
        return _ASK[self.subject.datastore](door, self.subject.parameter)

    def by_hand(self, value: str) -> float:
        """Seconds for a loop over all servers that sets the value as their roots."""
        began = time.perf_counter()
        for door in self.doors:
            _SET[self.subject.datastore](door, self.subject.parameter, value)
        return time.perf_counter() - began


def measure(*, quick: bool = False) -> tuple[str, str]:
    """The section of the report."""
    began = report.when()
    measured = {}
    for subject in SUBJECTS:
        images.image(subject.datastore, subject.version)
        with running(ARGOSY_QUOTAS__INSTANCES="-1", ARGOSY_QUOTAS__VOLUMES="-1") as argosy:
            fleet = Fleet(argosy, argosy.client(), subject)
            measured[subject.name] = _measure(fleet, 2 if quick else 5)
    return "Parameters", "\n\n".join([began, *_told(measured)])


def _measure(fleet: Fleet, rounds: int) -> Rounds:
    measured = Rounds()
    low, high = fleet.subject.values
    alone = fleet.group("alone", fleet.ids[:1])
    for number in range(rounds):
        measured.one.append(fleet.change(alone, low if number % 2 else high, fleet.doors[:1]))
    fleet.detach()
    everyone = fleet.group("everyone", fleet.ids)
    for number in range(rounds):
        measured.many.append(fleet.change(everyone, low if number % 2 else high, fleet.doors))
    fleet.detach()
    for number in range(rounds):
        measured.by_hand.append(fleet.by_hand(low if number % 2 else high))
    return measured


def _told(measured: dict[str, Rounds]) -> Iterator[str]:
    yield (
        f"A dynamic parameter of a configuration group, from the PATCH until the servers have it (they are asked "
        f"themselves): for one instance that follows the group, and for {MANY}. *By hand* is a loop over the {MANY} "
        "servers that connects to each over TLS and sets the value."
    )
    rows, growth = [], []
    for name, rounds in measured.items():
        one, many, hand = (Figures.of(of) for of in (rounds.one, rounds.many, rounds.by_hand))
        growth.append(f"{name} {many.median / one.median:.1f}")
        rows.append(
            [
                name,
                one.text(2),
                many.text(2),
                f"{1000 * many.median / MANY:.0f}",
                hand.text(2),
                ratios(many, hand).text(1),
                str(len(one.values)),
            ]
        )
    yield table(
        ["seconds", "one", f"all {MANY}", "ms for each", f"{MANY} by hand", "Argosy / by hand", "n"], rows
    )
    yield (
        f"Reading: {MANY} instances take as many times as long as one: {', '.join(growth)}. What Argosy does and the loop "
        "does not: a durable operation for each instance, a file that keeps the value, a check that the server took it."
    )


def _postgresql(door: Door) -> psycopg.Connection[tuple[Any, ...]]:
    return psycopg.connect(
        host=door.address,
        port=door.port,
        user=door.user,
        password=door.password,
        dbname="postgres",
        sslmode="verify-full",
        sslrootcert=str(door.ca),
        gssencmode="disable",
        autocommit=True,
    )


def _ask_postgresql(door: Door, parameter: str) -> str:
    with _postgresql(door) as session:
        query = "SELECT setting FROM pg_settings WHERE name = %s"
        row = session.execute(query, (parameter,)).fetchone()
        return str(row[0]) if row else ""


def _set_postgresql(door: Door, parameter: str, value: str) -> None:
    with _postgresql(door) as session:
        session.execute(f"ALTER SYSTEM SET {parameter} = {value}".encode())
        session.execute(b"SELECT pg_reload_conf()")


def _mariadb(door: Door) -> pymysql.Connection:
    return pymysql.connect(
        host=door.address,
        port=door.port,
        user=door.user,
        password=door.password,
        ssl_ca=str(door.ca),
        ssl_verify_cert=True,
        ssl_verify_identity=True,
    )


def _ask_mariadb(door: Door, parameter: str) -> str:
    with _mariadb(door) as session, session.cursor() as cursor:
        cursor.execute(f"SELECT @@GLOBAL.{parameter}")
        row = cursor.fetchone()
        return str(row[0]) if row else ""


def _set_mariadb(door: Door, parameter: str, value: str) -> None:
    with _mariadb(door) as session, session.cursor() as cursor:
        cursor.execute(f"SET GLOBAL {parameter} = {value}")


def _ask_valkey(door: Door, parameter: str) -> str:
    with clients.valkey_connection(door) as connection:
        clients.valkey_one(connection, "AUTH", door.user, door.password)
        told: str = clients.valkey_one(connection, "INFO", "memory")
    lines = (line.partition(":") for line in told.splitlines())
    return next(value for name, _, value in lines if name == parameter.replace("-", "_"))


def _set_valkey(door: Door, parameter: str, value: str) -> None:
    """As the agent's own account, since CONFIG is closed to root."""
    with clients.valkey_connection(door) as connection:
        clients.valkey_one(connection, "AUTH", "os_admin", _MANAGEMENT[door.address])
        clients.valkey_one(connection, "CONFIG", "SET", parameter, value)


_MANAGEMENT: dict[str, str] = {}  # passwords of the agents' accounts in Valkey, by the address
_ASK = {"postgresql": _ask_postgresql, "mariadb": _ask_mariadb, "valkey": _ask_valkey}
_SET = {"postgresql": _set_postgresql, "mariadb": _set_mariadb, "valkey": _set_valkey}
