"""Where a bundle keeps PostgreSQL's programs, and what they were built with."""

from __future__ import annotations

import mmap
import pwd
from functools import cache
from pathlib import Path

from argosy.engines.host import Account


class Programs:
    """The programs of one version: Debian keeps a directory per version, a wheel has them in `usr/bin`."""

    def __init__(self, bundle: Path, version: str) -> None:
        debian = bundle / "usr/lib/postgresql" / version
        self._prefix = debian if debian.is_dir() else bundle / "usr"
        self._share = (
            bundle / "usr/share/postgresql" / version if debian.is_dir() else bundle / "usr/share/postgresql"
        )
        self.postgres = self._prefix / "bin/postgres"
        self.initdb = self._prefix / "bin/initdb"

    @cache  # noqa: B019 - an agent has one, for as long as it lives
    def has_tls(self) -> bool:
        """Whether the server can speak TLS.

        A server without it refuses to start when asked to, and has no way to be asked beforehand that does
        not read a data directory's settings. Every build we carry links OpenSSL dynamically, so its library's
        name is in the program or is not.
        """
        return self.says("libssl.so")

    def says(self, word: str) -> bool:
        """Whether the server's program has a word in it."""
        with (
            self.postgres.open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
        ):
            return content.find(word.encode()) >= 0

    @cache  # noqa: B019 - as above
    def has_library(self, name: str) -> bool:
        """Whether a loadable module such as pg_stat_statements came with the server."""
        return any((self._prefix / place / f"{name}.so").exists() for place in ("lib", "lib/postgresql"))

    def has_extension(self, name: str) -> bool:
        """Whether an extension came with the server."""
        return (self._share / "extension" / f"{name}.control").exists()


def under_a_name(account: Account) -> list[str]:
    """Words to put before a program that insists that its account has a name, as initdb does.

    An instance's account may be a bare number. Such a program is run in a user namespace of its own
    (user_namespaces(7)), where the same account goes by the number of `nobody`.
    """
    try:
        pwd.getpwuid(account.uid)
    except KeyError:
        nobody = pwd.getpwnam("nobody")
        return ["unshare", f"--map-user={nobody.pw_uid}", f"--map-group={nobody.pw_gid}", "--"]
    return []
