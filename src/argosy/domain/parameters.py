"""Parameters of database servers: what a version has, as a live server of it told, and which values it takes."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from decimal import Decimal
from functools import cached_property
from typing import Any, Literal

from argosy.domain.errors import Busy

Type = Literal["integer", "float", "boolean", "string"]  # contract 2.16
Source = Literal["default", "flavor", "log", "group", "argosy", "server"]

LONGEST_VALUE = 1024  # characters of text
TOLD = 100  # of the values that are wrong in one request, at most
_TRUE, _FALSE = frozenset({"on", "true", "yes", "1"}), frozenset({"off", "false", "no", "0"})
_NUMBER = re.compile(
    r"\s*([+-]?(?:\d{1,30}(?:\.\d{0,30})?|\.\d{1,30})(?:[eE][+-]?\d{1,2})?)\s*([A-Za-z]*)\s*"
)


@dataclass(frozen=True)
class Parameter:
    """One parameter of one version.

    `default` is the server's own, as its manual writes it. `minimum` and `maximum` bound numbers, in `unit` when
    there is one (`kB`, `8kB`, `ms`…). `units` has what may follow a number, and how many of `unit` it is; where all
    are in lower case, case does not matter. `allowed` lists the only values there are (of a boolean: false, true),
    or with `several` those of a list with commas. `restart_required` says that a running server takes a new value
    only when it starts. `owned` is the reason why Argosy sets it and nobody else, None when its value is the
    user's to choose.
    """

    name: str
    type: Type
    restart_required: bool
    default: str | None = None
    minimum: float | None = None
    maximum: float | None = None
    allowed: tuple[str, ...] = ()
    several: bool = False
    unit: str | None = None
    units: Mapping[str, float] = field(default_factory=dict)
    description: str = ""
    owned: str | None = None


@dataclass(frozen=True)
class Catalogue:
    """All parameters of a version, by name, as the live server of that exact version told."""

    server_version: str
    parameters: tuple[Parameter, ...]

    def to_text(self) -> str:
        return json.dumps(
            {
                "server_version": self.server_version,
                "parameters": [to_json(parameter) for parameter in self.parameters],
            },
            ensure_ascii=False,
        )

    @cached_property
    def digest(self) -> str:
        """Tells one catalogue from another."""
        return hashlib.sha256(self.to_text().encode()).hexdigest()

    @classmethod
    def from_text(cls, text: str) -> Catalogue:
        stored = json.loads(text)
        return cls(stored["server_version"], tuple(from_json(one) for one in stored["parameters"]))


@dataclass(frozen=True)
class Effective:
    """A parameter's value in a running server and where it is from; `pending` waits for a restart.

    From the server's own `default`, from what Argosy sets for the `flavor`, a `log` that is switched on, the
    configuration `group`, from `argosy`, who owns it, or from the `server`, where somebody set it by a statement.
    """

    name: str
    value: str
    source: Source
    pending: str | None = None


@dataclass(frozen=True)
class Override:
    """What an operator says of a parameter instead of the server; `hidden` takes it out of the list."""

    name: str
    type: Type = "string"
    restart_required: bool = False
    minimum: float | None = None
    maximum: float | None = None
    hidden: bool = False


class ParametersRefused(Busy):
    """Values that cannot be in a configuration group of the version. The sentence names each (contract 2.14: 422)."""

    code = "parameters-refused"

    def __init__(self, reasons: Sequence[str]) -> None:
        told = list(reasons[:TOLD])
        if len(reasons) > TOLD:
            told.append(f"and {len(reasons) - TOLD} more")
        super().__init__("; ".join(told) + ".")
        self.reasons = list(reasons)


class _Wrong(Exception):
    """What is wrong with a value."""


def check_values(catalogue: Iterable[Parameter], values: Mapping[str, Any]) -> dict[str, str]:
    """Values as the configuration file has them, by the names the server uses, from what a request's JSON has.

    Names are looked up with case ignored. Raises ParametersRefused, which names every value that cannot be.
    """
    known = {_key(parameter.name): parameter for parameter in catalogue}
    if not known:
        raise ParametersRefused(["This datastore version has no parameters that can be set"])
    checked: dict[str, str] = {}
    reasons: list[str] = []
    for name, value in values.items():
        parameter = known.get(_key(name))
        shown = _cut(name, 64) if parameter is None else parameter.name
        try:
            if parameter is None:
                raise _Wrong("there is no such parameter in this version")  # noqa: TRY301 - told with the others
            if parameter.name in checked:
                raise _Wrong("it is given twice")  # noqa: TRY301 - as above
            checked[parameter.name] = check_value(parameter, value)
        except _Wrong as wrong:
            reasons.append(f"{shown}: {wrong}")
    if reasons:
        raise ParametersRefused(reasons)
    return checked


def check_value(parameter: Parameter, value: Any) -> str:
    """One value as the configuration file has it."""
    if parameter.owned is not None:
        raise _Wrong(f"it is Argosy's to set: {parameter.owned}")
    if value is None or isinstance(value, (list, dict)):
        raise _Wrong(f"it must be {_kind(parameter)}, not {_json(value)}")
    if parameter.type == "boolean":
        return _boolean(parameter, value)
    if parameter.type == "string":
        return _text(parameter, value)
    return _numeric(parameter, value)


def merged(catalogue: Sequence[Parameter], overrides: Sequence[Override]) -> list[Parameter]:
    """A version's parameters with what operators say of them, by name; what Argosy owns stays so."""
    by_name = {parameter.name: parameter for parameter in catalogue}
    for override in overrides:
        if override.hidden:
            by_name.pop(override.name, None)
            continue
        base = by_name.get(override.name) or Parameter(
            override.name, override.type, override.restart_required
        )
        same = base.type == override.type
        by_name[override.name] = replace(
            base,
            type=override.type,
            restart_required=override.restart_required,
            minimum=override.minimum,
            maximum=override.maximum,
            allowed=base.allowed if same else ("off", "on") if override.type == "boolean" else (),
            several=base.several and same,
        )
    return [by_name[name] for name in sorted(by_name)]


