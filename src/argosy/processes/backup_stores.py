"""The store that backups are in, as the settings say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from argosy.domain.errors import Invalid
from argosy.processes.shared import URLS_KEY
from argosy.settings import Settings, SwiftSettings
from argosy.storage.backups import BackupStore


def backup_store(settings: Settings, secrets_directory: Path) -> BackupStore:
    """Raises OSError when a file that is named is not there, Invalid when it has not what it is named for."""
    wanted = settings.backups
    signing = secrets_directory / URLS_KEY
    if wanted.store == "s3":
        from argosy.storage.backup_s3 import S3Backups

        s3 = wanted.s3
        return S3Backups(
            bucket=s3.bucket,
            endpoint=s3.endpoint,
            region=s3.region,
            access_key=s3.access_key,
            secret_key=_content(s3.secret_key_file),
            ca_file=wanted.ca_file,
        )
    if wanted.store == "swift":
        from argosy.storage.backup_swift import SwiftBackups

        return SwiftBackups(
            _log_in(wanted.swift, wanted.ca_file), signing.read_text(), ca_file=wanted.ca_file
        )
    from argosy.storage.backup_directory import DirectoryBackups
    from argosy.storage.directory import DirectoryStore

    place = DirectoryStore(wanted.directory or settings.home / "backups")
    # Guests ask whichever of their conductors answers for what lies below such a URL.
    conductor = settings.conductor_url.split(",")[0]
    return DirectoryBackups(place, conductor, bytes.fromhex(signing.read_text()))


def _log_in(swift: SwiftSettings, ca_file: Path | None) -> Any:
    from argosy.storage import backup_swift

    if swift.cloud is not None and swift.clouds_file is not None:
        try:
            cloud = yaml.safe_load(swift.clouds_file.read_text())["clouds"][swift.cloud]
            return backup_swift.by_keystone(cloud, ca_file=ca_file)
        except (yaml.YAMLError, KeyError, TypeError) as error:
            raise Invalid(
                f"backups.swift: {swift.clouds_file} has no cloud {swift.cloud} with what is needed to log in."
            ) from error
    password = _content(swift.password_file) or ""
    return backup_swift.by_name(swift.auth_url or "", swift.user or "", password, ca_file=ca_file)


def _content(file: Path | None) -> str | None:
    return None if file is None else file.read_text().strip()
