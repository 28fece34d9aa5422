"""Parameters: as information_schema.SYSTEM_VARIABLES tells of them, and SET GLOBAL."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from dataclasses import dataclass

from argosy.domain.errors import ArgosyError, Invalid
from argosy.domain.parameters import Effective, Parameter, Source, Type
from argosy.engines.layers import Layered, Layers
from argosy.engines.mariadb import configuration, sql
from argosy.engines.mariadb.management import Management, Refused, Session
from argosy.engines.mariadb.owned import OWNED
from argosy.engines.ownership import reason_for

# What may follow a whole number in the file (manual, Configuring MariaDB with Option Files).
_SUFFIXES = {suffix: 1024**power for power, suffix in enumerate("kmgtpe", 1)}
_WHOLE = {"BIGINT", "BIGINT UNSIGNED", "INT", "INT UNSIGNED"}
# "The server is running with the --max-user-connections=0 option so it cannot execute this statement", and
# "is a SESSION variable", which the file may give all sessions all the same.
_NOT_NOW = frozenset({1290, 1238})
_AT_START = frozenset({"max_user_connections"})
# With less the agent's own statements would be refused.
_LEAST = {"max_allowed_packet": 2**20, "max_session_mem_used": 2**24}
# One connection, and no other.
_LOCKED_OUT = {"thread_handling": ("no-threads",)}
# The view says of these that the file does not take them; it takes them, by this name.
_NOT_TOLD = frozenset(
    {
        "autocommit", "character_set_filesystem", "character_set_server", "collation_server",
        "default_storage_engine", "lc_time_names", "time_zone", "transaction_isolation", "tx_isolation",
    }
)  # fmt: skip


@dataclass(frozen=True)
class _Variable:
    """A row of the view."""

    name: str
    kind: str
    read_only: bool
    value: str
    origin: str
    default: str | None
    minimum: str | None
    maximum: str | None
    block: str | None
    allowed: str | None
    in_file: bool
    description: str


class MariaDbParameters(Layered):
    """The configuration file is for the next start; what can be is set in the running server as well."""

    management: Management

    def layers(self) -> Layers:
        return configuration.layers(self.host)

    def read_parameters(self) -> list[Parameter]:
        with self.management.session() as session:
            variables = _variables(session)
        older = {"tx_isolation"} if "transaction_isolation" in variables else set()
        return [_parameter(one) for one in variables.values() if one.in_file and one.name not in older]

    def effective_parameters(self) -> list[Effective]:
        layers = self.layers()
        wanted, pending = layers.settable, set(self.pending_restart())
        with self.management.session() as session:
            variables = _variables(session)
        shown = []
        for variable in variables.values():
            name = variable.name
            source: Source = layers.source(name)
            if variable.origin == "SQL" and (source == "default" or not _same(variable, wanted.get(name))):
                # Not by us: what we set by statement, the layers say.
                source = "default" if _same(variable, variable.default) else "server"
            waiting = wanted.get(name, variable.default or "") if name in pending else None
            shown.append(Effective(name, variable.value, source, waiting))
        return shown

    def change(self, wanted: Mapping[str, str | None]) -> set[str]:
        with self.management.session() as session:
            known = _variables(session)
            waiting = {
                name
                for name, value in wanted.items()
                if name not in known or (known[name].read_only and not _same(known[name], value))
            }
            statics = {name for name in wanted if name in known and known[name].read_only}
            done: list[str] = []
            # Strict, or a value out of range would be bent into it without a word we hear.
            session.run("SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION'")
            try:
                for name, value in wanted.items():
                    if name in waiting or name in statics:
                        continue
                    try:
                        _set(session, known[name], value)
                    except Refused as error:
                        if error.number not in _NOT_NOW:
                            raise
                        waiting.add(name)
                    else:
                        done.append(name)
            except Refused as error:
                for earlier in reversed(done):
                    with contextlib.suppress(Refused):
                        _set(session, known[earlier], known[earlier].value)
                raise Invalid(error.sentence) from error
            finally:
                with contextlib.suppress(ArgosyError):
                    session.run("SET SESSION sql_mode = 'STRICT_TRANS_TABLES,NO_ENGINE_SUBSTITUTION'")
        self.host.write_file(configuration.file(self.host), configuration.text(self.layers()))
        return waiting


def _variables(session: Session) -> dict[str, _Variable]:
    """What the whole server has, by name; what only sessions have is not a setting of the server's."""
    rows = session.run(
        "SELECT VARIABLE_NAME, VARIABLE_TYPE, READ_ONLY, GLOBAL_VALUE, GLOBAL_VALUE_ORIGIN, DEFAULT_VALUE,"
        " NUMERIC_MIN_VALUE, NUMERIC_MAX_VALUE, NUMERIC_BLOCK_SIZE, ENUM_VALUE_LIST, COMMAND_LINE_ARGUMENT,"
        " VARIABLE_COMMENT FROM information_schema.SYSTEM_VARIABLES WHERE VARIABLE_SCOPE <> 'SESSION ONLY'"
    )
    found: dict[str, _Variable] = {}
    for name, kind, read_only, value, origin, *bounds, argument, comment in sorted(rows, key=_name):
        low = str(name).lower()
        default, least, most, block, allowed = (None if one is None else str(one) for one in bounds)
        found[low] = _Variable(
            name=low,
            kind=str(kind),
            read_only=read_only == "YES",
            value=str(value or ""),
            origin=str(origin),
            default=default,
            minimum=least,
            maximum=most,
            block=block,
            allowed=allowed,
            in_file=argument is not None or low in _NOT_TOLD,
            description=str(comment or "").strip(),
        )
    return found


