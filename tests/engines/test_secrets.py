"""Passwords stay secret, and connections private."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest

from argosy.domain.databases import NewUser, UserChange, UserId
from argosy.engines.base import RootAccess, Users
from tests.support import files
from tests.support.engines import Guest, Refused

ANNA = UserId("anna")


def command_lines(guest: Guest) -> str:
    """Of every process on the machine that is this instance's."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            line = (process / "cmdline").read_text(errors="replace")
            if process.stat().st_uid == guest.host.account.uid or str(guest.home) in line:
                found.append(line)
        except OSError:
            continue
    return "\n".join(found)


def test_no_password_is_written_anywhere(guest: Guest, users: Users, root: RootAccess) -> None:
    secrets = [f"hunter-{name}-7c1f" for name in ("first", "second", "third", "root", "again", "wrong")]
    users.create_users([NewUser(ANNA, secrets[0]), NewUser(UserId("bert"), secrets[1])])
    users.update_user(ANNA, UserChange(password=secrets[2]))
    root.enable_root(secrets[3])
    root.enable_root(secrets[4])
    with guest.connect("anna", secrets[2]):
        pass
    with pytest.raises(Refused):
        guest.connect("anna", secrets[5])
    written = guest.everything_written() + command_lines(guest)
    guest.engine.stop()
    guest.engine.start()
    written += guest.everything_written() + command_lines(guest)
    assert "postgres" in written or guest.host.instance_id in written or str(guest.home) in written
    assert [secret for secret in secrets if secret in written] == []


def test_a_password_never_shows_in_an_error(users: Users) -> None:
    users.create_users([NewUser(ANNA, "first")])
    with pytest.raises(Exception, match="anna") as refusal:
        users.create_users([NewUser(ANNA, "hunter-7c1f")])
    assert "hunter" not in f"{refusal.value!r} {refusal.value}"


def test_connections_are_under_tls_with_a_certificate_of_our_authority(guest: Guest, users: Users) -> None:
    users.create_users([NewUser(ANNA, "secret")])
    with guest.connect("anna", "secret") as session:
        assert session.encrypted


def test_a_certificate_of_another_authority_is_not_trusted(guest: Guest, users: Users) -> None:
    users.create_users([NewUser(ANNA, "secret")])
    with pytest.raises(Refused, match=r"(?i)certificate"):
        guest.adapter.connect(guest.with_another_authority(), "anna", "secret")


def test_a_place_without_certificates_serves_without_tls(place_without_tls: Guest) -> None:
    place_without_tls.engine.initialise()
    place_without_tls.engine.start()
    engine = place_without_tls.engine
    assert isinstance(engine, Users)
    engine.create_users([NewUser(ANNA, "secret")])
    with place_without_tls.connect("anna", "secret") as session:
        assert not session.encrypted


def test_the_data_and_the_keys_are_the_servers_alone(guest: Guest) -> None:
    assert guest.host.tls is not None
    assert guest.host.tls.key.stat().st_mode & 0o077 == 0
    for path in files.below(guest.host.data):
        with suppress(FileNotFoundError):
            assert path.stat().st_mode & 0o007 == 0, path
