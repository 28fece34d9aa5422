"""Parameters: as information_schema.SYSTEM_VARIABLES tells of them, and SET GLOBAL."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping

from argosy.domain.errors import ArgosyError, Invalid
from argosy.domain.parameters import Effective, Parameter
from argosy.engines.layers import Layered, Layers
from argosy.engines.mariadb import configuration, sql
from argosy.engines.mariadb.management import Management, Refused, Session

_SUFFIXES = {suffix: 1024**power for power, suffix in enumerate("KMGTPE", 1)}


class MariaDbParameters(Layered):
    """The configuration file is for the next start; what can be is set in the running server as well."""

    management: Management

    def layers(self) -> Layers:
        return configuration.layers(self.host)

    def read_parameters(self) -> list[Parameter]:
        raise NotImplementedError

    def effective_parameters(self) -> list[Effective]:
        raise NotImplementedError

    def change(self, wanted: Mapping[str, str | None]) -> set[str]:
        with self.management.session() as session:
            known = {
                str(name).lower(): (str(kind), read_only == "YES", old)
                for name, kind, read_only, old in session.run(
                    "SELECT VARIABLE_NAME, VARIABLE_TYPE, READ_ONLY, GLOBAL_VALUE"
                    " FROM information_schema.SYSTEM_VARIABLES WHERE VARIABLE_SCOPE <> 'SESSION ONLY'"
                )
            }
            waiting = {name for name in wanted if name not in known or known[name][1]}
            done: list[str] = []
            # Strict, or a value out of range would be bent into it without a word we hear.
            session.run("SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION'")
            try:
                for name, value in wanted.items():
                    if name not in waiting:
                        _set(session, name, known[name][0], value)
                        done.append(name)
            except Refused as error:
                for earlier in reversed(done):
                    with contextlib.suppress(Refused):
                        _set(session, earlier, known[earlier][0], str(known[earlier][2]))
                raise Invalid(error.sentence) from error
            finally:
                with contextlib.suppress(ArgosyError):
                    session.run("SET SESSION sql_mode = 'STRICT_TRANS_TABLES,NO_ENGINE_SUBSTITUTION'")
        self.host.write_file(configuration.file(self.host), configuration.text(self.layers()))
        return waiting


def _set(session: Session, name: str, kind: str, value: str | None) -> None:
    session.run(f"SET GLOBAL {sql.identifier(name)} = {_literal(kind, value)}")


def _literal(kind: str, value: str | None) -> str:
    """A value as SET GLOBAL takes it, which unlike the configuration file knows no `64M`."""
    if value is None:
        return "DEFAULT"
    number = re.fullmatch(r"([+-]?\d+)([KMGTPE]?)", value.strip(), re.IGNORECASE)
    if number and kind in {"BIGINT", "BIGINT UNSIGNED", "INT", "INT UNSIGNED"}:
        return str(int(number[1]) * _SUFFIXES.get(number[2].upper(), 1))
    if kind == "DOUBLE" and re.fullmatch(r"[+-]?\d+(\.\d*)?", value.strip()):
        return value.strip()
    return sql.literal(value)
