"""Parameters: as pg_settings tells of them, and how a running server is given new values."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal

from argosy.domain.errors import EngineError, EngineNotReady, Invalid
from argosy.domain.parameters import Effective, Parameter, Type, amount
from argosy.engines.layers import Layered, Layers
from argosy.engines.ownership import reason_for
from argosy.engines.postgresql import configuration
from argosy.engines.postgresql.owned import DEVELOPERS, OWNED
from argosy.engines.postgresql.programs import Programs
from argosy.engines.postgresql.session import ALWAYS, Connection, Sessions, run

_RELOAD_S = 30.0
_TYPES: dict[str, Type] = {
    "bool": "boolean", "integer": "integer", "real": "float", "string": "string", "enum": "string",
}  # fmt: skip
_BYTES = {"B": 1, "kB": 1024, "MB": 1024**2, "GB": 1024**3, "TB": 1024**4}
_MICROSECONDS = {
    "us": 1, "ms": 1000, "s": 1_000_000, "min": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000,
}  # fmt: skip
# As a number: how the server writes times may be among what was changed.
_LOADED_AT = "SELECT extract(epoch FROM pg_conf_load_time())::text"
# What Argosy's own work needs at least.
_LEAST = {"max_wal_senders": 10, "max_replication_slots": 10, "max_connections": 10}
# The reader's own session has these by its connection, so what it sees is not the server's.
_THE_READERS = (*ALWAYS, "event_triggers")


class PostgresParameters(Layered):
    """New values are written to the configuration file, which the server then reads again."""

    sessions: Sessions
    programs: Programs

    def layers(self) -> Layers:
        return configuration.layers(self.host, self.programs)

    def read_parameters(self) -> list[Parameter]:
        with self.sessions.open(plainly=True) as session:
            rows = session.execute(
                "SELECT name, vartype, unit, context, boot_val, min_val, max_val, enumvals, category,"
                " concat_ws(' ', short_desc, extra_desc) FROM pg_settings WHERE context <> 'internal'"
                # What lives no longer than a transaction is in no file.
                " AND name NOT IN ('transaction_deferrable', 'transaction_isolation', 'transaction_read_only')"
            ).fetchall()
        return sorted((_parameter(*row) for row in rows), key=lambda parameter: parameter.name)

    def effective_parameters(self) -> list[Effective]:
        layers = self.layers()
        wanted = {name.lower(): value for name, value in layers.settable.items()}
        pending = {name.lower() for name in self.pending_restart()}
        ours = {name.lower(): name for name in (*layers.owned, *layers.settable)}
        with self.sessions.open(plainly=True) as session:
            rows = session.execute(
                "SELECT name, reset_val, unit, source, sourcefile LIKE '%%postgresql.auto.conf', boot_val"
                " FROM pg_settings"
            ).fetchall()
            hidden = {
                str(name): (str(setting), bool(altered))
                for name, setting, altered in session.execute(
                    "SELECT name, setting, sourcefile LIKE '%%postgresql.auto.conf' FROM pg_file_settings"
                    " WHERE name = ANY (%s) ORDER BY seqno",
                    (list(_THE_READERS),),
                )
            }
        shown = []
        for name, value, unit, source, altered, default in rows:
            low = name.lower()
            source_of_ours = layers.source(ours.get(low, name))
            if name in _THE_READERS:
                value, altered = hidden.get(name, (default, False))  # noqa: PLW2901 - else it is the session's
                said = "server" if altered else source_of_ours
            elif source in {"database", "user", "database user", "global"} or altered:
                said = "server"
            elif source in {"configuration file", "command line"}:
                said = source_of_ours
            else:
                said = "default"
            waiting = wanted.get(low, _with_unit(str(default), unit)) if low in pending else None
            shown.append(Effective(name, _with_unit(str(value or ""), unit), said, waiting))
        return sorted(shown, key=lambda one: one.name)

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
            rows = session.execute(
                "SELECT lower(name), context, vartype, reset_val, boot_val, unit FROM pg_settings"
            ).fetchall()
            contexts = {name: context for name, context, *_ in rows}
            has = {name: rest for name, context, *rest in rows if context in {"postmaster", "internal"}}
            waiting = {
                name
                for name, value in wanted.items()
                if name.lower() in has and not _same(value, *has[name.lower()])
            }
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
            if altered or any(name.lower() not in has for name in wanted):
                self._have_it_read_again(session)
        return waiting

    def _have_it_read_again(self, session: Connection) -> None:
        """The server's files. New sessions have the time at which their parent, the server, last read them."""
        before = session.execute(_LOADED_AT).fetchone()
        session.execute("SELECT pg_reload_conf()")
        deadline = time.monotonic() + _RELOAD_S
        while time.monotonic() < deadline:
            with self.sessions.open() as new:
                if new.execute(_LOADED_AT).fetchone() != before:
                    return
            time.sleep(0.005)
        raise EngineNotReady(f"The database server has not read its settings again within {_RELOAD_S:.0f} s.")


