"""Logs of real servers: switched while they run, read from any place, rotated while they are written to."""

from __future__ import annotations

import os
import threading
import time

import pytest

from argosy.agent.logs import LogFiles
from argosy.domain.errors import Invalid
from argosy.engines import choices
from argosy.engines.base import RootAccess
from argosy.engines.layers import Layered
from argosy.engines.logs import LayeredLogs
from argosy.rpc import messages
from tests.engines.test_life import a_session
from tests.support.engines import Guest

SWITCHES = ("general", "slow_query", "audit")


def whole(files: LogFiles, name: str, position: int | None = 0) -> str:
    """All of a log from a position on, part by part."""
    text = ""
    while True:
        part = files.read(name, position, 10**6, 50_000)
        text += part.text
        if part.next == position or part.next >= part.log.ends:
            return text
        position = part.next


def of(files: LogFiles, name: str) -> messages.Log:
    return next(one for one in files.every() if one.name == name)


@pytest.fixture
def logs(guest: Guest) -> LayeredLogs:
    assert isinstance(guest.engine, LayeredLogs)
    return guest.engine


@pytest.fixture
def files(guest: Guest) -> LogFiles:
    return LogFiles(guest.engine)


def test_the_servers_own_words_are_in_the_error_log(guest: Guest, files: LogFiles) -> None:
    log = of(files, "error")
    assert log.is_on
    assert log.ends > 0
    assert guest.engine.server.log_tail(1).splitlines()[-1] in whole(files, "error")
    assert files.read("error", None, 3, 10**6).text.count("\n") >= 1
    with pytest.raises(Invalid):
        files.switch("error", on=False)
    with pytest.raises(Invalid, match="no log"):
        files.read("nothing", 0, 1, 10)


def test_switches_take_effect_at_once_and_survive_a_restart(
    guest: Guest, logs: LayeredLogs, files: LogFiles
) -> None:
    names = [one.name for one in logs.files() if one.switch]
    if not names:
        pytest.skip(f"{guest.datastore.title} has no logs to switch")
    assert [of(files, name).is_on for name in names] == [False] * len(names)
    with a_session(guest) as session:
        session.write("before", "x")
        for name in names:
            files.switch(name, on=True)
    assert all(of(files, name).is_on and not of(files, name).waits for name in names)
    with a_session(guest) as session:
        session.write("during", "x")
        session.write("more", "x")
    guest.wait_until(lambda: "during" in whole(files, "general"), "the statement is in the general log")
    general = whole(files, "general")
    assert "before" not in general
    assert whole(files, "general") == general or "more" in general
    guest.engine.stop()
    guest.engine.start()
    assert all(of(files, name).is_on for name in names)
    with a_session(guest) as session:
        session.write("later", "x")
    guest.wait_until(lambda: "later" in whole(files, "general"), "it logs after a restart too")
    for name in names:
        files.switch(name, on=False)
    with a_session(guest) as session:
        session.write("silence", "x")
        time.sleep(0.1)
    assert not any(of(files, name).is_on for name in names)
    assert "silence" not in whole(files, "general")


def test_what_the_agent_does_is_in_no_log(guest: Guest, logs: LayeredLogs, files: LogFiles) -> None:
    for log in logs.files():
        if log.switch:
            files.switch(log.name, on=True)
    engine = guest.engine
    assert isinstance(engine, RootAccess)
    engine.enable_root("Root-secret-991")
    a_session(guest).close()
    engine.enable_root("Root-secret-992")
    engine.stop()
    engine.start()
    written = guest.everything_written()
    assert "Root-secret" not in written
    for name in [log.name for log in logs.files() if log.name != "error"]:
        text = whole(files, name)
        assert "ALTER ROLE" not in text, name
        assert "IDENTIFIED" not in text, name


def test_the_group_has_the_last_word(guest: Guest, logs: LayeredLogs, files: LogFiles) -> None:
    off = {"mariadb": ("general_log", "OFF"), "postgresql": ("log_statement", "none")}
    if guest.datastore.engine not in off:
        pytest.skip(f"{guest.datastore.title} has no logs to switch")
    name, value = off[guest.datastore.engine]
    assert isinstance(guest.engine, Layered)
    guest.engine.apply_parameters({name: value})
    with pytest.raises(Invalid, match=name):
        files.switch("general", on=True)
    assert choices.read(guest.host).logs == ()
    guest.engine.apply_parameters({})
    files.switch("general", on=True)
    assert of(files, "general").is_on


