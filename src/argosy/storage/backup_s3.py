"""Backups in a bucket of S3, or of a store that speaks its language.

One bucket holds all: a container is the first part of an object's key. Guests are given presigned URLs, each for one
object; what the control plane writes itself goes in several parts when it is large (boto3's transfer manager).
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, IncompleteReadError
from botocore.exceptions import ConnectionError as NoConnection

from argosy.domain.errors import Failed, Forbidden, Invalid, Unavailable
from argosy.storage.backups import BackupStore, Held, Method
from argosy.storage.base import ContainerNotFound, ObjectNotFound, StoreFull, check_container_name

_ABSENT = {"NoSuchKey", "NotFound", "404"}
_REFUSED = {"AccessDenied", "403", "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken"}
_FULL = {"QuotaExceeded", "InsufficientCapacity", "XMinioStorageFull", "507"}
_PART = 1024 * 1024
_ABANDONED = timedelta(days=1)
_AT_ONCE = 1000  # objects deleted by one request; S3 takes no more


class S3Backups(BackupStore):
    """`endpoint` None is Amazon's. Without `access_key` boto3 looks where it usually does (environment, ~/.aws)."""

    kind = "s3"

    def __init__(
        self,
        *,
        bucket: str,
        endpoint: str | None = None,
        region: str | None = None,
        access_key: str | None = None,
        secret_key: str | None = None,
        ca_file: Path | None = None,
        tries: int = 4,
    ) -> None:
        self.authority = None if ca_file is None else ca_file.read_text()
        self._bucket = bucket
        self._s3: Any = boto3.session.Session().client(
            "s3",
            endpoint_url=endpoint,
            region_name=region or "us-east-1",
            aws_access_key_id=access_key,
            aws_secret_access_key=secret_key,
            verify=None if ca_file is None else str(ca_file),
            config=Config(
                signature_version="s3v4",
                connect_timeout=10,
                read_timeout=60,
                # What came with boto3 1.36 and other stores do not know.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                retries={"max_attempts": tries, "mode": "standard"},
                s3={"addressing_style": "path" if endpoint else "auto"},
            ),
        )

    def sign(self, method: Method, container: str, name: str, *, prefix: str, until: datetime) -> str:
        if not name.startswith(prefix):
            raise Forbidden(f"{name} does not lie below {prefix}.")
        seconds = max(1, int((until - datetime.now(UTC)).total_seconds()))
        action = "put_object" if method == "PUT" else "get_object"
        where = {"Bucket": self._bucket, "Key": _key(container, name)}
        return str(self._s3.generate_presigned_url(action, Params=where, ExpiresIn=seconds))

    def check(self, container: str) -> None:
        check_container_name(container)
        try:
            with _told():
                self._s3.head_bucket(Bucket=self._bucket)
        except ObjectNotFound:
            raise ContainerNotFound(container=self._bucket) from None

    def put(self, container: str, name: str, content: bytes) -> None:
        with _told():
            self._s3.upload_fileobj(io.BytesIO(content), self._bucket, _key(container, name))

    def get(self, container: str, name: str) -> bytes:
        return b"".join(self.read(container, name))

    def read(self, container: str, name: str) -> Iterator[bytes]:
        with _told(name):
            body = self._s3.get_object(Bucket=self._bucket, Key=_key(container, name))["Body"]
            yield from body.iter_chunks(_PART)

    def objects(self, container: str, prefix: str) -> Iterator[Held]:
        first = f"{container}/"
        with _told():
            pages = self._s3.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=_key(container, prefix)
            )
            for page in pages:
                for one in page.get("Contents", ()):
                    yield Held(str(one["Key"]).removeprefix(first), int(one["Size"]))

    def delete(self, container: str, prefix: str) -> None:
        if not prefix:
            raise Invalid("A prefix must be given.")
        names = [held.name for held in self.objects(container, prefix)]
        for start in range(0, len(names), _AT_ONCE):
            keys = [{"Key": _key(container, name)} for name in names[start : start + _AT_ONCE]]
            with _told():
                answer = self._s3.delete_objects(Bucket=self._bucket, Delete={"Objects": keys, "Quiet": True})
            if answer.get("Errors"):
                first = answer["Errors"][0]
                raise Failed(f"The store does not delete {first.get('Key')}: {first.get('Message')}.")

    def tidy(self, container: str) -> None:
        """Of uploads in parts the bucket keeps what came until they are ended; it may hold others' besides ours."""
        before = datetime.now(UTC) - _ABANDONED
        ours = {"Bucket": self._bucket, "Prefix": _key(container, "")}
        with _told():
            for page in self._s3.get_paginator("list_multipart_uploads").paginate(**ours):
                for one in page.get("Uploads", ()):
                    if one["Initiated"] < before:
                        self._s3.abort_multipart_upload(
                            Bucket=self._bucket, Key=one["Key"], UploadId=one["UploadId"]
                        )

    def location(self, container: str, prefix: str) -> str:
        return f"s3://{self._bucket}/{quote(container)}/{quote(prefix)}"

    def locate(self, location: str) -> tuple[str, str]:
        found = re.fullmatch(r"s3://([^/]+)/([^/]+)/(.+/)", location)
        if found is None or found[1] != self._bucket:
            raise Invalid(
                f"remote_location must be one of this store, such as s3://{self._bucket}/CONTAINER/INSTANCE/BACKUP/."
            )
        return unquote(found[2]), unquote(found[3])

    def close(self) -> None:
        self._s3.close()


def _key(container: str, name: str) -> str:
    return f"{container}/{name}"


@contextmanager
def _told(name: str = "") -> Iterator[None]:
    """The store's failures as ours."""
    try:
        yield
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        if code in _ABSENT:
            raise ObjectNotFound(name=name) from error
        if code == "NoSuchBucket":
            raise ContainerNotFound(container=name) from error
        if code in _REFUSED:
            raise Forbidden(f"The store of backups refuses us: {code}.") from error
        if code in _FULL:
            raise StoreFull from error
        if status >= 500 or code in {"SlowDown", "RequestTimeout"}:
            raise Unavailable(f"The store of backups does not work: it answered {code}.") from error
        raise Failed(f"The store of backups refused: {error}.", code="store-refused") from error
    except (NoConnection, HTTPClientError, IncompleteReadError) as error:
        raise Unavailable(f"The store of backups does not answer: {error}.") from error
    except BotoCoreError as error:
        raise Failed(f"The store of backups cannot be used: {error}.", code="store-refused") from error
