"""A server's settings in layers, and bringing a server up to what they say.

From low to high: the server's own defaults, what Argosy sets for an instance of this size, the logs that are
switched on, the configuration group, and what Argosy owns, which nobody overrules.

The files in `etc` are the truth. `choices.json` says what is wanted; `running.json` says what the running server
was given, and which of the group's values it has run with. A value is marked there as in doubt before it is given
to the server, so a crash at any moment leaves something to do and never a difference that nobody sees.
"""

from __future__ import annotations

import json
import re
import threading
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from argosy.domain.errors import ArgosyError, EngineError, Invalid
from argosy.engines import choices
from argosy.engines.base import Configurable, Engine
from argosy.engines.host import Host
from argosy.engines.process import ServerProcess

_IN_DOUBT = "\0in doubt"
_SETTLES_S = 5.0


@dataclass(frozen=True)
class Layers:
    """Settings by name, as the engine's configuration file writes them; the lowest layer stands first."""

    flavor: Mapping[str, str] = field(default_factory=dict)
    logs: Mapping[str, str] = field(default_factory=dict)
    group: Mapping[str, str] = field(default_factory=dict)
    owned: Mapping[str, str] = field(default_factory=dict)

    @property
    def settable(self) -> dict[str, str]:
        """What the layers below Argosy's own say."""
        merged = {**self.flavor, **self.logs, **self.group}
        return {name: value for name, value in merged.items() if name not in self.owned}

    def source(self, name: str) -> Literal["argosy", "group", "log", "flavor", "default"]:
        """Which layer a setting is from."""
        if name in self.owned:
            return "argosy"
        if name in self.group:
            return "group"
        if name in self.logs:
            return "log"
        return "flavor" if name in self.flavor else "default"


@dataclass(frozen=True)
class _Running:
    """`settings` is what the running server was given, `worked` the group's values it has run with.

    `refused` says why the group's values were given up for those that worked, `asked` which they were.
    """

    settings: dict[str, str] = field(default_factory=dict)
    worked: dict[str, str] = field(default_factory=dict)
    refused: str | None = None
    asked: dict[str, str] = field(default_factory=dict)


