"""The store that backups are in, as the settings say."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

import yaml

from argosy.files import write_once
from argosy.settings import Settings, SwiftSettings
from argosy.storage.backups import BackupStore


def backup_store(settings: Settings, secrets_directory: Path) -> BackupStore:
    """Raises OSError or KeyError when a file that is named is not there, or has not what it is named for."""
    wanted = settings.backups
    signing = secrets_directory / "backup-urls.key"
    write_once(signing, secrets.token_hex(32), 0o600)
    if wanted.store == "s3":
        from argosy.storage.backup_s3 import S3Backups

        s3 = wanted.s3
        return S3Backups(
            bucket=s3.bucket,
            endpoint=s3.endpoint,
            region=s3.region,
            access_key=s3.access_key,
            secret_key=_content(s3.secret_key_file),
        )
    if wanted.store == "swift":
        from argosy.storage.backup_swift import SwiftBackups

        return SwiftBackups(_log_in(wanted.swift), signing.read_text())
    from argosy.storage.backup_directory import DirectoryBackups
    from argosy.storage.directory import DirectoryStore

    host, port = settings.conductor_listen
    place = DirectoryStore(wanted.directory or settings.home / "backups")
    return DirectoryBackups(place, f"https://{host}:{port}", bytes.fromhex(signing.read_text()))


def _log_in(swift: SwiftSettings) -> Any:
    from argosy.storage import backup_swift

    if swift.cloud is not None and swift.clouds_file is not None:
        clouds = yaml.safe_load(swift.clouds_file.read_text())["clouds"]
        return backup_swift.by_keystone(clouds[swift.cloud])
    return backup_swift.by_name(swift.auth_url or "", swift.user or "", _content(swift.password_file) or "")


def _content(file: Path | None) -> str | None:
    return None if file is None else file.read_text().strip()
