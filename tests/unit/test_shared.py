"""The metadata database and the secrets that go with it: made by the first process, checked by all others."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from argosy.metadata import migrations
from argosy.metadata.migrations import OLDEST, WrongRevision
from argosy.metadata.store import Store
from argosy.processes.shared import Secrets, WrongSecrets, open_shared


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(f"sqlite:///{tmp_path / 'argosy.db'}")
    yield store
    store.close()


def opened(store: Store, directory: Path) -> Secrets:
    return open_shared(store, directory, migrates=False)


def contents(directory: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(directory)): file.read_bytes() for file in directory.rglob("*") if file.is_file()
    }


def test_processes_that_start_at_once_find_the_same(store: Store, tmp_path: Path) -> None:
    found: list[dict[str, bytes]] = []

    def start() -> None:
        other = Store(store.url)
        opened(other, tmp_path / "secrets")
        found.append(contents(tmp_path / "secrets"))
        other.close()

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 4
    assert all(one == found[0] for one in found)


def test_a_copy_that_may_only_be_read_will_do(store: Store, tmp_path: Path) -> None:
    opened(store, tmp_path / "secrets")
    shutil.copytree(tmp_path / "secrets", tmp_path / "copy")
    before = contents(tmp_path / "copy")
    places = [tmp_path / "copy", tmp_path / "copy" / "backup-keys"]
    for place in places:
        place.chmod(0o500)
    try:
        opened(store, tmp_path / "copy")
    finally:
        for place in places:
            place.chmod(0o700)
    assert contents(tmp_path / "copy") == before


@pytest.mark.parametrize("name", ["seal.key", "control-ca.pem", "database-ca.pem", "backup-urls.key"])
def test_secrets_of_another_database_are_refused_by_name(store: Store, tmp_path: Path, name: str) -> None:
    opened(store, tmp_path / "secrets")
    other = Store(f"sqlite:///{tmp_path / 'other.db'}")
    opened(other, tmp_path / "others")
    other.close()
    shutil.copy(tmp_path / "others" / name, tmp_path / "secrets" / name)
    if name == "control-ca.pem":
        shutil.copy(tmp_path / "others" / "control-ca.crt", tmp_path / "secrets" / "control-ca.crt")
    with pytest.raises(WrongSecrets, match=name):
        opened(store, tmp_path / "secrets")


def test_lost_secrets_are_asked_for_and_not_made_anew(store: Store, tmp_path: Path) -> None:
    opened(store, tmp_path / "secrets")
    with pytest.raises(WrongSecrets, match="copy them"):
        opened(store, tmp_path / "elsewhere")
    with suppress(FileNotFoundError):
        assert contents(tmp_path / "elsewhere") == {}


def test_an_older_database_is_left_as_it_is(store: Store, tmp_path: Path) -> None:
    opened(store, tmp_path / "secrets")
    with store.engine.begin() as connection:
        connection.exec_driver_sql("update alembic_version set version_num = '0003'")
    with pytest.raises(WrongRevision, match="argosy admin db upgrade"):
        opened(store, tmp_path / "secrets")
    assert migrations.state(store.engine, store.url).revision == "0003"


def of_a_newer_release(store: Store, oldest: str) -> None:
    with store.engine.begin() as connection:
        connection.exec_driver_sql("update alembic_version set version_num = '9999'")
        connection.exec_driver_sql(f"update installation set value = '{oldest}' where name = '{OLDEST}'")


@pytest.mark.parametrize("migrates", [False, True])
def test_a_newer_database_that_still_serves_this_release_is_left_as_it_is(
    store: Store, tmp_path: Path, migrates: bool
) -> None:
    opened(store, tmp_path / "secrets")
    of_a_newer_release(store, migrations.HEAD)
    with capture_logs() as logs:
        open_shared(store, tmp_path / "secrets", migrates=migrates)
    (told,) = logs
    assert (told["revision"], told["own"], told["works_from"]) == ("9999", migrations.HEAD, migrations.HEAD)
    assert migrations.state(store.engine, store.url).revision == "9999"


def test_a_newer_database_that_does_not_is_refused_even_by_who_may_migrate(
    store: Store, tmp_path: Path
) -> None:
    opened(store, tmp_path / "secrets")
    of_a_newer_release(store, "9998")
    for migrates in (False, True):
        with pytest.raises(WrongRevision, match=r"newer release.*9998 or newer.*has revision 0004"):
            open_shared(store, tmp_path / "secrets", migrates=migrates)


def test_a_newer_database_of_which_nobody_said_who_may_work_on_it_is_refused(
    store: Store, tmp_path: Path
) -> None:
    opened(store, tmp_path / "secrets")
    with store.engine.begin() as connection:
        connection.exec_driver_sql("update alembic_version set version_num = '9999'")
        connection.exec_driver_sql(f"delete from installation where name = '{OLDEST}'")
    for migrates in (False, True):
        with pytest.raises(WrongRevision, match="newer release"):
            open_shared(store, tmp_path / "secrets", migrates=migrates)
