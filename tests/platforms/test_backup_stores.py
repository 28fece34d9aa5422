"""What every store of backups promises: the directory through the conductor, S3 on moto's server and on Swift's, Swift."""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from moto.server import ThreadedMotoServer
from starlette.types import Receive, Scope, Send

from argosy.conductor.app import application
from argosy.domain.errors import ArgosyError, Forbidden, Invalid, Unavailable
from argosy.metadata import migrations
from argosy.metadata.store import Store
from argosy.rpc.server import PEER
from argosy.storage import backup_s3
from argosy.storage.backup_directory import DirectoryBackups
from argosy.storage.backup_s3 import S3Backups
from argosy.storage.backup_swift import SwiftBackups, by_keystone, by_name
from argosy.storage.backups import BackupStore
from argosy.storage.base import ContainerNotFound, ObjectNotFound
from argosy.storage.directory import DirectoryStore
from tests.support.keystone_clients import a_keystone
from tests.support.server import wait_until
from tests.support.swift import PASSWORD, USER, running_swift

Ask = Callable[[str, str, bytes | None], tuple[int, bytes]]
MINE, OTHERS = "i1/b1/", "i1/b2/"
SOON = timedelta(minutes=5)


def _over_http(method: str, url: str, content: bytes | None) -> tuple[int, bytes]:
    answer = httpx.request(method, url, content=content, timeout=60, trust_env=False)
    return answer.status_code, answer.content


@contextmanager
def _directory(tmp_path: Path) -> Iterator[tuple[BackupStore, Ask]]:
    store = DirectoryBackups(DirectoryStore(tmp_path / "backups"), "https://conductor", b"k" * 32)
    metadata = Store(f"sqlite:///{tmp_path / 'argosy.db'}")
    migrations.migrate(metadata.engine, metadata.url)
    with metadata.write() as tx:
        for container in ("c", "my vault"):
            for method in ("PUT", "GET"):
                tx.grants.give("i", container, MINE, method, None)
    whole = application(metadata, store)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope.setdefault("extensions", {})[PEER] = "guest:i"
        await whole(scope, receive, send)

    async def asked(method: str, url: str, content: bytes | None) -> tuple[int, bytes]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app)) as client:
            answer = await client.request(method, url, content=content)
            return answer.status_code, answer.content

    yield store, lambda method, url, content: asyncio.run(asked(method, url, content))
    metadata.close()


@contextmanager
def _s3(_tmp_path: Path) -> Iterator[tuple[BackupStore, Ask]]:
    # A bucket of its own: all of moto's servers in a process have the same ones.
    bucket = f"vault-{secrets.token_hex(4)}"
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        store = S3Backups(
            bucket=bucket, endpoint=f"http://{host}:{port}", access_key="test", secret_key="testing"
        )
        with pytest.raises(ContainerNotFound):
            store.check("c")
        store._s3.create_bucket(Bucket=bucket)
        yield store, _over_http
    finally:
        server.stop()


def _s3_of_swift(url: str) -> BackupStore:
    """Another S3, which checks what was signed: moto lets everything in."""
    store = S3Backups(bucket="vault", endpoint=url, access_key=USER, secret_key=PASSWORD)
    with pytest.raises(ContainerNotFound):
        store.check("c")
    store._s3.create_bucket(Bucket="vault")
    return store


@pytest.fixture(scope="module")
def swift() -> Iterator[str]:
    with running_swift() as url:
        yield url


@contextmanager
def _swift_of_a_cloud() -> Iterator[BackupStore]:
    """A real Swift behind a real Keystone, in the account of a project of our own."""
    if "ARGOSY_TEST_CLOUD" not in os.environ:
        pytest.skip("ARGOSY_TEST_CLOUD names no cloud")
    with a_keystone() as keystone:
        user = keystone.user("member")
        store = SwiftBackups(by_keystone(keystone.cloud(user)), "signing")
        try:
            yield store
        finally:
            for container in ("c", "my vault"):
                for held in list(store.objects(container, "")):
                    store._ask("DELETE", container, held.name)
                store._ask("DELETE", container)


