"""What goes into a slider and what comes out: settings, steps, result."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..latents.items import check_count

STILL = 1e-3
"""A series whose positions differ by less has not moved."""


@dataclass(frozen=True)
class SlideSettings:
    """How far a slider goes and how. ValueError for a value that no slider can use.

    Positions count from the start, in halves of the axis: from no end to the end `more` itself is 1.
    """

    positions: int = 7
    """Pictures of the series, evenly spread over the range."""
    low: float = -0.4
    """The first position, relative to the start; below 0 it is nearer to the end `less`."""
    high: float = 0.4
    """The last one. 0 is the start itself, which is in the series where the spread meets it."""
    iterations: int = 10
    """Few-step models: renders for each position but the start. A series takes about positions x so many."""
    anchor: float = 0.4
    """How much all counts that is no part of the axis, and should stay; 0: not at all, 1: as the axis."""
    strength: float = 0.1
    """The longest move at a time, relative to the noise or to the predicted picture."""
    end: float = 0.75
    """Guidance: up to which share of the steps. The last ones clean up what moves leave behind."""

    def __post_init__(self) -> None:
        few = "2 or more; a series of one shows no change"
        check_count("The slider's positions", self.positions, few, least=2)
        few = "2 or more; the first render only looks"
        check_count("The slider's iterations", self.iterations, few, least=2)
        ends = math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high
        if not ends:
            raise ValueError(
                f"The slider's range is {self.low} to {self.high}; expected two numbers, the first below the "
                "second, such as -0.4 to 0.4."
            )
        self._require("anchor", 0 <= self.anchor <= 1, "from 0 to 1")
        self._require("strength", 0 < self.strength <= 1, "above 0 and at most 1")
        self._require("end", 0 < self.end <= 1, "above 0 and at most 1")

    def _require(self, name: str, good: bool, expected: str) -> None:
        if not good:
            raise ValueError(f"The slider's {name} is {getattr(self, name)}; expected {expected}.")

    @property
    def targets(self) -> list[float]:
        """Positions relative to the start, from low to high; what should be the start is exactly 0."""
        spread = torch.linspace(self.low, self.high, self.positions, dtype=torch.float64).tolist()
        return [0.0 if abs(each) < 1e-9 else each for each in spread]

    @property
    def order(self) -> list[int]:
        """Which position comes when: outward from the start on either side, so that each has a neighbour."""
        up = [index for index, target in enumerate(self.targets) if target >= 0]
        down = [index for index, target in enumerate(self.targets) if target < 0]
        return [*up, *reversed(down)]

    @property
    def moved(self) -> list[int]:
        """The positions that are no start, in their order."""
        return [index for index in self.order if self.targets[index] != 0]

    @property
    def renders(self) -> int:
        """How often a few-step model renders: the start, then every other position's iterations."""
        return 1 + self.iterations * len(self.moved)


@dataclass(frozen=True)
class SlideStep:
    """One render, for progress bars and previews."""

    index: int
    """Which position is worked on, from 0; the start is no position of its own: -1."""
    latents: Tensor
    """[B, C, H, W] the best of this position so far."""


@dataclass(frozen=True)
class SlideResult:
    """A series; [n, B] by position and batch item, rows are position x B + item."""

    latents: Tensor
    """[n x B, C, H, W] the pictures: clean raw latents."""
    noise: Tensor | None
    """[n x B, ...] the noise of each; None for guidance, where all have the start's."""
    positions: Tensor
    """[n, B] as measured: -1 is the end `less` itself, 1 the end `more`."""
    targets: Tensor
    """[n, B] where each should have come to."""
    start: Tensor
    """[B] the position of the start."""
    start_latents: Tensor
    """[B, C, H, W] the start: what the seed gives without a slider."""
    kept: Tensor
    """[n, B] how like the start each is in what is no part of the axis: a cosine."""
    guided: int | None = None
    """How many predictions guidance moved; None for a series by noise."""

    @property
    def notes(self) -> list[str]:
        """In words which items have no series, or one that runs the wrong way."""
        if self.guided == 0:
            return [
                "no step is guided: the share of the steps that end names is less than one step. Raise end "
                "or steps, or move the noise instead. Every picture is the start."
            ]
        spread = self.positions.amax(0) - self.positions.amin(0)
        notes = []
        for item, way in enumerate(spread.tolist()):
            if math.isnan(way):
                notes.append(
                    f"item {item} holds NaN or infinity, and has no position. Check its latent image."
                )
            elif way < STILL:
                notes.append(
                    f"item {item} did not move: the model lets nothing through to it here (a mask, no "
                    "gradient), or its ends lie too near. Every picture is the start."
                )
        return [*notes, *self._wrong_ways(spread)]

    def _wrong_ways(self, spread: Tensor) -> list[str]:
        asked, came = self.targets - self.start, self.positions - self.start
        notes = []
        for side, end in ((asked > 0, "more"), (asked < 0, "less")):
            wrong = (came * asked < 0) | ~side
            for item in (wrong.all(0) & side.any(0) & (spread >= STILL)).nonzero().flatten().tolist():
                notes.append(
                    f"item {item} moved away from {end} where it should have moved towards it. Take another "
                    "seed, or another method."
                )
        return notes
