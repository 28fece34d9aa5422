"""Backups and restores against the engines' own tools, what they cost a client that writes, and what an agent holds."""

from __future__ import annotations

import hashlib
import itertools
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pymysql
import redis

from argosy import catalog
from bench import report
from bench.bare_backup import BareTool
from bench.figures import Figures, quantile, ratios, table
from tests.support import images
from tests.support.server import Client, Server, running, wait_until
from tests.support.writer import Place, Writer, writing

AIM_OF_TOOL = 0.9
AGENT_AIM_MB = 150
IDLE_S = 5.0
LOG_S = 30.0  # of writing between a backup and the moment that is restored to
PASSWORD = "of-the-writer-1"
_ROW_BYTES = 230  # what a row of PostgreSQL's or MariaDB's takes, about


@dataclass(frozen=True)
class Subject:
    """A version and the data it is given: `size_mb` of rows, or of keys."""

    datastore: str
    version: str
    size_mb: int
    has_databases: bool = True

    @property
    def name(self) -> str:
        return f"{catalog.datastores()[self.datastore].title} {self.version}"

    def has(self, capability: str) -> bool:
        return capability in catalog.datastores()[self.datastore].capabilities


SUBJECTS = (
    Subject("postgresql", "17", 1024),
    Subject("mariadb", "11.8", 1024),
    # As much as fits into the memory of the flavor twice: a snapshot is of a fork.
    Subject("valkey", "8", 400, has_databases=False),
)


@dataclass
class Measured:
    """A value per round, but for sizes. Seconds, bytes, MB of 2**20 bytes."""

    backup_s: list[float] = field(default_factory=list)
    bare_backup_s: list[float] = field(default_factory=list)
    restore_s: list[float] = field(default_factory=list)
    bare_restore_s: list[float] = field(default_factory=list)
    agent_mb: list[float] = field(default_factory=list)
    agent_restoring_mb: list[float] = field(default_factory=list)
    writes: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    data_bytes: int = 0
    stored_bytes: int = 0
    bare_bytes: int = 0
    increment_bytes: int | None = None
    increment_data_bytes: int | None = None
    moment_s: float | None = None
    log_s: float = LOG_S


