"""Parameters: as CONFIG GET and the refusals of CONFIG SET tell of them, and how a server is given new values.

The server lists names and values, and no more. But it says what it wants when it is offered something else:
"argument must be between 1 and 64 inclusive", "argument(s) must be one of the following: …", "can't set
immutable config". So a server that is thrown away afterwards is asked, parameter by parameter.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import replace

from argosy.domain.errors import Invalid
from argosy.domain.parameters import Catalogue, Effective, Parameter
from argosy.engines.layers import Layered
from argosy.engines.ownership import reason_for
from argosy.engines.valkey import configuration
from argosy.engines.valkey.client import Client, Refused
from argosy.engines.valkey.owned import OWNED

_SIZES = {"k": 1000, "kb": 1024, "m": 1000**2, "mb": 1024**2, "g": 1000**3, "gb": 1024**3}
_NONSENSE = "no-such-thing"
_HUGE, _LITTLE = str(2**63 - 1), str(-(2**63))
# Allowed by the server, and against what Argosy guarantees.
_UNSAFE = {"appendfsync": ("no",)}
# The agent keeps two connections of its own.
_LEAST = {"maxclients": 10}
# Older names of what has a newer one, and is listed twice.
_OLDER = (
    ("slave", "replica"),
    ("ziplist", "listpack"),
    ("masterauth", "primaryauth"),
    ("slowlog-log", "commandlog"),
)
# The server would do something at once, or its refusal tells nothing: known from the manual.
_AS_TEXT = frozenset({"save", "client-output-buffer-limit", "notify-keyspace-events", "oom-score-adj-values"})


class ValkeyParameters(Layered):
    """The configuration file is for the next start; what can be is set in the running server as well."""

    client: Client

    @abstractmethod
    def start_bare(self) -> None:
        """Start the server with nothing set but what Argosy owns."""

    def read_parameters(self) -> list[Parameter]:
        """Asks by offering values, of a server without ours: see `Configurable`."""
        self.start_bare()
        values = self._values()
        names = [name for name in values if not _has_newer_name(name, values)]
        return [self._ask_about(name, values[name]) for name in sorted(names)]

    def effective_parameters(self) -> list[Effective]:
        layers = self.layers()
        wanted, pending = layers.settable, set(self.pending_restart())
        values = self._values()
        return [
            Effective(
                name,
                values[name],
                layers.source(name),
                wanted.get(name, self._default(name) or "") if name in pending else None,
            )
            for name in sorted(values)
            if not _has_newer_name(name, values)
        ]

    def change(self, wanted: Mapping[str, str | None]) -> set[str]:
        asked = {name: value if value is not None else self._default(name) for name, value in wanted.items()}
        waiting = {name for name, value in asked.items() if value is None}
        changes = {name: value for name, value in asked.items() if value is not None}
        while changes:
            words = [word for name, value in changes.items() for word in (name, value)]
            try:
                # All or nothing, says the manual (CONFIG SET, since 7.0).
                self.client.call("CONFIG", "SET", *words)
            except Refused as refusal:
                immutable = _immutable(refusal, changes)
                if immutable is None:
                    raise Invalid(refusal.sentence) from refusal
                if not self._runs_with(immutable, changes[immutable]):
                    waiting.add(immutable)
                del changes[immutable]
            else:
                break
        self.host.write_file(self.host.etc / "server.conf", configuration.text(self.layers()))
        return waiting

    def _runs_with(self, name: str, value: str) -> bool:
        """Whether what only a start could change is as it should be."""
        reply = self.client.call("CONFIG", "GET", name)
        return len(reply) == 2 and str(reply[1]).lower() == value.lower()

    def _values(self) -> dict[str, str]:
        reply = [str(word) for word in self.client.call("CONFIG", "GET", "*")]
        return dict(zip(reply[::2], reply[1::2], strict=True))

    def _default(self, name: str) -> str | None:
        """The server's own, as it was told when the software was pulled; None when nobody knows."""
        try:
            text = (self.host.template.parent / "parameters.json").read_text()
        except OSError:
            return None
        told = {parameter.name: parameter.default for parameter in Catalogue.from_text(text).parameters}
        return told.get(name)

    def _ask_about(self, name: str, value: str) -> Parameter:
        found = Parameter(
            name, "string", restart_required=False, default=value, owned=reason_for(name, OWNED)
        )
        if found.owned is not None:
            # Not touched: what it does to the server is why it is owned. Its value tells the type.
            return _looked(found)
        same = self._offer(name, value)
        if same is not None and "immutable" in same:
            return replace(_looked(found), restart_required=True)
        if name in _AS_TEXT:
            return found
        answer = self._offer(name, _NONSENSE)
        self._offer(name, value)
        if answer is None:
            return found
        if "must be 'yes' or 'no'" in answer:
            return replace(found, type="boolean", allowed=("no", "yes"))
        if one_of := re.search(r"must be one of the following: (.*)", answer):
            allowed = tuple(word.strip(" .") for word in one_of[1].split(",") if word.strip(" ."))
            return replace(
                found, allowed=tuple(word for word in allowed if word not in _UNSAFE.get(name, ()))
            )
        if not re.fullmatch(r"-?\d+(\.\d+)?", value) or "percent" in answer:
            return found
        memory = "memory value" in answer
        return replace(
            found,
            type="float" if "." in value else "integer",
            minimum=_LEAST.get(name, self._bound(name, value, "0" if memory else _LITTLE)),
            maximum=self._bound(name, value, _HUGE),
            units=_SIZES if memory else {},
            unit="bytes" if memory else None,
        )

    def _offer(self, name: str, value: str) -> str | None:
        """What the server has against a value; None when it took it."""
        try:
            self.client.call("CONFIG", "SET", name, value)
        except Refused as refusal:
            return refusal.reply
        return None

    def _bound(self, name: str, value: str, beyond: str) -> int | None:
        """The bound the server names when it is offered what must be beyond; None when it takes even that."""
        answer = self._offer(name, beyond)
        if answer is None:
            taken = self._values()[name]
            self._offer(name, value)
            # Some are bent into their range instead of refused; no size is below nothing.
            bent = taken != beyond or beyond == "0"
            return int(taken) if bent and re.fullmatch(r"-?\d+", taken) else None
        between = re.search(r"between (-?\d+) and (-?\d+)", answer)
        return None if between is None else int(between[2] if beyond == _HUGE else between[1])


def _looked(found: Parameter) -> Parameter:
    """The type of what cannot be offered anything, by how its value looks."""
    value = found.default or ""
    if value in {"yes", "no"}:
        return replace(found, type="boolean", allowed=("no", "yes"))
    return replace(found, type="integer") if re.fullmatch(r"-?\d+", value) else found


def _has_newer_name(name: str, names: Mapping[str, str]) -> bool:
    return any(old in name and name.replace(old, new) in names for old, new in _OLDER)


def _immutable(refusal: Refused, changes: Mapping[str, str]) -> str | None:
    """The one that the server takes at its start only, if that was its reason.

    ERR CONFIG SET failed (possibly related to argument 'databases') - can't set immutable config
    """
    if "can't set immutable config" not in refusal.reply:
        return None
    return next((name for name in changes if f"'{name}'" in refusal.reply), None)
