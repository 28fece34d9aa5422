"""Names of databases and users, as the catalog's rules have them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from argosy import catalog
from argosy.domain.databases import (
    Database,
    NewUser,
    UserId,
    check_access,
    check_databases,
    check_host,
    check_password,
    check_users,
)
from argosy.domain.errors import Invalid, Unsupported
from argosy.domain.instance import check_name

POSTGRESQL, MARIADB, VALKEY = (catalog.datastores()[name] for name in ("postgresql", "mariadb", "valkey"))


@pytest.mark.parametrize("name", ["shop", "a b", "d.ot", 'quo"te', "back\\slash", "naïve", "100%", "x" * 63])
def test_a_name_the_engine_takes_is_taken(name: str) -> None:
    check_databases(POSTGRESQL, [Database(name)])


@pytest.mark.parametrize(
    ("name", "bound"),
    [
        ("x" * 64, "1 to 63 bytes"),
        ("é" * 32, "1 to 63 bytes"),
        ("tab\there", "control"),
        ("nul\0", "control"),
        ("!!", "letter or digit"),
        ("postgres", "reserved"),
        ("os_admin", "reserved"),
    ],
)
def test_a_name_the_engine_refuses_is_refused_with_the_bound(name: str, bound: str) -> None:
    with pytest.raises(Invalid, match=bound):
        check_databases(POSTGRESQL, [Database(name)])


def test_reserved_names_are_reserved_in_every_case_where_the_engine_ignores_case() -> None:
    with pytest.raises(Invalid, match="reserved"):
        check_databases(MARIADB, [Database("MySQL")])


def test_nothing_may_be_named_twice() -> None:
    with pytest.raises(Invalid, match="twice"):
        check_databases(POSTGRESQL, [Database("a1"), Database("a1")])
    twice = NewUser(UserId("ann"), "secret1")
    with pytest.raises(Invalid, match="twice"):
        check_users(POSTGRESQL, [twice, twice])


def test_the_same_name_at_another_host_is_another_user() -> None:
    check_users(MARIADB, [NewUser(UserId("ann"), "secret1"), NewUser(UserId("ann", "10.0.0.%"), "secret1")])


def test_what_a_datastore_has_not_is_unsupported() -> None:
    with pytest.raises(Unsupported, match="no databases"):
        check_databases(VALKEY, [Database("db0")])
    with pytest.raises(Unsupported, match="access"):
        check_access(VALKEY, ["db0"])


@pytest.mark.parametrize("host", ["%", "10.0.0.1", "10.0.0.%", "10.%.%.%", "%.example"])
def test_hosts_of_the_contract_are_taken(host: str) -> None:
    check_host(MARIADB, host)


@pytest.mark.parametrize("host", ["", "10.0.0.0/8", "a b", "x" * 300, "'; drop"])
def test_other_hosts_are_refused(host: str) -> None:
    with pytest.raises(Invalid, match="host"):
        check_host(MARIADB, host)


def test_hosts_mean_nothing_where_users_have_none() -> None:
    with pytest.raises(Invalid, match="host"):
        check_host(POSTGRESQL, "10.0.0.1")


@given(st.text(max_size=300))
def test_a_refused_password_is_never_repeated(password: str) -> None:
    try:
        check_password(MARIADB, password)
    except Invalid as error:
        assert len(password) < 8 or password not in error.sentence  # noqa: PT017 - any text may pass


@given(st.text(min_size=1, max_size=20), st.sampled_from(["%", "10.0.0.%", "h1.example"]))
def test_a_user_id_survives_being_written_and_read(name: str, host: str) -> None:
    assert UserId.parse(str(UserId(name, host))) == UserId(name, host)


@pytest.mark.parametrize(
    ("segment", "expected"),
    [
        ("ann", ("ann", "%")),
        ("ann@", ("ann@", "%")),
        ("a@b@10.0.0.1", ("a@b", "10.0.0.1")),
        ("ann%4010.0.0.1", ("ann%4010.0.0.1", "%")),
    ],
)
def test_a_user_id_is_split_at_the_last_at(segment: str, expected: tuple[str, str]) -> None:
    assert UserId.parse(segment) == UserId(*expected)


@pytest.mark.parametrize(
    "name", ["", "x" * 256, "---", None, 7, "ünïcödé".replace("n", "ñ").replace("c", "ç").replace("d", "ð")]
)
def test_an_instance_name_needs_a_letter_or_digit_and_a_length(name: object) -> None:
    with pytest.raises(Invalid, match="name"):
        check_name(name)