def _parameter(
    name: str, vartype: str, unit: str | None, context: str, boot_val: str | None, least: str | None,
    most: str | None, enumvals: list[str] | None, category: str, description: str,
) -> Parameter:  # fmt: skip
    owned = reason_for(name, OWNED) or (DEVELOPERS if category == "Developer Options" else None)
    parameter = Parameter(
        name=name,
        type=_TYPES[vartype],
        restart_required=context == "postmaster",
        default=None if boot_val is None else _with_unit(boot_val, unit),
        minimum=None if least is None else _number(least),
        maximum=None if most is None else _number(most),
        allowed=("off", "on") if vartype == "bool" else tuple(enumvals or ()),
        unit=unit,
        units=_units(unit),
        description=description,
        owned=owned,
    )
    if name in _LEAST:
        return replace(parameter, minimum=_LEAST[name])
    if name == "wal_level":
        return replace(parameter, allowed=("replica", "logical"))
    return parameter


def _same(
    wanted: str | None, vartype: str, value: str | None, boot_val: str | None, unit: str | None
) -> bool:
    """Whether a value as the file has it, or none, is what the server runs with."""
    if wanted is None:
        return value == boot_val
    if vartype in {"integer", "real"} and value is not None:
        given = amount(Parameter("", "float", restart_required=False, units=_units(unit)), wanted)
        return given is not None and round(given, 6) == round(Decimal(value), 6)
    words = {"true": "on", "yes": "on", "1": "on", "false": "off", "no": "off", "0": "off"}
    said = wanted.lower() if vartype in {"bool", "enum"} else wanted
    return value == (words.get(said, said) if vartype == "bool" else said)


def _number(text: str) -> float:
    return int(text) if text.lstrip("-").isdigit() else float(text)


def _units(unit: str | None) -> dict[str, float]:
    """What may follow a number (manual, Setting Parameters, Parameter Names and Values)."""
    if unit is None:
        return {}
    own, family = _measure(unit)
    return {word: size / own for word, size in family.items()}


def _measure(unit: str) -> tuple[int, dict[str, int]]:
    """A unit such as 8kB in the smallest of its family, and the family."""
    digits = "".join(character for character in unit if character.isdigit())
    word = unit.removeprefix(digits)
    family = _BYTES if word in _BYTES else _MICROSECONDS
    return int(digits or 1) * family[word], family


def _with_unit(value: str, unit: str | None) -> str:
    """A number of units in the largest whole one, as SHOW writes it; 0 and -1 stay bare."""
    if unit is None or not value.isdigit() or value == "0":
        return value
    own, family = _measure(unit)
    total = int(value) * own
    word, size = max(
        ((word, size) for word, size in family.items() if total % size == 0), key=lambda one: one[1]
    )
    return f"{total // size}{word}"


def _words(sentence: str) -> str:
    """The server's words on its settings, without when and from where it said them."""
    lines = [line.partition(":  ")[2] for line in sentence.splitlines() if ":  " in line]
    return " ".join(line.strip() for line in lines if "contains errors" not in line) or sentence