class Bench:
    """One instance with data in it, and the same server's own tool beside it."""

    def __init__(self, argosy: Server, subject: Subject) -> None:
        self.argosy = argosy
        self.subject = subject
        self.client: Client = argosy.client()
        self._shown = self._create()
        self.id: str = self._shown["id"]
        self.place = self._place()
        directory = argosy.home / "bare"
        directory.mkdir(mode=0o777, exist_ok=True)
        directory.chmod(0o777)  # the tools run under accounts of their own
        self.bare = BareTool(argosy.home / "instances" / self.id / "guest.json", directory / "stream.zst")

    def fill(self) -> None:
        _FILL[self.subject.datastore](self.place, self.subject.size_mb)

    def change(self) -> None:
        """One row in a hundred, which lie beside each other as those of a day do."""
        rows = self.subject.size_mb * 2**20 // _ROW_BYTES
        _sql(self.place, f"UPDATE filling SET words = reverse(words) WHERE n <= {rows // 100}")

    def round(self, measured: Measured) -> None:
        """A backup and a restore by Argosy and by the tool, in turns; a writer writes during both backups."""
        with writing(self.place) as writer:
            self._watched(measured, "nothing", writer, lambda: time.sleep(IDLE_S))
            self._watched(
                measured,
                "backup by the tool",
                writer,
                lambda: self._timed(measured.bare_backup_s, self.bare.back_up),
            )
            backup = {}
            forget_peak(self._agent())
            self._watched(
                measured,
                "backup by Argosy",
                writer,
                lambda: self._timed(measured.backup_s, lambda: backup.update(self.back_up())),
            )
            measured.agent_mb.append(peak_mb(self._agent()))
        measured.bare_bytes = self.bare.file.stat().st_size
        measured.data_bytes, measured.stored_bytes = self._sizes(backup["id"])
        self._timed(measured.bare_restore_s, self.bare.restore)
        forget_peak(self._agent())
        self._timed(measured.restore_s, lambda: self.restore(backup=backup["id"]))
        measured.agent_restoring_mb.append(peak_mb(self._agent()))
        if self.subject.has("incremental_backups") and measured.increment_bytes is None:
            # The restored server has a history of its own.
            parent = self.back_up()
            self.change()
            increment = self.back_up(incremental=1)
            measured.increment_data_bytes, measured.increment_bytes = self._sizes(increment["id"])
            self._delete(parent["id"])
        self._delete(backup["id"])

    def restore_to_a_moment(self, measured: Measured) -> None:
        """A backup, then writing without pause, and back to a moment of that."""
        self._archive_log("on")
        self.back_up()
        with writing(self.place):
            time.sleep(measured.log_s)
        moment = datetime.now(UTC)
        instance = f"/instances/{self.id}"

        def reached() -> bool:
            recovery = self.client.get(instance).json()["instance"]["argosy"]["recovery"]
            latest = recovery and recovery["latest"]
            return bool(latest) and datetime.fromisoformat(latest).replace(tzinfo=UTC) > moment

        wait_until("the log is archived that far", reached, 300, every_s=0.2)
        began = time.monotonic()
        self.restore(time=moment.isoformat())
        measured.moment_s = time.monotonic() - began

    def _archive_log(self, mode: str) -> None:
        instance = f"/instances/{self.id}"
        answer = self.client.put(f"{instance}/log_archive", json={"log_archive": {"mode": mode}})
        if answer.status_code != 202:
            raise RuntimeError(f"the log's archive was refused: {answer.text}")

        def done() -> bool:
            busy = self.client.get(instance).json()["instance"]["argosy"]["operation"]
            archive = self.client.get(f"{instance}/log_archive").json()["log_archive"]
            return busy is None and archive["archiving"] is (mode == "on")

        wait_until(f"the archive of the log is {mode}", done)

    def back_up(self, **more: Any) -> dict[str, Any]:
        asked = {"name": "bench", "instance": self.id, **more}
        answer = self.client.post("/backups", json={"backup": asked})
        if answer.status_code != 202:
            raise RuntimeError(f"the backup was refused: {answer.text}")
        backup_id = answer.json()["backup"]["id"]

        def done() -> dict[str, Any] | None:
            shown: dict[str, Any] = self.client.get(f"/backups/{backup_id}").json()["backup"]
            if shown["status"] == "FAILED":
                raise RuntimeError(f"the backup failed: {shown['argosy']['error']}")
            return shown if shown["status"] == "COMPLETED" else None

        found: dict[str, Any] = wait_until("the backup is made", done, 900)
        return found

    def restore(self, **asked: str) -> None:
        answer = self.client.post(f"/instances/{self.id}/action", json={"restore": asked})
        if answer.status_code != 202:
            raise RuntimeError(f"the restore was refused: {answer.text}")
        where = f"/operations?limit=1&instance_id={self.id}&kind=instance.restore"

        def ended() -> bool:
            (operation,) = self.client.get(where).json()["operations"]
            if operation["state"] == "failed":
                raise RuntimeError(f"the restore failed: {operation['error']}")
            return bool(operation["state"] == "succeeded")

        wait_until("the restore has ended", ended, 900)

    def delete(self) -> None:
        self.client.delete(f"/instances/{self.id}")
        self.argosy.wait_until_gone(self.client, self.id)

    def _create(self) -> dict[str, Any]:
        user: dict[str, Any] = {"name": "app", "password": PASSWORD}
        asked: dict[str, Any] = {
            "name": f"bench-{self.subject.datastore}",
            "flavorRef": "4",
            "volume": {"size": 6},
            "datastore": {"type": self.subject.datastore, "version": self.subject.version},
            "users": [user],
        }
        if self.subject.has_databases:
            asked["databases"] = user["databases"] = [{"name": "app"}]
        answer = self.client.post("/instances", json={"instance": asked})
        if answer.status_code != 200:
            raise RuntimeError(f"the create was refused: {answer.text}")
        return self.argosy.wait_until_healthy(self.client, answer.json()["instance"]["id"])

    def _place(self) -> Place:
        address = self._shown["addresses"][0]
        return Place(
            self.subject.datastore,
            address["address"],
            address["port"],
            "app",
            self.argosy.home / "database-ca.crt",
            PASSWORD,
            "app" if self.subject.has_databases else "",
        )

    def _watched(self, measured: Measured, what: str, writer: Writer, do: Callable[[], Any]) -> None:
        writer.goes_on()
        began = time.monotonic()
        do()
        writer.goes_on()
        times = [at for at, _ in writer.acknowledged if at >= began]
        gaps = [1000 * (later - at) for at, later in itertools.pairwise(times)]
        measured.writes.setdefault(what, []).append((quantile(gaps, 0.99), max(gaps)))

    def _timed(self, into: list[float], do: Callable[[], Any]) -> None:
        began = time.monotonic()
        do()
        into.append(time.monotonic() - began)

    def _agent(self) -> int:
        pid = self.argosy.agent_pid(self.id)
        if pid is None:
            raise RuntimeError("there is no agent")
        return pid

    def _sizes(self, backup_id: str) -> tuple[int, int]:
        """What was read of the server, and what it takes in the store."""
        from argosy.metadata.store import Store

        store = Store(self.argosy.settings.database_url)
        try:
            with store.read() as tx:
                backup = tx.backups.get(backup_id)
        finally:
            store.close()
        return int(backup.data_bytes or 0), int(backup.size_bytes or 0)

    def _delete(self, backup_id: str) -> None:
        where = f"/backups/{backup_id}"
        self.client.delete(f"{where}?cascade=true")
        wait_until("the backup is gone", lambda: self.client.get(where).status_code == 404, 120)