def test_a_log_that_grows_is_rotated_and_followed_through(guest: Guest, logs: LayeredLogs) -> None:
    files = LogFiles(guest.engine, most_bytes=20_000)
    name = "general" if any(one.name == "general" for one in logs.files()) else None
    if name is None:
        pytest.skip(f"{guest.datastore.title} has nothing that makes it write much")
    files.switch(name, on=True)
    followed: list[str] = []
    position = of(files, name).ends

    def caught_up() -> bool:
        nonlocal position
        while (part := files.read(name, position, 0, 5000)).next != position:
            assert not part.missed
            followed.append(part.text)
            position = part.next
        return of(files, name).ends == position

    for number in range(6):
        with a_session(guest) as session:
            for turn in range(20):
                session.write(f"mark-{number}-{turn}-", "x" * 200)
        if number % 2:
            files.keep()
        caught_up()
    # The end of a session is written after the client is gone.
    guest.wait_until(caught_up, "nothing more is written")
    text = "".join(followed)
    assert [mark for n in range(6) for t in range(20) if (mark := f"mark-{n}-{t}-") not in text] == []
    log = of(files, name)
    assert log.rotated > 0
    directory = guest.host.logs
    assert sum(file.stat().st_size for file in directory.iterdir()) < 200_000
    part = files.read(name, 0, 0, 5000)
    assert part.missed
    assert part.position == log.begins
    again = LogFiles(guest.engine, most_bytes=20_000)
    # Between the two looks the end of a session may be written.
    guest.wait_until(lambda: of(again, name) == of(files, name), "another agent finds the log as it is")


def test_an_agent_that_died_while_it_cut_a_log_loses_nothing(place: Guest) -> None:
    log = place.engine.server.log
    truncate = os.ftruncate
    for died in ("before the cut", "after the cut"):
        for file in place.host.logs.iterdir():
            file.unlink()
        (place.host.etc / "logs.json").unlink(missing_ok=True)
        log.write_text("one\ntwo\nthree\n" * 10)
        os.chown(log, place.host.account.uid, place.host.account.gid)
        files = LogFiles(place.engine, most_bytes=20)
        try:

            def dying(descriptor: int, size: int, died: str = died) -> None:
                if died == "after the cut":
                    truncate(descriptor, size)
                raise KeyboardInterrupt

            os.ftruncate = dying
            with pytest.raises(KeyboardInterrupt):
                files.keep()
        finally:
            os.ftruncate = truncate
        again = LogFiles(place.engine, most_bytes=20)
        found = of(again, "error")
        assert (found.begins, found.ends) == ((0, 140) if died == "before the cut" else (120, 140)), died


def test_nothing_is_read_through_a_link_or_of_another_owner(place: Guest) -> None:
    secret = place.home / "secret"
    secret.write_text("nobody's business\n")
    log = place.engine.server.log
    files = LogFiles(place.engine)
    log.symlink_to(secret)
    assert whole(files, "error") == ""
    log.unlink()
    os.link(secret, log)
    assert whole(files, "error") == ""
    log.unlink()
    os.mkfifo(log)
    assert whole(files, "error") == ""
    log.unlink()
    log.mkdir()
    assert whole(files, "error") == ""
    files.keep()


def test_the_last_lines_are_found_whatever_their_length(place: Guest) -> None:
    log = place.engine.server.log
    lines = [f"{number:06}" + "ä" * (number % 700) for number in range(4000)]
    log.write_text("".join(f"{line}\n" for line in lines))
    os.chown(log, place.host.account.uid, place.host.account.gid)
    files = LogFiles(place.engine)
    if place.datastore.engine == "postgresql":
        pytest.skip("its entries are told apart, below")
    for last in (0, 1, 7, 800, 4000, 9000):
        part = files.read("error", None, last, 10**6)
        text = part.text
        while part.next < part.log.ends:
            part = files.read("error", part.next, 0, 10**6)
            text += part.text
        assert text.splitlines() == (lines[-last:] if last else []), last
    assert whole(files, "error").splitlines() == lines
    for length in (256 * 1024 - 1, 256 * 1024, 600_000):
        log.write_text("a\n" + "x" * length + "\nb\n")
        assert files.read("error", None, 1, 10**6).text == "b\n"
        assert files.read("error", None, 2, 10**6).text == "x" * length + "\nb\n"
    log.write_bytes(b"x" * 3000 + b"\xff\xfe\n" + "ü".encode() * 5000)
    part = files.read("error", 0, 0, 1001)
    assert part.next <= 1001
    assert "\ufffd" in whole(files, "error")


def test_a_server_that_floods_its_log_is_kept_within_bounds(place: Guest) -> None:
    if place.host.version != "9":
        pytest.skip("one server is enough for this")
    log = place.engine.server.log
    ended = threading.Event()

    def flood() -> None:
        with log.open("ab") as file:
            os.chown(log, place.host.account.uid, place.host.account.gid)
            # So much at most, should nobody cut it.
            for _ in range(10_000):
                if ended.is_set():
                    break
                file.write(b"a line of a flood that would fill every disk there is\n" * 1000)

    files = LogFiles(place.engine, most_bytes=200_000)
    thread = threading.Thread(target=flood)
    thread.start()
    try:
        for _ in range(20):
            time.sleep(0.01)
            files.keep()
    finally:
        ended.set()
        thread.join()
    files.keep()
    before = log.with_name(f"{log.name}.1")
    assert before.stat().st_size <= 10 * 2**20
    assert log.stat().st_size < 200_000