@pytest.fixture(scope="module", params=["directory", "s3", "s3-of-swift", "swift", "swift-of-a-cloud"])
def kept(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[BackupStore, Ask]]:
    with ExitStack() as stack:
        if request.param in {"directory", "s3"}:
            here = _directory if request.param == "directory" else _s3
            store, ask = stack.enter_context(here(tmp_path_factory.mktemp("stores")))
        elif request.param == "swift-of-a-cloud":
            store, ask = stack.enter_context(_swift_of_a_cloud()), _over_http
        else:
            url, ask = request.getfixturevalue("swift"), _over_http
            store = (
                SwiftBackups(by_name(url, USER, PASSWORD), "signing")
                if request.param == "swift"
                else _s3_of_swift(url.removesuffix("/auth/v1.0"))
            )
        store.check("c")
        yield store, ask
        stack.close()
        store.close()


def test_what_is_put_is_got_listed_and_deleted(kept: tuple[BackupStore, Ask]) -> None:
    store, _ = kept
    store.check("c")
    names = [f"{MINE}chunk-{number:08}" for number in range(3)]
    for name in names:
        store.put("c", name, name.encode())
    store.put("c", f"{OTHERS}x", b"other")
    assert store.get("c", names[1]) == names[1].encode()
    assert b"".join(store.read("c", names[0])) == names[0].encode()
    assert [(held.name, held.size) for held in store.objects("c", MINE)] == [
        (name, len(name)) for name in names
    ]
    assert list(store.objects("nowhere", MINE)) == []
    store.put("c", names[1], b"again")
    assert store.get("c", names[1]) == b"again"
    store.delete("c", MINE)
    store.delete("c", MINE)
    assert list(store.objects("c", MINE)) == []
    assert [held.name for held in store.objects("c", "i1/")] == [f"{OTHERS}x"]
    with pytest.raises(ObjectNotFound):
        store.get("c", names[0])
    with pytest.raises(ObjectNotFound):
        list(store.read("c", names[0]))
    with pytest.raises(Invalid):
        store.delete("c", "")
    store.delete("c", OTHERS)
    store.tidy("c")


def test_large_objects_arrive_whole(kept: tuple[BackupStore, Ask]) -> None:
    """Large enough for S3 to be given it in parts."""
    store, _ = kept
    content = b"0123456789abcdef" * (20 * 2**16)
    store.put("c", f"{MINE}large", content)
    whole = hashlib.sha256()
    for part in store.read("c", f"{MINE}large"):
        whole.update(part)
    assert whole.digest() == hashlib.sha256(content).digest()
    store.delete("c", MINE)


def test_a_url_does_what_it_is_signed_for_and_nothing_else(
    kept: tuple[BackupStore, Ask], request: pytest.FixtureRequest
) -> None:
    store, ask = kept
    until = datetime.now(UTC) + SOON
    name = f"{MINE}chunk-00000000"
    put = store.sign("PUT", "c", name, prefix=MINE, until=until)
    get = store.sign("GET", "c", name, prefix=MINE, until=until)
    assert ask("GET", get, None)[0] == 404
    assert ask("PUT", put, b"content")[0] in {200, 201}
    assert store.get("c", name) == b"content"
    assert ask("GET", get, None) == (200, b"content")
    if request.node.callspec.id != "s3":
        store.put("c", f"{OTHERS}secret", b"secret")
        for method, url in (
            ("PUT", get),
            ("DELETE", put),
            ("GET", get.replace(MINE + "chunk-00000000", OTHERS + "secret")),
            ("GET", get.replace("/c/", "/d/")),
            ("GET", get[:-3] + "abc"),
            ("GET", get.split("?")[0]),
        ):
            assert ask(method, url, b"mine now")[0] in {400, 401, 403, 405}, url
        over = store.sign("GET", "c", name, prefix=MINE, until=datetime.now(UTC) - SOON)
        wait_until("it is over", lambda: ask("GET", over, None)[0] in {401, 403})
        assert store.get("c", name) == b"content"
        # Below its prefix a URL of the others is good for any name.
        beside = ask("GET", get.replace("chunk-00000000", "chunk-00000001"), None)[0]
        assert beside == (403 if store.kind == "s3" else 404)
    with pytest.raises(Forbidden):
        store.sign("GET", "c", f"{OTHERS}secret", prefix=MINE, until=until)
    store.delete("c", "i1/")


