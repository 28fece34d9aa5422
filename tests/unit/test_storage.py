"""The object store in a directory: names that mean nothing to a file system, whole objects, and their end."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from argosy.domain.errors import Invalid
from argosy.storage import base, directory
from argosy.storage.base import (
    AccountFull,
    ContainerNotEmpty,
    ContainerNotFound,
    DigestDiffers,
    ObjectNotFound,
    StoreFull,
    put,
)
from argosy.storage.directory import DirectoryStore

NAMES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1).filter(
    lambda name: len(name.encode()) <= 1024
)


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    made = DirectoryStore(tmp_path / "objects")
    made.create_container("a", "c")
    return made


def content(store: DirectoryStore, name: str, account: str = "a") -> bytes:
    with store.open(account, "c", name) as opened:
        return b"".join(opened.read(0, opened.stored.size))


def listed(store: DirectoryStore, **how: str) -> list[str | None]:
    return [one.stored.name if one.stored else one.common for one in store.objects("a", "c", **how)]  # type: ignore[arg-type]  # limit is not among them


def files(store: DirectoryStore) -> list[Path]:
    return [file for file in store._files.rglob("*") if file.is_file()]


def test_an_object_is_read_as_it_was_written(store: DirectoryStore) -> None:
    parts = [b"one", b"", b"two" * 300_000]
    written = put(store, "a", "c", "x/y", parts, content_type="text/plain", metadata={"lines": "7"})
    whole = b"".join(parts)
    assert written == store.stored("a", "c", "x/y")
    assert (written.size, written.digest) == (
        len(whole),
        hashlib.md5(whole, usedforsecurity=False).hexdigest(),
    )
    assert (written.content_type, written.metadata) == ("text/plain", {"lines": "7"})
    assert content(store, "x/y") == whole
    with store.open("a", "c", "x/y") as opened:
        assert b"".join(opened.read(1, 4)) == whole[1:4]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names=st.lists(NAMES, min_size=1, max_size=6, unique=True))
def test_any_name_is_kept_listed_and_stays_inside(tmp_path: Path, names: list[str]) -> None:
    root = tmp_path / "root"
    store = DirectoryStore(root / "objects")
    store.create_container("a", "c")
    for name in names:
        put(store, "a", "c", name, [name.encode()])
    try:
        assert listed(store) == sorted(names, key=str.encode)
        for name in names:
            assert content(store, name) == name.encode()
            assert name in listed(store, prefix=name)
        assert {path.name for path in root.iterdir()} == {"objects"}
    finally:
        for name in names:
            store.delete("a", "c", name)
        assert listed(store) == []
        assert files(store) == []


@pytest.mark.parametrize("name", ["../../etc/passwd", "..", "/", "//", "a/../b", ".", "~", "$(x)", "a\nb"])
def test_names_that_a_file_system_would_follow_are_only_names(store: DirectoryStore, name: str) -> None:
    put(store, "a", "c", name, [b"mine"])
    assert content(store, name) == b"mine"
    assert listed(store) == [name]


@pytest.mark.parametrize("name", ["", "\0", "x\0y", "\ud800", "n" * 1025])
def test_names_that_cannot_be_are_refused(store: DirectoryStore, name: str) -> None:
    with pytest.raises(Invalid):
        put(store, "a", "c", name, [b"mine"])
    with pytest.raises(Invalid):
        store.create_container("a", name)


@pytest.mark.parametrize("name", ["a/b", ".", "..", "c" * 257])
def test_containers_have_plain_names(store: DirectoryStore, name: str) -> None:
    with pytest.raises(Invalid):
        store.create_container("a", name)


def test_accounts_know_nothing_of_each_other(store: DirectoryStore) -> None:
    put(store, "a", "c", "secret", [b"mine"])
    store.create_container("b", "c")
    assert store.objects("b", "c") == []
    with pytest.raises(ObjectNotFound):
        store.stored("b", "c", "secret")
    with pytest.raises(ObjectNotFound):
        store.delete("b", "c", "secret")
    with pytest.raises(ContainerNotFound):
        store.container("d", "c")
    assert store.usage("a") == (1, 1, 4)
    assert store.usage("b") == (1, 0, 0)


def test_a_listing_goes_by_prefix_marker_limit_and_delimiter(store: DirectoryStore) -> None:
    for name in ("a", "b/1", "b/2", "b/c/3", "b0", "z"):
        put(store, "a", "c", name, [b""])
    assert listed(store, prefix="b/") == ["b/1", "b/2", "b/c/3"]
    assert listed(store, delimiter="/") == ["a", "b/", "b0", "z"]
    assert listed(store, prefix="b/", delimiter="/") == ["b/1", "b/2", "b/c/"]
    assert listed(store, after="b/2") == ["b/c/3", "b0", "z"]
    assert listed(store, delimiter="/", after="b/") == ["b0", "z"]
    assert [one.common or one.stored.name for one in store.objects("a", "c", delimiter="/", limit=2)] == [  # type: ignore[union-attr]  # one of them
        "a",
        "b/",
    ]


def test_a_replaced_object_stays_readable_to_who_has_it_open(store: DirectoryStore) -> None:
    put(store, "a", "c", "x", [b"old"])
    with store.open("a", "c", "x") as opened:
        put(store, "a", "c", "x", [b"newer"])
        assert b"".join(opened.read(0, opened.stored.size)) == b"old"
    assert content(store, "x") == b"newer"
    assert len(files(store)) == 1


def test_an_upload_that_breaks_off_leaves_nothing(store: DirectoryStore) -> None:
    put(store, "a", "c", "x", [b"old"])

    def breaking() -> Iterator[bytes]:
        yield b"new"
        raise ConnectionError

    with pytest.raises(ConnectionError):
        put(store, "a", "c", "x", breaking())
    assert content(store, "x") == b"old"
    assert len(files(store)) == 1


def test_another_digest_than_was_said_is_refused(store: DirectoryStore) -> None:
    with store.writing("a", "c", "x", digest="0" * 32) as writing:
        writing.write(b"something")
        with pytest.raises(DigestDiffers):
            writing.finish()
    assert listed(store) == []


def test_expired_objects_are_gone_before_they_are_swept(store: DirectoryStore) -> None:
    put(store, "a", "c", "short", [b"x"])
    put(store, "a", "c", "long", [b"x"], expires_at=datetime.now(UTC) + timedelta(days=1))
    past = datetime.now(UTC) - timedelta(seconds=1)
    store.change("a", "c", "short", metadata={}, expires_at=past)
    assert listed(store) == ["long"]
    with pytest.raises(ObjectNotFound):
        store.stored("a", "c", "short")
    assert len(files(store)) == 2
    assert store.expire() == 1
    assert len(files(store)) == 1


def test_what_a_killed_process_was_writing_is_swept_after_a_day(store: DirectoryStore) -> None:
    put(store, "a", "c", "kept", [b"x"])
    for age_s in (0, 25 * 3600):
        _, file = store.new_file()
        file.write(b"half")
        os.utime(file.fileno(), (time.time() - age_s, time.time() - age_s))
        file.close()
    for file_of_object in files(store):
        if file_of_object.read_bytes() == b"x":
            os.utime(file_of_object, (0, 0))
    store.expire()
    assert sorted(file.read_bytes() for file in files(store)) == [b"half", b"x"]


def test_a_container_with_objects_is_not_deleted(store: DirectoryStore) -> None:
    put(store, "a", "c", "x", [b"x"])
    with pytest.raises(ContainerNotEmpty):
        store.delete_container("a", "c")
    store.delete("a", "c", "x")
    store.delete_container("a", "c")
    with pytest.raises(ContainerNotFound):
        store.delete_container("a", "c")
    with pytest.raises(ContainerNotFound):
        put(store, "a", "c", "x", [b"x"])


def test_metadata_of_a_container_is_added_to_and_taken_away(store: DirectoryStore) -> None:
    assert not store.create_container("a", "c", {"one": "1", "two": "2"})
    store.create_container("a", "c", {"one": None, "three": "3"})
    assert store.container("a", "c").metadata == {"two": "2", "three": "3"}
    with pytest.raises(Invalid):
        store.create_container("a", "c", {f"n{number}": "x" for number in range(100)})


def test_an_account_holds_no_more_than_it_may(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path, most_bytes=10)
    store.create_container("a", "c")
    put(store, "a", "c", "x", [b"12345678"])
    with pytest.raises(AccountFull):
        put(store, "a", "c", "y", [b"123"])
    assert listed(store) == ["x"]


def test_a_full_disk_is_told_in_time(store: DirectoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directory, "_LEAST_FREE", 2**62)
    with pytest.raises(StoreFull):
        put(store, "a", "c", "x", [b"x"])
    assert files(store) == []


def test_several_may_write_the_same_object_at_once(tmp_path: Path) -> None:
    stores = [DirectoryStore(tmp_path / "objects") for _ in range(2)]
    stores[0].create_container("a", "c")
    bodies = [bytes([number]) * 10_000 for number in range(8)]
    threads = [
        threading.Thread(target=put, args=(stores[number % 2], "a", "c", "x", [body]))
        for number, body in enumerate(bodies)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert content(stores[0], "x") in bodies
    assert len(files(stores[0])) == 1


def test_nobody_else_may_look_into_it(store: DirectoryStore) -> None:
    put(store, "a", "c", "x", [b"x"])
    assert store._files.parent.stat().st_mode & 0o077 == 0
    assert all(file.stat().st_mode & 0o077 == 0 for file in files(store))


def test_a_bound_is_named(store: DirectoryStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "OBJECT_MAX", 4)
    with pytest.raises(base.ObjectTooLarge, match="4 bytes"):
        put(store, "a", "c", "x", [b"12345"])
