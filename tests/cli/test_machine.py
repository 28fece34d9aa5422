"""`argosy up`, `status`, `down`: an Argosy of one's own, started and stopped."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest

from tests.support.command_line import PROGRAM, CommandLine
from tests.support.scratch import new_home
from tests.support.server import Server, own_network, wait_until

AGENT_PATHS = [
    str(Path(__file__).parents[2] / "src"),
    *(each for each in sys.path if each.endswith("site-packages")),
]


@pytest.fixture
def argosy() -> Iterator[CommandLine]:
    """A command line whose home has nothing in it yet."""
    with own_network() as network:
        home = new_home()
        own = CommandLine(
            home,
            ARGOSY_API__LISTEN=f"{network[2]}:8779",
            ARGOSY_LOCAL__NETWORK=str(network),
            ARGOSY_HOME=str(home),
        )
        server = Server(home, network, {})
        try:
            yield own
        finally:
            server.destroy()


def test_databases_outlive_down_and_are_there_again_after_up(argosy: CommandLine) -> None:
    assert "argosy create" in argosy("up", "--detach").out
    made = argosy(
        "create", "shop", "--datastore", "postgresql", "--database", "shop", "--user", "ann", "--json"
    ).json
    login = {
        "host": made["address"],
        "user": "ann",
        "password": made["users"][0]["password"],
        "dbname": "shop",
        "sslmode": "verify-full",
        "sslrootcert": str(argosy.home / "database-ca.crt"),
    }
    address = psycopg.conninfo.make_conninfo("", **login)
    with psycopg.connect(address) as connection:
        connection.execute("create table kept as select 42 as answer")

    assert "Databases keep serving" in argosy("down").out
    assert argosy("status", code=6).out.count("not running") == 3
    argosy("list", code=6)
    with psycopg.connect(address) as connection:
        assert connection.execute("select answer from kept").fetchone() == (42,)

    argosy("up", "--detach", "-q")
    assert argosy("list", "-q").out.split() == [made["id"]]
    argosy("connect", "shop", "-c", "select answer from kept")

    assert "Database shop: stopped cleanly." in argosy("down", "--all").out
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(address)
    argosy("up", "--detach")

    def answer() -> tuple[int] | None:
        with suppress(psycopg.OperationalError), psycopg.connect(address) as connection:
            return connection.execute("select answer from kept").fetchone()
        return None

    assert wait_until("the database serves again", answer) == (42,)
    argosy("delete", "shop")


def test_status_tells_programs_what_runs_and_where(argosy: CommandLine) -> None:
    assert argosy("status", "--json", code=6).json["running"] is False
    argosy("up", "--detach", "--json")
    shown = argosy("status", "--json").json
    assert shown["running"] is True
    assert shown["endpoint"] == f"http://{argosy.environment['ARGOSY_API__LISTEN']}"
    assert set(shown["parts"]) == {"api", "conductor", "taskmanager"}
    assert all(isinstance(pid, int) for pid in shown["parts"].values())
    assert argosy("status", "-q").out == "running\n"
    assert "none yet" in argosy("status").out
    assert argosy("down", "-q").out == ""


def test_up_in_the_foreground_ends_with_ctrl_c(argosy: CommandLine) -> None:
    child = subprocess.Popen(
        [PROGRAM, "up"], env=argosy.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/"
    )
    try:
        wait_until("it is up", lambda: argosy("status", code=None).code == 0)
        # It became the server itself: what looks after services has one process to look at.
        assert argosy("status", "--json").json["parts"]["api"] == child.pid
        child.send_signal(signal.SIGINT)
        assert child.wait(60) == 0
    finally:
        child.kill()
        child.wait()


def test_what_is_in_the_working_directory_is_never_run(argosy: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "argosy").mkdir()
    (tmp_path / "argosy" / "__init__.py").write_text("raise SystemExit('hijacked')")
    done = subprocess.run(
        [PROGRAM, "status"], env=argosy.environment, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 6
    assert "hijacked" not in done.stdout + done.stderr


def test_an_address_in_use_is_said(argosy: CommandLine, server: Server) -> None:
    refused = argosy("up", "--detach", "--listen", server.listen, code=1)
    assert "cannot listen" in refused.err


@pytest.mark.skipif(os.geteuid() != 0, reason="changes to another user, which root alone may")
@pytest.mark.skipif(shutil.which("setpriv") is None, reason="changes to another user with setpriv")
def test_an_ordinary_user_has_databases_of_their_own(argosy: CommandLine) -> None:
    # The interpreter of the test may be out of an ordinary user's reach; the system's is not.
    python = f"/usr/bin/python{sys.version_info.major}.{sys.version_info.minor}"
    if not Path(python).exists():
        pytest.skip(f"there is no {python}")
    nobody = 65534
    os.chown(argosy.home, nobody, nobody)

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [
                "setpriv", f"--reuid={nobody}", f"--regid={nobody}", "--clear-groups", "--no-new-privs",
                python, "-c", "from argosy.cli.main import main; main()", *arguments,
            ],
            env={**argosy.environment, "PYTHONPATH": ":".join(AGENT_PATHS), "PYTHONDONTWRITEBYTECODE": "1"},
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, cwd="/",
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    run("up", "--detach")
    made = json.loads(run("create", "mine", "--datastore", "valkey", "--user", "me", "--json"))
    assert made["operating_status"] == "HEALTHY"
    assert run("connect", "mine", "-c", "PING").strip() == "PONG"
    assert {each.owner() for each in argosy.home.iterdir()} == {"nobody"}
    run("delete", "mine")
    run("down", "--all")
