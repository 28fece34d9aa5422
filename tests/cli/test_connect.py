"""`argosy connect`: the datastore's own program, the right address, and passwords that nobody else sees."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from argosy.cli.connect import _Foreground
from tests.support.command_line import PROGRAM, CommandLine, watching_arguments
from tests.support.server import wait_until


def test_psql_opens_on_the_instance(argosy: CommandLine, shop: str) -> None:
    query = "select current_user, current_database(), ssl from pg_stat_ssl where pid = pg_backend_pid()"
    done = argosy("connect", shop, "-c", query)
    assert done.out.splitlines()[2].split() == ["ann", "|", "shop", "|", "t"]


def test_mariadb_opens_on_the_instance(argosy: CommandLine, crm: str) -> None:
    done = argosy("connect", crm, "-c", "select current_user(), database()")
    assert "| bob@%          | crm        |" in done.out
    assert "TLS" in argosy("connect", crm, "-c", "show status like 'Ssl_version'").out


def test_valkey_cli_opens_on_the_instance(argosy: CommandLine, cache: str) -> None:
    assert argosy("connect", cache, "-c", "SET 'a key' 'a value'").out.strip() == "OK"
    assert argosy("connect", cache, "-c", "GET 'a key'").out.strip() == "a value"
    assert argosy("connect", cache, "-c", "ACL WHOAMI").out.strip() == "app"


def test_a_query_that_fails_fails_the_command(argosy: CommandLine, shop: str, crm: str, cache: str) -> None:
    for name, query in {shop: "select 1/0", crm: "select nothing", cache: "NOTHING"}.items():
        argosy("connect", name, "-c", query, code=1)


def test_a_script_can_be_piped_in(argosy: CommandLine, shop: str) -> None:
    done = argosy("connect", shop, "--", "--tuples-only", "--no-align", stdin="select 1;\nselect 2;\n")
    assert done.out.split() == ["1", "2"]


def test_a_person_gets_the_programs_own_prompt(argosy: CommandLine, shop: str) -> None:
    shown = argosy.at_terminal("connect", shop, answers=[("shop=>", "\\q\n")])
    assert shown.code == 0
    assert "shop=>" in shown.out


def test_json_tells_where_to_connect_but_no_password(argosy: CommandLine, shop: str) -> None:
    facts = argosy("connect", shop, "--json").json
    assert (facts["port"], facts["user"], facts["database"], facts["tls"]) == (5432, "ann", "shop", True)
    assert Path(facts["ca"]).read_text().startswith("-----BEGIN CERTIFICATE")
    assert "password" not in facts


def test_nobody_sees_a_password_in_the_process_list(
    argosy: CommandLine, shop: str, crm: str, cache: str
) -> None:
    file = argosy.home / "credentials.json"
    assert file.stat().st_mode & 0o777 == 0o600
    secrets = [secret for users in json.loads(file.read_text()).values() for secret in users.values()]
    with watching_arguments() as seen:
        for name, query in {
            shop: "select pg_sleep(0.3)",
            crm: "select sleep(0.3)",
            cache: "BLPOP nothing 0.3",
        }.items():
            argosy("connect", name, "-c", query)
        argosy("users", "create", shop, "quiet", "--password-file", "-", stdin="chosen-secret-1234\n")
        argosy("users", "delete", shop, "quiet")
    assert any(b"pg_sleep" in arguments for arguments in seen)
    for secret in [*secrets, "chosen-secret-1234"]:
        assert not any(secret.encode() in arguments for arguments in seen)


def test_a_password_that_a_person_chose_is_not_kept(argosy: CommandLine, shop: str) -> None:
    argosy("users", "create", shop, "own", "--password-file", "-", stdin="my-own-secret-5678\n")
    assert "my-own-secret-5678" not in (argosy.home / "credentials.json").read_text()
    own = {"ARGOSY_PASSWORD": "my-own-secret-5678"}
    done = argosy("connect", shop, "-u", "own", "-c", "select current_user", environment=own)
    assert "own" in done.out
    argosy("connect", shop, "-u", "own", "-c", "select 1", environment={"ARGOSY_PASSWORD": "wrong"}, code=1)
    argosy("users", "delete", shop, "own")


def test_a_password_with_awkward_characters_reaches_the_server_whole(
    argosy: CommandLine, shop: str, crm: str, cache: str
) -> None:
    awkward = "a:b\\c\"d'e #f$g %h"
    for name in (shop, crm):
        argosy("users", "create", name, "awk", "--password-file", "-", stdin=f"{awkward}\n")
        argosy("connect", name, "-u", "awk", "-c", "select 1", environment={"ARGOSY_PASSWORD": awkward})
        argosy("users", "delete", name, "awk")


def test_a_users_own_settings_do_not_lead_the_program_elsewhere(argosy: CommandLine, crm: str) -> None:
    own = argosy.home / ".my.cnf"
    own.write_text("[client]\npassword=wrong\nhost=192.0.2.1\n")
    try:
        assert "1" in argosy("connect", crm, "-c", "select 1").out
    finally:
        own.unlink()


@pytest.mark.parametrize("name", ["nobody", "os_admin"])
def test_a_user_that_is_not_there_is_named(argosy: CommandLine, shop: str, name: str) -> None:
    assert name in argosy("connect", shop, "-u", name, "-c", "select 1", code=3).err


def test_nothing_of_a_connection_stays_on_the_disk(argosy: CommandLine, shop: str, tmp_path: Path) -> None:
    argosy("connect", shop, "-c", "select 1", environment={"TMPDIR": str(tmp_path)})
    # Also when it is told to end while the program runs.
    child = subprocess.Popen(
        [PROGRAM, "connect", shop, "-c", "select pg_sleep(60)"],
        env={**argosy.environment, "TMPDIR": str(tmp_path)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until("it has begun", lambda: list(tmp_path.glob("argosy-connect-*/pgpass")))
        child.terminate()
        child.wait(30)
    finally:
        child.kill()
        child.wait()
    assert list(tmp_path.iterdir()) == []


def test_a_program_that_is_just_starting_is_told_to_end_too(monkeypatch: pytest.MonkeyPatch) -> None:
    started = []

    class Popen(subprocess.Popen[Any]):
        def __init__(self, *arguments: Any, **more: Any) -> None:
            super().__init__(*arguments, **more)
            started.append(self)
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(subprocess, "Popen", Popen)
    try:
        with _Foreground() as foreground:
            assert foreground.run(["sleep", "60"], dict(os.environ)) == 1
        assert [each.returncode for each in started] == [-signal.SIGTERM]
    finally:
        for each in started:
            each.kill()
            each.wait()
