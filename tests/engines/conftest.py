"""The shared engine suite runs on every version of every datastore in the catalog, on its real server.

A test that asks for `guest` or `place` runs once per version. One that also asks for a capability
(`databases`, `users`, `access`, `root`) is skipped where the engine has it not.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from argosy.catalog import datastores
from argosy.domain.datastore import Datastore, Version
from argosy.engines.base import Access, Configurable, Databases, RootAccess, Users
from tests.support.certificates import TestAuthority
from tests.support.engines import Guest, adapter_for

_VERSIONS = [(datastore, version) for datastore in datastores().values() for version in datastore.versions]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "hostile_act" in metafunc.fixturenames:
        acts = [
            pytest.param(one, act, id=f"{one[0].name}-{one[1].name}-{act.replace(' ', '-')}")
            for one in _VERSIONS
            for act in adapter_for(one[0].engine).hostile_root
        ]
        metafunc.parametrize(("version", "hostile_act"), acts, scope="function")
    elif "version" in metafunc.fixturenames:
        metafunc.parametrize(
            "version", _VERSIONS, ids=[f"{datastore.name}-{version.name}" for datastore, version in _VERSIONS]
        )


@pytest.fixture(scope="session")
def authority() -> TestAuthority:
    return TestAuthority()


@pytest.fixture
def place(version: tuple[Datastore, Version], authority: TestAuthority) -> Iterator[Guest]:
    """A place with nothing in it yet."""
    with Guest(*version, authority) as guest:
        yield guest


@pytest.fixture
def second_place(version: tuple[Datastore, Version], authority: TestAuthority) -> Iterator[Guest]:
    """Another of the same version."""
    with Guest(*version, authority) as guest:
        yield guest


@pytest.fixture
def place_without_tls(version: tuple[Datastore, Version]) -> Iterator[Guest]:
    with Guest(*version, None) as guest:
        yield guest


@pytest.fixture
def guest(place: Guest) -> Guest:
    """A place with a running server."""
    place.engine.initialise()
    place.engine.start()
    return place


@pytest.fixture
def databases(guest: Guest) -> Databases:
    if not isinstance(guest.engine, Databases):
        pytest.skip(f"{guest.datastore.title} has no databases")
    return guest.engine


@pytest.fixture
def users(guest: Guest) -> Users:
    if not isinstance(guest.engine, Users):
        pytest.skip(f"{guest.datastore.title} has no users")
    return guest.engine


@pytest.fixture
def access(guest: Guest) -> Access:
    if not isinstance(guest.engine, Access):
        pytest.skip(f"{guest.datastore.title} does not let users into databases one by one")
    return guest.engine


@pytest.fixture
def root(guest: Guest) -> RootAccess:
    if not isinstance(guest.engine, RootAccess):
        pytest.skip(f"{guest.datastore.title} hands out no administrator's account")
    return guest.engine


@pytest.fixture
def parameters(guest: Guest) -> Configurable:
    if not isinstance(guest.engine, Configurable):
        pytest.skip(f"{guest.datastore.title} has no parameters to set")
    return guest.engine
