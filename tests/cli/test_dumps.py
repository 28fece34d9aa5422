"""`argosy export`, `argosy import` and `argosy create --from-dump`."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.command_line import PROGRAM, CommandLine

LONG = pytest.mark.skipif(not os.environ.get("ARGOSY_TEST_LONG"), reason="long: ARGOSY_TEST_LONG=1")


@contextmanager
def databases(argosy: CommandLine, instance: str, *names: str) -> Iterator[None]:
    for name in names:
        argosy("databases", "create", instance, name)
    try:
        yield
    finally:
        for name in names:
            argosy("databases", "delete", instance, name)


@contextmanager
def user(argosy: CommandLine, instance: str, *names: str) -> Iterator[None]:
    argosy("users", "create", instance, "dora", *[word for name in names for word in ("--database", name)])
    try:
        yield
    finally:
        argosy("users", "delete", instance, "dora")


def ask(argosy: CommandLine, instance: str, database: str, query: str) -> str:
    return argosy("connect", instance, "-u", "dora", "-d", database, "-c", query).out


@pytest.mark.parametrize("kind", ["shop", pytest.param("crm", marks=LONG)])
def test_a_database_leaves_and_comes_back(
    argosy: CommandLine, request: pytest.FixtureRequest, tmp_path: Path, kind: str
) -> None:
    instance = request.getfixturevalue(kind)
    file = tmp_path / "out.dump"
    with (
        databases(argosy, instance, "first", "second", "third"),
        user(argosy, instance, "first", "second", "third"),
    ):
        ask(argosy, instance, "first", "CREATE TABLE things (id int primary key, name varchar(20))")
        ask(argosy, instance, "first", "INSERT INTO things VALUES (1, 'one'), (2, 'two')")
        said = argosy("export", instance, code=2)
        assert "first" in said.err
        assert argosy("export", instance, "-d", "first", "-o", str(file)).out.startswith("Exported to")
        assert [path.name for path in tmp_path.iterdir()] == ["out.dump"]
        assert argosy("import", instance, str(file), "-d", "second").out.startswith("Loaded")
        assert "two" in ask(argosy, instance, "second", "SELECT name FROM things ORDER BY id")
        with file.open("rb") as source:
            piped = subprocess.run(
                [PROGRAM, "import", instance, "-d", "third", "--json"],
                stdin=source,
                env=argosy.environment,
                capture_output=True,
                check=True,
            )
        assert json.loads(piped.stdout)["size"] == file.stat().st_size
        place = f"dumps/{kind}/first"
        table = argosy("export", instance, "-d", "first", "-t", "things", "--to-store", place)
        assert "bytes" in table.out
        ask(argosy, instance, "third", "DROP TABLE things")
        argosy("import", instance, "-d", "third", "--from-store", place)
        assert "one" in ask(argosy, instance, "third", "SELECT name FROM things ORDER BY id")
        events = argosy("events", instance).out
        assert "was loaded into database 'third'" in events
        assert f"exported to {place}" in events


def test_an_instance_is_made_of_a_dump(argosy: CommandLine, cache: str, tmp_path: Path) -> None:
    file = tmp_path / "cache.rdb"
    argosy("connect", cache, "-c", "SET from-elsewhere yes")
    with file.open("wb") as target:
        subprocess.run([PROGRAM, "export", cache], stdout=target, env=argosy.environment, check=True)
    assert file.read_bytes()[:5] in {b"REDIS", b"VALKE"}
    missing = argosy("create", "made", "--datastore", "valkey", "--from-dump", str(tmp_path / "no"), code=1)
    assert "cannot be read" in missing.err
    argosy("create", "made", "--datastore", "valkey", "--user", "app", "--from-dump", str(file))
    try:
        assert "yes" in argosy("connect", "made", "-c", "GET from-elsewhere").out
        refused = argosy("import", "made", "-d", "shop", str(file), code=2)
        assert "no databases" in refused.err
        nonsense = tmp_path / "nonsense"
        nonsense.write_bytes(b"\x1f\x8b" + b"x" * 100)
        assert "gzip" in argosy("import", "made", str(nonsense), code=2).err
        assert argosy("export", "made", "-t", "x", "-o", str(tmp_path / "never"), code=2).err
        assert not (tmp_path / "never").exists()
    finally:
        argosy("delete", "made", "--yes")
