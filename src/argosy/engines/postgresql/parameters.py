"""Parameters: as pg_settings tells of them, and how a running server is given new values."""

from __future__ import annotations

import time
from collections.abc import Mapping

from argosy.domain.errors import EngineError, EngineNotReady, Invalid
from argosy.domain.parameters import Effective, Parameter
from argosy.engines.layers import Layered, Layers
from argosy.engines.postgresql import configuration
from argosy.engines.postgresql.programs import Programs
from argosy.engines.postgresql.session import Sessions, run

_RELOAD_S = 30.0


class PostgresParameters(Layered):
    """New values are written to the configuration file, which the server then reads again."""

    sessions: Sessions
    programs: Programs

    def layers(self) -> Layers:
        return configuration.layers(self.host, self.programs)

    def read_parameters(self) -> list[Parameter]:
        raise NotImplementedError

    def effective_parameters(self) -> list[Effective]:
        raise NotImplementedError

    def change(self, wanted: Mapping[str, str | None]) -> set[str]:
        file = self.host.etc / "postgresql.conf"
        before = file.read_text()
        layers = self.layers()
        configuration.write(self.host, layers)
        try:
            self._have_the_program_check(layers)
            return self._reload(layers, wanted)
        except (Invalid, EngineError):
            self.host.write_file(file, before, mode=0o644, as_agent=True)
            raise

    def _have_the_program_check(self, layers: Layers) -> None:
        """The server's program reads all settings as it would at its start and says what is wrong with them."""
        settings = configuration.arguments(configuration.command_line(layers))
        try:
            self.host.run_program(
                [self.programs.postgres, "-D", self.host.data, *settings, "-C", "max_connections"]
            )
        except EngineError as error:
            raise Invalid(f"The database server refused: {_words(error.sentence)}") from error

    def _reload(self, layers: Layers, wanted: Mapping[str, str | None]) -> set[str]:
        file = str(self.host.etc / "postgresql.conf")
        with self.sessions.open() as session:
            contexts = dict(session.execute("SELECT lower(name), context FROM pg_settings").fetchall())
            waiting = {name for name in wanted if contexts.get(name.lower()) in {"postmaster", "internal"}}
            # The view reads the files as they are now; what needs a restart it always finds wrong.
            for name, error in session.execute(
                "SELECT name, error FROM pg_file_settings WHERE error IS NOT NULL AND sourcefile = %s",
                (file,),
            ):
                if contexts.get(str(name).lower()) != "postmaster":
                    raise Invalid(f"The database server refused {name}: {error}.")
            altered = [
                str(name)
                for (name,) in session.execute(
                    "SELECT DISTINCT name FROM pg_file_settings"
                    " WHERE sourcefile LIKE '%%postgresql.auto.conf' AND lower(name) = ANY (%s)",
                    ([name.lower() for name in layers.group],),
                )
            ]
            for name in altered:
                run(session, "ALTER SYSTEM RESET {}", name)
            if waiting != set(wanted) or altered:
                before = session.execute("SELECT pg_conf_load_time()").fetchone()
                session.execute("SELECT pg_reload_conf()")
                self._wait_until_reloaded(before)
        return waiting

    def _wait_until_reloaded(self, before: object) -> None:
        """New sessions have the time at which their parent, the server, last read its files."""
        deadline = time.monotonic() + _RELOAD_S
        while time.monotonic() < deadline:
            with self.sessions.open() as session:
                if session.execute("SELECT pg_conf_load_time()").fetchone() != before:
                    return
            time.sleep(0.005)
        raise EngineNotReady(f"The database server has not read its settings again within {_RELOAD_S:.0f} s.")


def _words(sentence: str) -> str:
    """The server's words on its settings, without when and from where it said them."""
    lines = [line.partition(":  ")[2] for line in sentence.splitlines() if ":  " in line]
    return " ".join(line.strip() for line in lines if "contains errors" not in line) or sentence