def amount(parameter: Parameter, text: str) -> Decimal | None:
    """A number with its unit in multiples of the parameter's own unit; None for what is no number."""
    match = _NUMBER.fullmatch(text)
    if match is None:
        return None
    number, unit = Decimal(match[1]), match[2]
    if not unit:
        return number
    units = parameter.units
    if unit not in units and all(known == known.lower() for known in units):
        unit = unit.lower()
    return number * Decimal(str(units[unit])) if unit in units else None


def to_json(parameter: Parameter) -> dict[str, Any]:
    """What is stored: all that says something."""
    empty = Parameter(parameter.name, parameter.type, parameter.restart_required)
    return {
        key: value
        for key, value in asdict(parameter).items()
        if key in {"name", "type", "restart_required"} or value != getattr(empty, key)
    }


def from_json(stored: Mapping[str, Any]) -> Parameter:
    """Keys of a newer release are left out."""
    known = {key: value for key, value in stored.items() if key in Parameter.__dataclass_fields__}
    return Parameter(**{**known, "allowed": tuple(known.get("allowed", ()))})


def _key(name: str) -> str:
    return name.lower().replace("-", "_")


def _boolean(parameter: Parameter, value: Any) -> str:
    off, on = parameter.allowed if len(parameter.allowed) == 2 else ("off", "on")
    word = str(value).strip().lower()
    if word in _TRUE or word == on.lower():
        return on
    if word in _FALSE or word == off.lower():
        return off
    raise _Wrong(f"{_shown(value)} is not {_kind(parameter)}: say {on} or {off}")


def _text(parameter: Parameter, value: Any) -> str:
    if not parameter.allowed:
        if not isinstance(value, str):
            raise _Wrong(f"{_shown(value)} is not {_kind(parameter)}")
        _check_text(value)
        return value
    said = ("on" if value else "off") if isinstance(value, bool) else str(value).strip()
    allowed = {word.lower(): word for word in parameter.allowed}
    words = [word.strip() for word in said.split(",")] if parameter.several else [said]
    if parameter.several and said == "":
        return ""
    unknown = [word for word in words if word.lower() not in allowed]
    if unknown:
        raise _Wrong(f"{_shown(unknown[0])} is not one of {', '.join(parameter.allowed)}")
    return ",".join(allowed[word.lower()] for word in words)


def _check_text(value: str) -> None:
    if len(value) > LONGEST_VALUE:
        raise _Wrong(f"it may have {LONGEST_VALUE} characters, it has {len(value)}")
    if any(ord(character) < 32 or 0x7F <= ord(character) < 0xA0 for character in value):
        raise _Wrong("it must not hold line breaks or other control characters")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise _Wrong("it must be valid Unicode text") from None


def _numeric(parameter: Parameter, value: Any) -> str:
    if isinstance(value, bool):
        value = int(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise _Wrong(f"{value} is not {_kind(parameter)}")
    text = str(value)
    if parameter.allowed and text.strip().lower() in (word.lower() for word in parameter.allowed):
        return text.strip()
    given = amount(parameter, text)
    if given is None:
        raise _Wrong(f"{_shown(value)} is not {_kind(parameter)}")
    plain = not text.strip()[-1:].isalpha()
    if parameter.type == "integer":
        if plain and given != given.to_integral_value():
            raise _Wrong(f"{_shown(value)} is not {_kind(parameter)}")
        given = given.to_integral_value()
    unit = f" {parameter.unit}" if parameter.unit else ""
    bounds = f"it must be from {_plain(parameter.minimum)} to {_plain(parameter.maximum)}{unit}"
    if parameter.minimum is not None and given < Decimal(str(parameter.minimum)):
        least = (
            f"it must be {_plain(parameter.minimum)}{unit} or more" if parameter.maximum is None else bounds
        )
        raise _Wrong(f"{_shown(value)} is too small: {least}")
    if parameter.maximum is not None and given > Decimal(str(parameter.maximum)):
        most = (
            f"it must be {_plain(parameter.maximum)}{unit} or less" if parameter.minimum is None else bounds
        )
        raise _Wrong(f"{_shown(value)} is too large: {most}")
    if re.fullmatch(r"[+-]?\d+[A-Za-z]+", text.strip()):
        return text.strip()
    # A plain number is understood everywhere; a fraction or an exponent before a unit is not.
    return str(int(given)) if parameter.type == "integer" else format(given, "f")


def _plain(bound: float | None) -> str:
    if bound is None:
        return ""
    return str(int(bound)) if bound == int(bound) else f"{bound:g}"


def _kind(parameter: Parameter) -> str:
    words = {"integer": "a whole number", "float": "a number", "boolean": "a boolean", "string": "a text"}
    kind = words[parameter.type]
    return f"{kind}, with {', '.join(parameter.units)} or without" if parameter.units else kind


def _shown(value: Any) -> str:
    return repr(_cut(value, 64)) if isinstance(value, str) else _cut(str(value), 64)


def _json(value: Any) -> str:
    return "null" if value is None else "a list" if isinstance(value, list) else "an object"


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[:length]}…"
