"""Whose the file of a SQLite metadata database is."""

from __future__ import annotations

import stat
from pathlib import Path

from argosy.metadata import migrations
from argosy.metadata.store import Store


def modes(directory: Path) -> dict[str, int]:
    return {file.name: stat.S_IMODE(file.stat().st_mode) for file in directory.glob("argosy.db*")}


def opened(directory: Path) -> Store:
    store = Store(f"sqlite:///{directory / 'argosy.db'}")
    migrations.migrate(store.engine, store.url)
    return store


def test_whoever_makes_it_makes_it_for_itself(tmp_path: Path) -> None:
    store = opened(tmp_path)
    with store.write():
        assert set(modes(tmp_path)) == {"argosy.db", "argosy.db-wal", "argosy.db-shm"}
        assert set(modes(tmp_path).values()) == {0o600}
    store.close()


def test_one_that_others_could_read_is_closed_to_them(tmp_path: Path) -> None:
    store = opened(tmp_path)
    for name in modes(tmp_path):
        (tmp_path / name).chmod(0o644)
    again = opened(tmp_path)
    assert set(modes(tmp_path).values()) == {0o600}
    store.close()
    again.close()