def test_names_with_odd_characters(kept: tuple[BackupStore, Ask]) -> None:
    store, ask = kept
    store.check("my vault")
    name = f"{MINE}log/0001 ä%2F+?.wal"
    until = datetime.now(UTC) + SOON
    url = store.sign("PUT", "my vault", name, prefix=MINE, until=until)
    assert ask("PUT", url, b"odd")[0] in {200, 201}
    assert [held.name for held in store.objects("my vault", MINE)] == [name]
    assert ask("GET", store.sign("GET", "my vault", name, prefix=MINE, until=until), None) == (200, b"odd")
    store.delete("my vault", MINE)


def test_a_location_leads_back(kept: tuple[BackupStore, Ask]) -> None:
    store, _ = kept
    assert store.locate(store.location("my vault", MINE)) == ("my vault", MINE)
    for other in ("", "file:///etc/passwd", "s3://other/c/i/b/", "http://elsewhere/v1/AUTH_x/c/i/b/"):
        with pytest.raises(Invalid, match="remote_location"):
            store.locate(other)


def test_only_abandoned_uploads_of_ours_are_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bucket may hold others' besides."""
    monkeypatch.setattr(backup_s3, "_ABANDONED", timedelta(0))
    with _s3(tmp_path) as (store, _), closing(store):
        assert isinstance(store, S3Backups)
        for key in ("c/i1/b1/large", "cd/i1/b1/large", "photos/1.jpg"):
            store._s3.create_multipart_upload(Bucket=store._bucket, Key=key)
        store.tidy("c")
        left = store._s3.list_multipart_uploads(Bucket=store._bucket)["Uploads"]
        assert [one["Key"] for one in left] == ["cd/i1/b1/large", "photos/1.jpg"]


@pytest.mark.parametrize("kind", ["s3", "swift"])
def test_a_store_that_is_away_is_unavailable(kind: str) -> None:
    nowhere = "http://127.0.0.1:9"
    store: BackupStore = (
        S3Backups(bucket="b", endpoint=nowhere, access_key="a", secret_key="s")
        if kind == "s3"
        else SwiftBackups(by_name(f"{nowhere}/auth/v1.0", "u", "p"), "key")
    )
    with closing(store):
        with pytest.raises(Unavailable, match="does not answer"):
            store.check("c")
        with pytest.raises(Unavailable):
            store.put("c", "n", b"")


def test_a_store_behind_keystone_is_logged_in_to_by_what_clouds_yaml_says() -> None:
    if "ARGOSY_TEST_CLOUD" not in os.environ:
        pytest.skip("ARGOSY_TEST_CLOUD names no cloud")
    with a_keystone() as keystone:
        user = keystone.user("member")
        by_password = keystone.cloud(user)
        # As many clouds have it.
        versionless = {
            **by_password,
            "auth": {**by_password["auth"], "auth_url": keystone.url.removesuffix("/v3")},
        }
        by_credential = keystone.cloud(keystone.credential(user))
        credential = {**by_credential["auth"], "auth_url": keystone.url.removesuffix("/v3")}
        named = {**by_password, "region_name": "RegionOne", "interface": "internal"}
        accounts = set()
        for cloud in (by_password, versionless, by_credential, {**by_credential, "auth": credential}, named):
            with closing(SwiftBackups(by_keystone(cloud), "signing")) as store:
                store.check("c")
                store.put("c", "n", b"content")
                # As when the token has ended.
                store._known = (store._account()[0], "nonsense")
                assert store.get("c", "n") == b"content"
                store._known = (store._account()[0], "nonsense")
                assert b"".join(store.read("c", "n")) == b"content"
                accounts.add(store._account()[0])
                assert (
                    "x-account-meta-temp-url-key"
                    not in httpx.head(
                        store._account()[0], headers={"X-Auth-Token": store._account()[1]}, trust_env=False
                    ).headers
                )
        assert len(accounts) == 1
        with closing(SwiftBackups(by_keystone(by_password), "signing")) as store:
            store.delete("c", "n")
            store._ask("DELETE", "c")
        for cloud, why in (
            ({**by_password, "auth": {**by_password["auth"], "password": "wrong"}}, "Keystone refuses us"),
            ({**by_password, "region_name": "nowhere"}, "has no object store"),
            (keystone.cloud(keystone.user("reader")), "refuses us"),
        ):
            with (
                closing(SwiftBackups(by_keystone(cloud), "signing")) as store,
                pytest.raises(ArgosyError, match=why),
            ):
                store.check("c")
