"""Numbers of many rounds as one line of a table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class Figures:
    """What was measured in each round."""

    values: tuple[float, ...]

    @classmethod
    def of(cls, values: Iterable[float]) -> Figures:
        """Raises ValueError for none at all."""
        taken = tuple(values)
        if not taken:
            raise ValueError("nothing was measured")
        return cls(taken)

    @property
    def median(self) -> float:
        return median(self.values)

    @property
    def least(self) -> float:
        return min(self.values)

    def quantile(self, part: float) -> float:
        return quantile(self.values, part)

    def text(self, digits: int) -> str:
        """The median, and between which values the middle half of the rounds lies."""
        low, high = self.quantile(0.25), self.quantile(0.75)
        return f"**{self.median:,.{digits}f}** ({low:,.{digits}f} to {high:,.{digits}f})"


def quantile(values: Sequence[float], part: float) -> float:
    """The value below which `part` of the values lie (0 to 1), by linear interpolation."""
    ordered = sorted(values)
    place = part * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


def ratios(ours: Figures, theirs: Figures) -> Figures:
    """Round by round, so that what slowed a whole round down cancels out."""
    return Figures.of(own / other for own, other in zip(ours.values, theirs.values, strict=True))


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown; all columns but the first are numbers."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def listed(words: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