def _name(row: tuple[object, ...]) -> str:
    return str(row[0]).lower()


def _parameter(variable: _Variable) -> Parameter:
    allowed = tuple((variable.allowed or "").split(",")) if variable.allowed else ()
    boolean = variable.kind == "BOOLEAN" or set(allowed) == {"OFF", "ON"}
    kind: Type = "string"
    if boolean:
        kind, allowed = "boolean", ("OFF", "ON")
    elif variable.kind in _WHOLE:
        kind = "integer"
    elif variable.kind == "DOUBLE":
        kind = "float"
    numeric = kind in {"integer", "float"}
    return Parameter(
        name=variable.name,
        type=kind,
        restart_required=variable.read_only or variable.name in _AT_START,
        default=variable.default,
        minimum=_LEAST.get(variable.name, _bound(variable.minimum)) if numeric else None,
        maximum=_bound(variable.maximum) if numeric else None,
        # A FLAGSET's value is a list of flag=on|off, which the server looks through itself.
        allowed=()
        if variable.kind == "FLAGSET" or numeric
        else tuple(word for word in allowed if word not in _LOCKED_OUT.get(variable.name, ())),
        several=variable.kind == "SET",
        units=_SUFFIXES if kind == "integer" else {},
        description=variable.description,
        owned=reason_for(variable.name, OWNED),
    )


def _bound(text: str | None) -> float | None:
    if text is None:
        return None
    return int(text) if re.fullmatch(r"-?\d+", text) else float(text)


def _set(session: Session, variable: _Variable, value: str | None) -> None:
    session.run(f"SET GLOBAL {sql.identifier(variable.name)} = {_literal(variable, value)}")


def _literal(variable: _Variable, value: str | None) -> str:
    """A value as SET GLOBAL takes it, which unlike the configuration file knows no `64M`."""
    if value is None:
        return "DEFAULT"
    if variable.kind in _WHOLE and (number := _whole(value)) is not None:
        # The file's numbers are rounded to whole blocks in silence; strictly set, they would be refused.
        return str(number - number % max(1, int(variable.block or 1)))
    if variable.kind == "DOUBLE" and re.fullmatch(r"[+-]?\d+(\.\d*)?", value.strip()):
        return value.strip()
    return sql.literal(value)


def _whole(text: str) -> int | None:
    match = re.fullmatch(r"([+-]?\d+)([kmgtpe]?)", text.strip().lower())
    return None if match is None else int(match[1]) * _SUFFIXES.get(match[2], 1)


def _same(variable: _Variable, text: str | None) -> bool:
    """Whether the server's value is what the text asks for, as far as can be told from the outside."""
    if text is None:
        text = variable.default
    if text is None:
        return variable.value == ""
    if variable.kind in _WHOLE:
        return _whole(_literal(variable, text)) == _whole(variable.value)
    if variable.kind == "DOUBLE":
        with contextlib.suppress(ValueError):
            return float(text) == float(variable.value)
    on, off = {"on", "1", "true"}, {"off", "0", "false"}
    one, other = text.lower(), variable.value.lower()
    return one == other or {one, other} <= on or {one, other} <= off
