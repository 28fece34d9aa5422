"""Logs of an engine with layers: which files they are, and switching them on and off while the server runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from argosy.domain.errors import ArgosyError, Invalid
from argosy.domain.logs import ERROR
from argosy.engines import choices
from argosy.engines.base import Logs
from argosy.engines.layers import Layered

_OFF = frozenset({"off", "0", "no", "none", "false", "-1", ""})

Belongs = Callable[[bytes], bool | None]


@dataclass(frozen=True)
class Log:
    """A log of the server's. `switch` is the setting that turns it on, None for one that is always on.

    `belongs` is for a file that several logs share: whether a line is of this log, None for one that goes with
    the line before it. `waits` says that its switch waits for the server's next start.
    """

    name: str
    file: Path
    switch: str | None = None
    belongs: Belongs | None = None
    is_on: bool = True
    waits: bool = False


class LayeredLogs(Layered, Logs):
    """The switches are a layer of the settings, below the configuration group."""

    def files(self) -> Sequence[Log]:
        """The logs there are, whatever their switches say."""
        return (Log(ERROR, self.server.log),)

    def logs(self) -> list[Log]:
        settings, waiting = self.layers().settable, set(self.pending_restart())
        return [
            replace(log, is_on=_is_on(settings, log.switch), waits=log.switch in waiting)
            for log in self.files()
        ]

    def switch_log(self, name: str, *, on: bool) -> None:
        log = next(one for one in self.files() if one.name == name)
        with self._applying:
            before = choices.read(self.host)
            others = {one for one in before.logs if one != name}
            choices.change(self.host, logs=tuple(sorted({*others, name} if on else others)))
            try:
                layers = self.layers()
                if _is_on(layers.settable, log.switch) is not on:
                    raise Invalid(
                        f"The configuration group sets {log.switch} to {layers.group.get(log.switch or '')}: "
                        "change it there.",
                        code="set-by-configuration-group",
                    )
                self.apply_settings()
            except ArgosyError:
                choices.change(self.host, logs=before.logs)
                raise


def _is_on(settings: Mapping[str, str], switch: str | None) -> bool:
    return switch is None or settings.get(switch, "off").strip().lower() not in _OFF
