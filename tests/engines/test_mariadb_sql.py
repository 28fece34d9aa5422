"""How MariaDB's names, hosts and grants are written: no server needed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from argosy.domain.databases import UserId
from argosy.domain.errors import Invalid
from argosy.engines.mariadb import sql

NAMES = st.text(st.characters(max_codepoint=0xFFFF, exclude_categories=["Cs"]), min_size=1, max_size=20)
SHORT = st.text("ab_%\\", min_size=1, max_size=4)


@given(SHORT, SHORT)
def test_a_grant_means_its_database_and_no_other(database: str, other: str) -> None:
    assert sql.matches(sql.pattern(database), other) is (database == other)


@given(NAMES)
def test_an_identifier_cannot_be_left(name: str) -> None:
    assert sql.identifier(name)[1:-1].replace("``", "") == name.replace("`", "")


@pytest.mark.parametrize(
    "host",
    [
        "%",
        "10.0.0.1",
        "10.0.0.%",
        "10.%.%.%",
        "%.%.%.1",
        "10.0.0.0/255.255.255.0",
        "10.1.2.3/255.255.255.255",
    ],
)
def test_a_host_that_clients_can_have_is_taken(host: str) -> None:
    sql.check_host(host)


@pytest.mark.parametrize(
    "host",
    [
        "", "localhost", "db.example.org", "10.0.0", "10.0.0.256", "010.0.0.1", "10.0.0.1%", "10.0.0.0/24",
        "10.0.0.1/255.255.255.0", "10.0.0.0/255.0.255.0", "10.0.0.%/255.255.255.0", "::1", "%%", "1.2.3.4\n",
        "1.2.3.\u0664",
    ],
)  # fmt: skip
def test_a_host_that_no_client_can_have_is_refused(host: str) -> None:
    with pytest.raises(Invalid, match="netmask"):
        sql.check_host(host)


@pytest.mark.parametrize(
    ("host", "address", "opens"),
    [
        ("%", "10.0.0.7", True),
        ("%", "localhost", True),
        ("10.0.0.%", "10.0.0.7", True),
        ("10.0.0.%", "10.0.1.7", False),
        ("10.0.0.0/255.255.255.0", "10.0.0.7", True),
        ("10.0.0.0/255.255.255.0", "10.0.1.7", False),
        ("10.0.0.0/255.255.255.0", "localhost", False),
        ("10.0.0.7", "10.0.0.7", True),
        ("10.0.0.7", "10.0.0.70", False),
    ],
)
def test_a_host_opens_to_its_addresses_only(host: str, address: str, opens: bool) -> None:
    assert sql.host_matches(host, address) is opens


def test_the_most_exact_host_comes_first() -> None:
    hosts = ["%", "10.%.%.%", "10.0.0.%", "10.0.0.1"]
    assert sorted(hosts, key=sql.host_rank) == hosts


def test_a_password_is_hashed_as_the_server_does() -> None:
    """The server's own answer to SELECT PASSWORD('secret')."""
    assert "'*14E65567ABDB5135D0CFD9A70B3032C179A49EE7'" in sql.authentication("secret")


def test_an_empty_password_is_refused() -> None:
    with pytest.raises(Invalid, match="empty"):
        sql.authentication("")


@pytest.mark.parametrize(
    "name", ["", "blank ", "four\U0001f600bytes", "half\ud800", "zero\0", "root", "OS_ADMIN"]
)
def test_a_name_that_would_be_another_is_refused(name: str) -> None:
    with pytest.raises(Invalid):
        sql.check_user(UserId(name))


@pytest.mark.parametrize("name", ["four\U0001f600bytes", "#mysql50#raw", "#MySQL50#raw", "a_" * 22, "zero\0"])
def test_a_database_name_that_would_be_another_is_refused(name: str) -> None:
    with pytest.raises(Invalid):
        sql.check_database_name(name)