class Layered(Configurable):
    """What all engines with layers share; each says what its layers are and how to change a running server."""

    host: Host
    server: ServerProcess
    _applying: threading.RLock
    _told: Sequence[str] = ()

    @abstractmethod
    def layers(self) -> Layers:
        """As they are chosen now."""

    @abstractmethod
    def change(self, wanted: Mapping[str, str | None]) -> set[str]:
        """Give the running server these values, None for its own default: all or none.

        Returns the names that wait for a restart. Raises Invalid or EngineError when it refuses one.
        """

    def apply_parameters(self, values: Mapping[str, str]) -> None:
        with self._applying:
            before = choices.read(self.host)
            choices.change(self.host, parameters=dict(values))
            try:
                self.apply_settings()
            except Exception:
                # Whatever it was: what is not in force must not be what is written down.
                choices.change(self.host, parameters=before.parameters)
                raise
            if self.refused is not None:
                self._remember(replace(self._running(), refused=None, asked={}))

    def apply_settings(self) -> None:
        with self._applying:
            if self.server.pid is None:
                return
            before = self._running()
            wanted = self.layers().settable
            changed = _differences(before.settings, wanted)
            asked = choices.read(self.host).parameters
            if not changed and before.worked == asked:
                return
            doubted = {**before.settings, **dict.fromkeys(changed, _IN_DOUBT)}
            self._remember(replace(before, settings=doubted))
            try:
                waiting = self.change({name: wanted.get(name) for name in changed}) if changed else set()
            except (Invalid, EngineError):
                # All or none: it is as it was, unless it was in doubt before.
                self._remember(before)
                raise
            settings = {**{name: value for name, value in wanted.items() if name not in waiting}}
            settings |= {name: before.settings[name] for name in waiting if name in before.settings}
            worked = {name: value for name, value in asked.items() if name not in waiting}
            worked |= {name: before.worked[name] for name in waiting if name in before.worked}
            self._remember(replace(before, settings=settings, worked=worked))

    def settle(self) -> None:
        try:
            self.apply_settings()
        except (Invalid, EngineError):
            # The agent died before it could undo what the server would have refused.
            if not self.fall_back():
                raise
            self.apply_settings()

    def default_settings(self) -> dict[str, str]:
        layers = replace(self.layers(), logs={}, group={})
        return {**layers.settable, **layers.owned}

    def pending_restart(self) -> list[str]:
        # In the middle of a change nobody knows yet; a change that takes long leaves what was told before it.
        if self._applying.acquire(timeout=_SETTLES_S):
            try:
                self._told = self._waiting()
            finally:
                self._applying.release()
        return list(self._told)

    def pending_resize(self) -> list[str]:
        layers = self.layers()
        return [name for name in self._waiting() if layers.source(name) not in {"group", "log"}]

    def fall_back(self) -> bool:
        with self._applying:
            chosen, running = choices.read(self.host), self._running()
            if chosen.parameters == running.worked:
                return False
            names = ", ".join(sorted(_differences(running.worked, chosen.parameters)))
            self._remember(
                replace(
                    running,
                    asked=chosen.parameters,
                    refused=f"The server does not start with the configuration group's values ({names}): "
                    "it goes on with those that worked last. Change the group and apply it again.",
                )
            )
            choices.change(self.host, parameters=running.worked)
            return True

    def restore_asked(self) -> None:
        with self._applying:
            running = self._running()
            choices.change(self.host, parameters=running.asked)
            self._remember(replace(running, refused=None, asked={}))

    @property
    def refused(self) -> str | None:
        return self._running().refused

    def starting_with(self, layers: Layers) -> None:
        """Just before a server is launched: this is what it is given.

        The launch has the layers from their reading on for itself: a change under way might yet be undone.
        """
        self._remember(replace(self._running(), settings=layers.settable))

    def started(self) -> None:
        """The server runs with the group's values: they work."""
        with self._applying:
            running = self._running()
            asked = choices.read(self.host).parameters
            if running.worked != asked and running.settings == self.layers().settable:
                self._remember(replace(running, worked=asked))

    def _waiting(self) -> list[str]:
        if self.server.pid is None:
            return []
        return sorted(_differences(self._running().settings, self.layers().settable))

    def _running(self) -> _Running:
        try:
            stored: dict[str, Any] = json.loads((self.host.etc / "running.json").read_text())
        except FileNotFoundError:
            # Started by an agent of a release without groups, for its size alone.
            return _Running(replace(self.layers(), group={}, logs={}).settable)
        return _Running(
            **{key: value for key, value in stored.items() if key in _Running.__dataclass_fields__}
        )

    def _remember(self, running: _Running) -> None:
        self.host.write_file(
            self.host.etc / "running.json", json.dumps(asdict(running), indent=1), as_agent=True
        )


def start(engine: Engine) -> str | None:
    """Start the server; with the group's values that worked last when it does not come up with those asked for.

    Returns None, or a sentence on why it runs with other values than asked for.
    """
    try:
        engine.start()
    except EngineError as error:
        if not isinstance(engine, Configurable) or not engine.fall_back():
            raise
        try:
            # Running, and letting nobody in, is of no use either.
            engine.stop()
            engine.start()
        except ArgosyError:
            engine.restore_asked()
            raise error from None
        return f"{engine.refused} Its last words: {_gist(error.sentence)}"
    return None


def _gist(sentence: str) -> str:
    """Of a server's log, the lines that complain; without any, the last ones."""
    lines = [line.strip() for line in sentence.splitlines() if line.strip()]
    complaints = [line for line in lines if re.search(r"ERROR|FATAL|>>>|argument", line)]
    return " ".join((complaints or lines)[-3:])[-500:]


def _differences(old: Mapping[str, str], new: Mapping[str, str]) -> set[str]:
    names: Iterable[str] = {*old, *new}
    return {name for name in names if old.get(name) != new.get(name)}
