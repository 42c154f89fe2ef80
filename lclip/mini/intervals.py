"""Figures with their 95 % interval, as reports and benchmarks print them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Interval:
    """A figure with its 95 % interval over n observations."""

    value: float
    low: float
    high: float
    n: int

    @property
    def figures(self) -> tuple[float, float, float]:
        """Value, lower and upper end."""
        return self.value, self.low, self.high

    def text(self, scale: float = 1.0, digits: int = 2, unit: str = "") -> str:
        """For a table, such as "0.62 [0.55, 0.69]"."""
        value, low, high = (f"{scale * x:.{digits}f}" for x in self.figures)
        return f"{value}{unit} [{low}, {high}]"

    def percent(self) -> str:
        """A share as a percentage."""
        return self.text(scale=100, digits=1, unit=" %")


def wilson(successes: int, n: int) -> Interval:
    """The share successes / n with the Wilson score interval (Wilson 1927). ValueError for n = 0."""
    if n <= 0:
        raise ValueError(f"a share needs at least one observation, got n = {n}")
    z, share = 1.959964, successes / n
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * ((share * (1 - share) / n + z**2 / (4 * n**2)) ** 0.5)
    return Interval(share, max(0.0, centre - half), min(1.0, centre + half), n)
