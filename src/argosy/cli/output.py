"""What commands print: results on stdout, everything else on stderr.

Tables for people, JSON for programs (`--json`), bare ids or names for scripts (`--quiet`).
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

# A table that is not for a terminal is never cut or wrapped.
_WIDE = 400
_COLOURS = {
    "ACTIVE": "green",
    "HEALTHY": "green",
    "succeeded": "green",
    "ready": "green",
    "running": "green",
    "BUILD": "yellow",
    "REBOOT": "yellow",
    "SHUTDOWN": "yellow",
    "RESTART_REQUIRED": "yellow",
    "COMPLETED": "green",
    "RESTORED": "green",
    "NEW": "yellow",
    "BUILDING": "yellow",
    "SAVING": "yellow",
    "queued": "yellow",
    "pulling": "yellow",
    "ERROR": "red",
    "FAILED": "red",
    "DELETE_FAILED": "red",
    "failed": "red",
}


@dataclass
class Output:
    as_json: bool = False
    quiet: bool = False

    def table(
        self,
        items: Sequence[Any],
        columns: dict[str, Callable[[Any], Any]],
        *,
        name: Callable[[Any], str],
        nothing: str,
        right: Iterable[str] = (),
        optional: Iterable[str] = (),
    ) -> None:
        """A list. `name` is what --quiet prints of an item; `nothing` is said to people when there is none.

        `optional` columns are left out, the first first, at a terminal too narrow for all.
        """
        if self.as_json:
            self.json([plain(item) for item in items])
            return
        if self.quiet:
            for item in items:
                print(name(item))
            return
        if not items:
            self.note(nothing)
            return
        from rich.box import SIMPLE_HEAD
        from rich.table import Table

        shown = {column: [cell(read(item)) for item in items] for column, read in columns.items()}
        if sys.stdout.isatty():
            _fit(shown, _width(), list(optional))
        table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
        for column in shown:
            table.add_column(column, justify="right" if column in right else "left", overflow="fold")
        for row in zip(*shown.values(), strict=True):
            table.add_row(*row)
        self._print(table)

    def fields(self, item: Any, fields: dict[str, Any], *, name: str) -> None:
        """One thing, a line a field; empty ones are left out."""
        if self.as_json:
            self.json(plain(item))
            return
        if self.quiet:
            print(name)
            return
        from rich.console import Console
        from rich.text import Text

        shown = {field: cell(value) for field, value in fields.items() if value not in (None, "", [])}
        width = max(map(len, shown), default=0) + 2
        console = Console(highlight=False)
        for field, value in shown.items():
            # Left to the terminal to wrap, so that an address is copied in one piece.
            console.print(Text.assemble((field.ljust(width), "bold"), value), soft_wrap=True)

    def result(self, item: Any, sentence: str, *, name: str | None = None) -> None:
        """What a change came to: a sentence for people."""
        if self.as_json:
            self.json(plain(item))
        elif self.quiet:
            if name is not None:
                print(name)
        else:
            print(sentence)

    def json(self, value: Any) -> None:
        print(json.dumps(value, indent=2, ensure_ascii=False))

    def note(self, sentence: str) -> None:
        """Something for people only."""
        if not self.quiet and not self.as_json:
            print(sentence, file=sys.stderr)

    def failure(self, sentence: str, code: str, hint: str | None = None) -> None:
        if self.as_json:
            print(
                json.dumps({"error": {"code": code, "message": sentence}}, ensure_ascii=False),
                file=sys.stderr,
            )
            return
        from rich.console import Console
        from rich.text import Text

        console = Console(stderr=True, highlight=False)
        console.print(Text.assemble(("argosy: ", "bold red"), sentence), soft_wrap=True)
        if hint:
            console.print(Text(hint), soft_wrap=True)

    def _print(self, table: Table) -> None:
        from rich.console import Console

        if sys.stdout.isatty():
            Console(highlight=False).print(table)
            return
        console = Console(highlight=False, width=_WIDE, no_color=True)
        with console.capture() as caught:
            console.print(table)
        print("\n".join(line.rstrip() for line in caught.get().splitlines()))


def _width() -> int:
    from rich.console import Console

    return Console().width


def _fit(shown: dict[str, list[Text]], width: int, optional: list[str]) -> None:
    """Take columns out until the rest fits, or there is no more to take; three blanks part two columns."""

    def needed() -> int:
        widths = (max(len(column), *(each.cell_len for each in cells)) for column, cells in shown.items())
        return sum(widths) + 3 * (len(shown) - 1)

    while optional and needed() > width:
        del shown[optional.pop(0)]


def plain(value: Any) -> Any:
    """As JSON has it: dataclasses are objects, times ISO 8601 with their Z."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return value


def ago(at: datetime | None, now: datetime | None = None) -> str:
    """How long since, in the largest unit that tells it."""
    if at is None:
        return ""
    return f"{span_of(((now or datetime.now(UTC)) - at).total_seconds())} ago"


def span_of(seconds: float) -> str:
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def cell(value: Any) -> Text:
    """As a table shows it; never as markup, since names may hold brackets."""
    from rich.text import Text

    if value is None:
        return Text("")
    if isinstance(value, Text):
        return value
    text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return Text(text, style=_COLOURS.get(text.split(" ")[0] if text else "", ""))
