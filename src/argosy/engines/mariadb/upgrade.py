"""To a newer series: its server starts on a copy of the data and mariadb-upgrade brings the system tables up."""

from __future__ import annotations

from pathlib import Path

from argosy.engines import upgrades
from argosy.engines.base import Engine, Upgrades
from argosy.engines.host import Host
from argosy.engines.mariadb import configuration
from argosy.engines.mariadb.management import Management
from argosy.engines.mariadb.programs import client_options, program
from argosy.engines.process import ServerProcess

_PATIENCE_S = 6 * 3600.0


class MariaDbUpgrades(Upgrades, Engine):
    """A mixin of the whole engine, which brings all else."""

    host: Host
    server: ServerProcess
    management: Management

    def program_version(self) -> str:
        # mariadbd Ver 11.8.6-MariaDB-0+deb13u1 from Debian for debian-linux-gnu on x86_64
        said = self.host.run_program([self.host.bundle / "usr/sbin/mariadbd", "--no-defaults", "--version"])
        return said.partition("Ver ")[2].partition("-")[0]

    def find_obstacles(self, to: Host, *, rehearsal: bool) -> list[str]:
        found = []
        with self.management.session() as session:
            prepared = session.run("XA RECOVER")
            libraries = [str(dl) for (dl,) in session.run("SELECT DISTINCT dl FROM mysql.plugin ORDER BY dl")]
        if prepared and not rehearsal:
            named = ", ".join(repr(str(row[3])) for row in prepared[:5])
            found.append(
                f"XA transactions are prepared and not ended: {named}. Commit them or roll them back first."
            )
        plugins = configuration.plugins(to)
        missing = [one for one in libraries if not (plugins / Path(one).with_suffix(".so").name).exists()]
        if missing:
            found.append(
                f"Plugins are installed that did not come with the newer version: {', '.join(missing)}. "
                "Uninstall them first."
            )
        return found

    def copy_data(self, target: Path) -> None:
        if self.server.pid is None:
            upgrades.copy_files(self.host, target, timeout_s=_PATIENCE_S)
            return
        backup = program(self.host, "mariadb-backup")
        with client_options(self.host, self.management) as options:
            for command in (
                ["--backup", f"--datadir={self.host.data}"],
                ["--prepare", "--use-memory=32M"],
            ):
                self.host.run_program(
                    [backup, f"--defaults-file={options}", *command, f"--target-dir={target}"],
                    timeout_s=_PATIENCE_S,
                    environment=upgrades.REHEARSAL_MARK,
                )

    def prepare_to_stop(self) -> None:
        with self.management.session() as session:
            # Everything in the tables' own files: another series reads no older one's log.
            session.run("SET GLOBAL innodb_fast_shutdown = 0")

    def convert(self, older: MariaDbUpgrades, copy: Path) -> None:  # noqa: ARG002 - files are read as they are
        copy.rename(self.host.data)

    def finish_conversion(self) -> None:
        with client_options(self.host, self.management) as options:
            self.host.run_program(
                [program(self.host, "mariadb-upgrade"), f"--defaults-file={options}", "--silent"],
                timeout_s=_PATIENCE_S,
                environment=upgrades.REHEARSAL_MARK,
                directory=self.host.run,
            )

    def after_upgrade(self) -> None:
        """Nothing: the tables keep their statistics."""
