"""After `argosy admin db upgrade` of the next release, processes of this one can be started again, or say why not."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from argosy.metadata.migrations import HEAD
from tests.support.command_line import CommandLine, Result
from tests.support.metadata import postgresql
from tests.support.newer_release import REVISION, newer_release
from tests.support.server import Client, running

LONG = "ARGOSY_TEST_LONG" in os.environ
PARTS = ("conductor", "taskmanager", "api")
LINE = "the metadata database is a newer release's, on which this one may work until it is replaced"
TOO_OLD = (
    f"The metadata database has revision {REVISION} of a newer release, on which processes of revision {REVISION} or "
    f"newer work, and this release has revision {HEAD}: start the newer one."
)


@pytest.fixture
def where(request: pytest.FixtureRequest) -> Iterator[dict[str, str]]:
    """What names the metadata database. SQLite's is in the home, without being named."""
    if request.param == "sqlite":
        yield {}
        return
    with postgresql() as database:
        yield {"ARGOSY_METADATA_URL": database.url}


def upgrade_twice_at_once(command: CommandLine) -> list[Result]:
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(command, "admin", "db", "upgrade", "--json") for _ in range(2)]
        return [one.result() for one in both]


def begin(client: Client, name: str) -> str:
    body = {"name": name, "flavorRef": "1", "volume": {"size": 1}, "datastore": {"type": "valkey"}}
    answer = client.post("/instances", json={"instance": body})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["instance"]["id"])


@pytest.mark.timeout(280)
@pytest.mark.parametrize("where", ["sqlite", "postgresql"] if LONG else ["postgresql"], indirect=True)
def test_processes_that_are_killed_after_the_upgrade_start_again_and_go_on(
    where: dict[str, str], tmp_path: Path
) -> None:
    parts = PARTS if where else ()  # SQLite's is `argosy up`, whose process may migrate and must not here
    with running(*parts, **where) as argosy:
        client = argosy.client()
        command = CommandLine(argosy.home, **where)
        newer = CommandLine(argosy.home, **where, **newer_release(tmp_path, takes_away=False))
        assert {one.json["revision"] for one in upgrade_twice_at_once(newer)} == {REVISION}

        made = [begin(client, "in-flight")]
        for part in parts or ("api",):
            argosy.kill(part)
        assert LINE not in argosy.log()
        argosy.start(*parts)
        assert argosy.log().count(LINE) == len(parts or ("api",))
        client = argosy.client()
        made.append(begin(client, "begun-afterwards"))
        for one in made:
            argosy.wait_until_healthy(client, one)

        shown = command("admin", "db", "status").out
        assert "a newer release's: this one may work on it until it is replaced\n" in shown
        assert f"processes of revision {HEAD} or newer\n" in shown
        assert "task manager " in shown
        told = command("admin", "db", "upgrade", "--json").json
        assert (told["before"], told["revision"], told["wanted"]) == (REVISION, REVISION, HEAD)
        assert (told["current"], told["newer"], told["usable"], told["oldest"]) == (False, True, True, HEAD)
        assert newer("admin", "db", "status", "--json").json["current"] is True
        for one in made:
            client.delete(f"/instances/{one}")
        for one in made:
            argosy.wait_until_gone(client, one)
        assert argosy.leftovers() == []


@pytest.mark.parametrize("where", ["sqlite", "postgresql"] if LONG else ["sqlite"], indirect=True)
def test_processes_that_are_too_old_for_the_tables_say_so_and_name_both(
    where: dict[str, str], tmp_path: Path
) -> None:
    home = tmp_path / "home"
    command = CommandLine(home, **where)
    newer = CommandLine(home, **where, **newer_release(tmp_path / "new", takes_away=True))
    command("admin", "db", "upgrade")
    assert {one.json["revision"] for one in upgrade_twice_at_once(newer)} == {REVISION}
    for program in (["serve", "conductor"], ["up"]):
        done = subprocess.run(
            [sys.executable, "-m", "argosy.processes", *program, "--home", str(home)],
            env=command.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert (done.returncode, done.stderr) == (1, f"argosy: {TOO_OLD}\n")
    assert TOO_OLD in command("admin", "db", "upgrade", code=1).err
    told = command("admin", "db", "status", code=1).out
    assert "a newer release's: this one is too old for it\n" in told
    assert f"processes of revision {REVISION} or newer\n" in told
    assert newer("admin", "db", "status", "--json").json["current"] is True
