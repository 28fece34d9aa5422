"""What all processes of an installation share: the metadata database and the secrets, and that they belong together.

The first process on an empty database makes both, and writes down in the database what the secrets are, by SHA-256. From
then on a process with others is kept from starting: it would issue certificates nobody believes, and open nothing.
"""

from __future__ import annotations

import hashlib
import secrets
from pathlib import Path

import structlog

from argosy.domain.errors import Unavailable
from argosy.files import write_once
from argosy.metadata import migrations
from argosy.metadata.locks import alone
from argosy.metadata.sealing import Seal
from argosy.metadata.store import Store
from argosy.rpc.certificates import Authority
from argosy.storage.keys import KeyRing

log = structlog.get_logger()

URLS_KEY = "backup-urls.key"
BACKUP_KEYS = "backup-keys"
_FILES = ("seal.key", "control-ca.pem", "database-ca.pem", URLS_KEY)
_NAMED = "sha256 of "


class WrongSecrets(Unavailable):
    """The secrets are not those of the database."""

    code = "wrong-secrets"


class Secrets:
    """The directory, opened. It may be shared by hosts, or copied to each, and is only read once it is whole."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.seal = Seal.open_file(directory / "seal.key")
        self.control = Authority.open(directory, "control")
        self.database = Authority.open(directory, "database")
        write_once(directory / URLS_KEY, secrets.token_hex(32), 0o600)
        self.keys = KeyRing.open(directory / BACKUP_KEYS)


def open_shared(store: Store, directory: Path, *, migrates: bool) -> Secrets:
    """The tables of this release and the secrets that go with them, made by whoever comes first.

    An older database is brought to this release only if `migrates`; a newer one is left as it is. Raises WrongRevision
    or WrongSecrets.
    """
    with alone(store.engine, "start"):
        if migrates or migrations.is_empty(store.engine):
            migrations.migrate(store.engine, store.url)
        found = migrations.check(store.engine, store.url)
        if found.is_newer:
            log.warning(
                "the metadata database is a newer release's, on which this one may work until it is replaced",
                revision=found.revision,
                works_from=found.oldest,
                own=migrations.HEAD,
            )
        return _open_secrets(store, directory)


def _open_secrets(store: Store, directory: Path) -> Secrets:
    with store.read() as tx:
        facts = tx.installation.facts()
    known = {name.removeprefix(_NAMED): value for name, value in facts.items() if name.startswith(_NAMED)}
    if known:
        _check_there(directory, known)
    elif not directory.is_dir():
        directory.mkdir(mode=0o700, parents=True)
    opened = Secrets(directory)
    found = {name: hashlib.sha256((directory / name).read_bytes()).hexdigest() for name in _FILES}
    for name, digest in known.items():
        if found.get(name, digest) != digest:
            raise WrongSecrets(
                f"{directory / name} is another one than that of this metadata database: copy the secrets of a host "
                "whose processes run here, or name their metadata database in metadata_url."
            )
    with store.write() as tx:
        for name in found.keys() - known.keys():
            tx.installation.note(_NAMED + name, found[name])
    return opened


def _check_there(directory: Path, known: dict[str, str]) -> None:
    """Nothing is made in the place of what only got lost on the way."""
    missing = [name for name in known if not (directory / name).exists()]
    if not any((directory / BACKUP_KEYS).glob("*.key")):
        missing.append(f"{BACKUP_KEYS}/")
    if missing:
        raise WrongSecrets(
            f"The metadata database is in use, and its secrets are not all in {directory}, which has no "
            f"{', '.join(sorted(missing))}: copy them from a host whose processes run, or from your backup of them."
        )
