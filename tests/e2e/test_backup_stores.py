"""Backups in S3 and in Swift: guests write and read there themselves, by URLs, and never see a credential."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import boto3
import pytest
from moto.server import ThreadedMotoServer

from tests.support import files
from tests.support.backups import Shop, back_up, delete_backup, made, restored
from tests.support.server import running
from tests.support.swift import PASSWORD, USER, running_swift


@contextmanager
def _s3(tmp_path: Path) -> Iterator[dict[str, str]]:
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    with closing(
        boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="test",
                     aws_secret_access_key="of-the-store")
    ) as s3:  # fmt: skip
        s3.create_bucket(Bucket="vault")
    secret = tmp_path / "secret"
    secret.write_text("of-the-store\n")
    try:
        yield {
            "ARGOSY_BACKUPS__STORE": "s3",
            "ARGOSY_BACKUPS__S3__BUCKET": "vault",
            "ARGOSY_BACKUPS__S3__ENDPOINT": endpoint,
            "ARGOSY_BACKUPS__S3__ACCESS_KEY": "test",
            "ARGOSY_BACKUPS__S3__SECRET_KEY_FILE": str(secret),
        }
    finally:
        server.stop()


@contextmanager
def _swift(tmp_path: Path) -> Iterator[dict[str, str]]:
    secret = tmp_path / "secret"
    secret.write_text(PASSWORD)
    with running_swift() as url:
        yield {
            "ARGOSY_BACKUPS__STORE": "swift",
            "ARGOSY_BACKUPS__SWIFT__AUTH_URL": url,
            "ARGOSY_BACKUPS__SWIFT__USER": USER,
            "ARGOSY_BACKUPS__SWIFT__PASSWORD_FILE": str(secret),
        }


LONG = pytest.mark.skipif("ARGOSY_TEST_LONG" not in os.environ, reason="the contract tests have a real Swift")


@pytest.mark.parametrize(
    ("store", "location"),
    [pytest.param(_s3, "s3://vault/", id="s3"), pytest.param(_swift, "http://", id="swift", marks=LONG)],
)
def test_a_backup_goes_there_and_comes_back(store: object, location: str, tmp_path: Path) -> None:
    with store(tmp_path) as settings, running(**settings) as argosy:  # type: ignore[operator]
        demo = argosy.client()
        instance = made(argosy, demo, "kept-elsewhere", "mariadb", flavorRef="1")
        with closing(Shop(argosy, instance)) as shop:
            shop.put(1, 2)
        backup = back_up(demo, instance["id"])
        assert backup["status"] == "COMPLETED", backup["argosy"]["error"]
        assert backup["locationRef"].startswith(location)
        with closing(Shop(argosy, instance)) as shop:
            shop.put(3)
        increment = back_up(demo, instance["id"], "later", incremental=1)
        assert increment["parent_id"] == backup["id"], increment
        other = restored(argosy, demo, "of-elsewhere", increment["id"])
        with closing(Shop(argosy, other)) as shop:
            assert shop.numbers() == [1, 2, 3]
        for file, data in files.read(argosy.home / "instances"):
            assert b"of-the-store" not in data, file
        delete_backup(demo, backup["id"])
