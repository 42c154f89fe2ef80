"""Figures with their 95 % interval, and how well scores part two kinds."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

RESAMPLES = 4000


def for_json(value: Any) -> Any:
    """Figures as JSON takes them: None for a number that is not finite, also within lists and mappings."""
    if isinstance(value, Mapping):
        return {name: for_json(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [for_json(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


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


def wilson(successes: float, n: float) -> Interval:
    """The share successes / n with the Wilson score interval (Wilson 1927). ValueError for n = 0.

    n may be an effective number of observations, a fraction.
    """
    if n <= 0:
        raise ValueError(f"a share needs at least one observation, got n = {n}")
    z, share = 1.959964, successes / n
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * ((share * (1 - share) / n + z**2 / (4 * n**2)) ** 0.5)
    return Interval(share, max(0.0, centre - half), min(1.0, centre + half), int(n))


def bootstrap(
    values: Sequence[float] | np.ndarray,
    groups: Sequence[Hashable] | np.ndarray | None = None,
    statistic: Callable[[np.ndarray], np.ndarray] = lambda x: x.mean(axis=-1),
    seed: int = 0,
) -> Interval:
    """A statistic of values with the percentile bootstrap interval (Efron 1979).

    groups: values of one group (the seeds of one prompt) are averaged first and drawn together.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.size == 0:
        raise ValueError("an interval needs at least one value")
    number = values.size
    if groups is not None:
        names = np.asarray(groups)
        values = np.array([values[names == name].mean() for name in dict.fromkeys(names.tolist())])
    rng = np.random.default_rng(seed)
    drawn = statistic(values[rng.integers(values.size, size=(RESAMPLES, values.size))])
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Interval(float(statistic(values[None])[0]), float(low), float(high), number)


def bootstrap_of_two(
    statistic: Callable[[np.ndarray, np.ndarray], float], first: np.ndarray, second: np.ndarray, seed: int = 0
) -> tuple[float, float]:
    """The 95 % bootstrap interval of a statistic of two groups, both drawn anew each time."""
    rng = np.random.default_rng(seed)
    drawn = [
        statistic(rng.choice(first, len(first)), rng.choice(second, len(second)))
        for _ in range(RESAMPLES // 4)
    ]
    low, high = np.percentile(drawn, [2.5, 97.5])
    return float(low), float(high)


def area_under_roc(negative: np.ndarray, positive: np.ndarray) -> float:
    """Chance that a positive scores above a negative, ties half (Mann and Whitney 1947); n log n.

    negative: [N], positive: [M]. ValueError where either is empty.
    """
    if not len(negative) or not len(positive):
        raise ValueError(f"an area needs both kinds, got {len(negative)} and {len(positive)} scores")
    ordered = np.sort(np.asarray(negative))
    below = np.searchsorted(ordered, positive, "left") + np.searchsorted(ordered, positive, "right")
    return float(below.sum() / (2 * len(ordered) * len(positive)))


def roc_curve(negative: np.ndarray, positive: np.ndarray) -> tuple[tuple[float, float], ...]:
    """Every (false-positive rate, true-positive rate) as the threshold falls, (0, 0) to (1, 1); n log n."""
    sides = [np.sort(np.asarray(side)) for side in (negative, positive)]
    steps = np.unique(np.concatenate(sides))[::-1]
    false, true = (1 - np.searchsorted(side, steps, "left") / len(side) for side in sides)
    return ((0.0, 0.0), *zip(false.tolist(), true.tolist(), strict=True))


def auc(positive: np.ndarray, negative: np.ndarray, seed: int = 0) -> Interval:
    """Area under the ROC curve with its bootstrap interval. positive: [M], negative: [N]."""
    ends = bootstrap_of_two(lambda high, low: area_under_roc(low, high), positive, negative, seed)
    return Interval(area_under_roc(negative, positive), *ends, len(positive) + len(negative))


def true_positives(positive: np.ndarray, negative: np.ndarray, rate: float, seed: int = 0) -> Interval:
    """Share of the positives above the score that a share `rate` of the negatives exceeds.

    positive: [M], negative: [N]. The interval is a bootstrap that draws both anew.
    """

    def share(high: np.ndarray, low: np.ndarray) -> float:
        return float((high > np.quantile(low, 1 - rate)).mean())

    return Interval(
        share(positive, negative), *bootstrap_of_two(share, positive, negative, seed), len(positive)
    )