def forget_peak(pid: int) -> None:
    """The process's peak is what it holds now (proc(5), clear_refs)."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def peak_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def _sql(place: Place, *statements: str) -> None:
    connection: Any
    if place.datastore == "postgresql":
        connection = psycopg.connect(
            host=place.address,
            port=place.port,
            user=place.user,
            password=place.password,
            dbname=place.database,
            sslmode="verify-full",
            sslrootcert=str(place.ca),
            autocommit=True,
        )
    else:
        connection = pymysql.connect(
            host=place.address,
            port=place.port,
            user=place.user,
            password=place.password,
            database=place.database,
            ssl_ca=str(place.ca),
            autocommit=True,
        )
    with connection, connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


def _words(number: str) -> str:
    """192 characters that pack to about half, as rows of a business do."""
    return ", ".join(f"md5(concat({number}, 'word{place}'))" for place in range(6))


def _fill_postgresql(place: Place, size_mb: int) -> None:
    rows = size_mb * 2**20 // _ROW_BYTES
    _sql(
        place,
        f"CREATE TABLE filling AS SELECT n, concat({_words('n')}) AS words FROM generate_series(1, {rows}) AS n",
        "ALTER TABLE filling ADD PRIMARY KEY (n)",
        "VACUUM ANALYZE filling",
    )


def _fill_mariadb(place: Place, size_mb: int) -> None:
    rows, at_once = size_mb * 2**20 // _ROW_BYTES, 200_000
    _sql(place, "CREATE TABLE filling (n BIGINT PRIMARY KEY, words CHAR(192) CHARACTER SET latin1)")
    for first in range(1, rows, at_once):
        last = min(rows, first + at_once - 1)
        _sql(place, f"INSERT INTO filling SELECT seq, concat({_words('seq')}) FROM seq_{first}_to_{last}")


def _fill_valkey(place: Place, size_mb: int) -> None:
    client = redis.Redis(
        host=place.address,
        port=place.port,
        username=place.user,
        password=place.password,
        ssl=True,
        ssl_ca_certs=str(place.ca),
    )
    try:
        with client.pipeline(transaction=False) as pipeline:
            for number in range(size_mb * 1024):
                words = b"".join(
                    hashlib.md5(b"%d %d" % (number, turn), usedforsecurity=False).digest()
                    for turn in range(32)
                )
                pipeline.set(f"key:{number}", words.hex())
                if number % 1000 == 999:
                    pipeline.execute()
            pipeline.execute()
    finally:
        client.close()


_FILL: dict[str, Callable[[Place, int], None]] = {
    "postgresql": _fill_postgresql,
    "mariadb": _fill_mariadb,
    "valkey": _fill_valkey,
}


def measure(*, quick: bool = False) -> tuple[str, str]:
    """The section of the report."""
    began = report.when()
    subjects = [one for one in SUBJECTS if "backups" in catalog.datastores()[one.datastore].capabilities]
    for subject in subjects:
        images.image(subject.datastore, subject.version)
    measured: dict[str, Measured] = {}
    with running(ARGOSY_BACKUPS__ARCHIVE_LOG_EVERY_S="5") as argosy:
        for one in subjects:
            subject = Subject(one.datastore, one.version, 64, one.has_databases) if quick else one
            _say(f"{subject.name}: filling with {subject.size_mb} MB")
            bench = Bench(argosy, subject)
            bench.fill()
            of = measured[subject.name] = Measured(log_s=3 if quick else LOG_S)
            for number in range(1 if quick else 3):
                _say(f"{subject.name}: round {number + 1}")
                bench.round(of)
            if subject.has("point_in_time"):
                _say(f"{subject.name}: to a moment")
                bench.restore_to_a_moment(of)
            bench.delete()
    return "Backup", "\n\n".join([began, *_told(measured)])


def _told(measured: dict[str, Measured]) -> Iterator[str]:
    yield (
        "One instance with data in it, its backup made by Argosy into its directory store, and by the engine's own tool "
        "piped to `zstd -T0` into a file, in turns; then both restored: by Argosy in place, until it serves again, by the tool "
        "until the files are unpacked (MariaDB's: and prepared) and on disk. MB (2**20 bytes) of the stream a second. What "
        "only Argosy does: encryption, checksums, a way to the store over TLS, counts of rows, and in a restore a server "
        "that proves the data before anything is exchanged."
    )
    rows = []
    for name, of in measured.items():
        for what, ours, theirs in (
            ("backup", of.backup_s, of.bare_backup_s),
            ("restore", of.restore_s, of.bare_restore_s),
        ):
            mb = of.data_bytes / 2**20
            own, tool = (Figures.of(mb / seconds for seconds in each) for each in (ours, theirs))
            rows.append(
                [
                    f"{name}, {what} of {mb:,.0f} MB",
                    own.text(0),
                    tool.text(0),
                    ratios(own, tool).text(2),
                    str(len(ours)),
                ]
            )
    yield table(["MB a second", "Argosy", "tool and zstd", "Argosy / tool", "n"], rows)
    yield table(
        [
            "stored, MB",
            "read",
            "by Argosy",
            "by the tool",
            "increment after 1% of the rows changed",
            "of the full one",
        ],
        [
            [
                name,
                _mb(of.data_bytes),
                _mb(of.stored_bytes),
                _mb(of.bare_bytes),
                "" if of.increment_bytes is None else _mb(of.increment_bytes),
                "" if of.increment_bytes is None else f"{100 * of.increment_bytes / of.stored_bytes:.0f}%",
            ]
            for name, of in measured.items()
        ],
    )
    yield table(
        ["a client that writes, ms", "99% of writes within", "slowest", "n"],
        [
            [
                f"{name}, {what}",
                Figures.of(one[0] for one in values).text(1),
                Figures.of(one[1] for one in values).text(0),
                str(len(values)),
            ]
            for name, of in measured.items()
            for what, values in of.writes.items()
        ],
    )
    yield table(
        ["the agent's peak, MB resident", "backup", "restore"],
        [
            [name, Figures.of(of.agent_mb).text(0), Figures.of(of.agent_restoring_mb).text(0)]
            for name, of in measured.items()
        ],
    )
    for name, of in measured.items():
        if of.moment_s is not None:
            yield (
                f"{name} restored in place to a moment, {of.log_s:.0f} s of one client's writing after a backup of "
                f"{_mb(of.data_bytes)} MB: {of.moment_s:.1f} s until it served."
            )
    slow = [name for name, of in measured.items() if _ratio(of.bare_backup_s, of.backup_s) < AIM_OF_TOOL]
    large = max(peak for of in measured.values() for peak in (*of.agent_mb, *of.agent_restoring_mb))
    yield (
        f"Reading: the aim for a backup is {AIM_OF_TOOL:.0%} of the tool's throughput; it is "
        + (f"missed for {', '.join(slow)}" if slow else "met for all")
        + f". The aim for the agent is a peak under {AGENT_AIM_MB} MB; the largest was {large:.0f} MB."
    )


def _ratio(ours: list[float], theirs: list[float]) -> float:
    return ratios(Figures.of(ours), Figures.of(theirs)).median


def _mb(size_bytes: int) -> str:
    return f"{size_bytes / 2**20:,.0f}"


def _say(what: str) -> None:
    print(f"backup: {what}", file=sys.stderr, flush=True)
