"""Whether the data is whole: the server's own checker on its files, and keys counted."""

from __future__ import annotations

import re
from pathlib import Path

from argosy.domain.errors import EngineError
from argosy.engines.backups import Checks, Facts, Say
from argosy.engines.base import Engine
from argosy.engines.host import Host
from argosy.engines.valkey.client import Client
from argosy.engines.valkey.keyspace import Keys, keys_in

_PATIENCE_S = 3600.0


class ValkeyChecks(Checks, Engine):
    """A server that has started has read every entry of its files, or it would not run; what it has read is counted."""

    host: Host
    client: Client

    def fingerprint(self) -> Facts:
        return {"keys": {name: [one.all, one.expiring] for name, one in keys_in(self.client).items()}}

    def check(self, fingerprint: Facts | None, say: Say) -> list[str]:
        say("checking the base of the append-only file")
        wrong = self.damage()
        info = self.client.info("persistence", "stats")
        if info["aof_last_write_status"] != "ok":
            wrong.append("The last append to the append-only file failed.")
        if fingerprint is not None:
            say("counting keys")
            wrong += _missing(fingerprint, keys_in(self.client), evicted=int(info["evicted_keys"]))
        return wrong

    def damage(self) -> list[str]:
        """What the server's checker says of the base, whether a server runs or not.

        The newest base is looked at; one the server replaces meanwhile is of no interest any more.
        """
        program = next((self.host.bundle / "usr/bin").glob("*-check-rdb"), None)
        while program is not None and (base := _base(self.host.data / "appendonlydir")) is not None:
            try:
                self.host.run_program([program, base], timeout_s=_PATIENCE_S)
            except EngineError as error:
                if _base(self.host.data / "appendonlydir") == base:
                    return [f"The base of the append-only file is damaged: {error.sentence}"]
            else:
                break
        return []


def _base(directory: Path) -> Path | None:
    """The file the manifest names as the base, when it is a snapshot."""
    manifest = (directory / "appendonly.aof.manifest").read_text()
    named = re.search(r"^file (\S+\.rdb) seq \d+ type b$", manifest, re.MULTILINE)
    return None if named is None else directory / Path(named[1]).name


def _missing(fingerprint: Facts, now: dict[str, Keys], *, evicted: int) -> list[str]:
    wrong = []
    for name, (every, expiring) in fingerprint["keys"].items():
        before, after = Keys(every, expiring), now.get(name, Keys(0, 0))
        if not before.lasting - evicted <= after.lasting <= before.lasting:
            wrong.append(
                f"Database {name} has {after.lasting} keys that do not expire, not {before.lasting}."
            )
        elif after.expiring > before.expiring:
            wrong.append(
                f"Database {name} has {after.expiring} keys that expire, more than {before.expiring}."
            )
    return wrong
