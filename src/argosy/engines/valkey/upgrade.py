"""To a newer version, also from Redis 7 to Valkey: its server reads the same append-only file and the same accounts.

Redis 7 is where both come from. What Redis 8 or a newer Valkey has written, an older one does not read.
"""

from __future__ import annotations

import re
import time
from pathlib import Path

from argosy.domain.errors import EngineError
from argosy.engines import upgrades
from argosy.engines.base import Engine, Upgrades
from argosy.engines.host import Host
from argosy.engines.process import ServerProcess
from argosy.engines.valkey.client import Client
from argosy.engines.valkey.configuration import find_program

_PATIENCE_S = 3600.0
_TRIES = 60
_PROGRAM_BYTES = 32 * 2**20


class ValkeyUpgrades(Upgrades, Engine):
    """A mixin of the whole engine, which brings all else."""

    host: Host
    server: ServerProcess
    client: Client

    def program_version(self) -> str:
        # Valkey server v=8.1.1 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64 build=...
        said = self.host.run_program([find_program(self.host.bundle), "--version"])
        return re.sub(r".*\bv=([\d.]+).*", r"\1", said, flags=re.DOTALL)

    def find_obstacles(self, to: Host, *, rehearsal: bool) -> list[str]:  # noqa: ARG002 - as other engines' have it
        """A rehearsal reads all data into memory a second time, beside what the server has there."""
        if not rehearsal:
            return []
        used = int(self.client.info("memory")["used_memory"])
        room = self.host.memory_mb * 2**20
        needed = 2 * used + _PROGRAM_BYTES
        if needed <= room:
            return []
        told = (
            f"A rehearsal holds the data in memory twice, {needed // 2**20} MB, and the instance has "
            f"{room // 2**20} MB. Upgrade without one: it needs no more memory than the data does."
        )
        return [told]

    def copy_data(self, target: Path) -> None:
        """Of a running server too: its files only grow, and when it rewrites them, the copying begins again."""
        directory = self.host.data / "appendonlydir"
        running = self.server.pid is not None
        for _ in range(_TRIES):
            before = _listing(directory)
            self.host.run_program(["rm", "-rf", target], environment=upgrades.REHEARSAL_MARK)
            try:
                upgrades.copy_files(self.host, target, timeout_s=_PATIENCE_S)
            except EngineError:
                if not running or _listing(directory) == before:
                    raise
            if _listing(directory) == before:
                return
            time.sleep(1)
        raise EngineError("The server rewrites its append-only file without pause: try again later.")

    def prepare_to_stop(self) -> None:
        """Nothing: it writes everything down as it goes."""

    def convert(self, older: ValkeyUpgrades, copy: Path) -> None:  # noqa: ARG002 - files are read as they are
        copy.rename(self.host.data)

    def finish_conversion(self) -> None:
        """Nothing: that it has read its data is all."""

    def after_upgrade(self) -> None:
        """Nothing."""


def _listing(directory: Path) -> list[str]:
    return sorted(file.name for file in directory.iterdir())
