"""What goes into a race and what comes out: settings, checks, result."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..latents.items import check_count, is_whole, sample_seed
from ..scoring import all_alike

METHODS = ("prune", "resample", "draft")


@dataclass(frozen=True)
class RaceSettings:
    """How a race is run. ValueError for a value that no race can use.

    The defaults judge at 30 % and 60 % of the steps and keep a quarter each time: of 16 candidates 4 go on,
    then 1. In 20 steps that takes 16 x 6 + 4 x 6 + 1 x 8 = 128 passes through the model, 40 % of 16 x 20.
    """

    candidates: int = 16
    """How many start for every batch item; the first one has the caller's own noise."""
    checks: tuple[float, ...] = (0.3, 0.6)
    """Where in the schedule they are judged by their predicted x0, as shares of the steps; not by "draft"."""
    keep: float = 0.25
    """The share that each check leaves in, rounded up, and never fewer than `finish`."""
    finish: int = 1
    """How many of every batch item's candidates leave the race in the end."""
    seed: int = 0
    """The seed of the first candidate; the others' seeds are hashes of it: see `seeds`."""
    places: tuple[int, ...] | None = None
    """Which items of a larger batch these are; None: 0, 1, ... Noise is drawn by seed and place."""
    method: str = "prune"
    """"prune" drops the losers, and their passes are saved. "resample" replaces them by copies of the
    winners, which a stochastic sampler parts again: Feynman-Kac steering (arXiv 2501.06848). "draft" first
    samples all of them in a few of the steps, and only the best of these drafts in all."""
    strength: float = 2.0
    """resample: how much a reward counts that is one standard deviation above the field's mean."""
    draft_steps: int = 3
    """draft: the steps of a draft, fewer than those of the schedule. By the defaults 16 drafts and 4 pictures
    of 20 steps take 16 x 3 + 4 x 20 = 128 passes, 40 % of 16 x 20."""
    at_once: int | None = None
    """How many candidates the model sees at once; None: all that are in. It changes nothing but memory."""

    def __post_init__(self) -> None:
        try:
            object.__setattr__(self, "checks", tuple(float(share) for share in self.checks))
        except TypeError:
            self._require("checks", False, "shares of the steps, such as (0.3, 0.6)")
        if self.method not in METHODS:
            raise ValueError(f"The race's method is {self.method!r}; expected one of {', '.join(METHODS)}.")
        self._whole("candidates", "2 or more; a race of one has nothing to choose", least=2)
        self._whole("finish", f"from 1 to candidates ({self.candidates})", most=self.candidates)
        self._whole("draft_steps")
        if self.at_once is not None:
            self._whole("at_once", "1 or more, or None")
        inside = bool(self.checks) and all(0 < share < 1 for share in self.checks)
        self._require("checks", inside, "one share of the steps or more, each above 0 and below 1")
        self._require("keep", 0 < self.keep <= 1, "above 0 and at most 1")
        seed = is_whole(self.seed) and 0 <= self.seed < 2**64
        self._require("seed", seed, "a whole number that a generator takes, 0 to 2^64 - 1")
        self._require("strength", self.strength > 0 and math.isfinite(self.strength), "a number above 0")

    def _whole(self, name: str, expected: str = "1 or more", **ends: int) -> None:
        count = check_count(f"The race's {name}", getattr(self, name), expected, **ends)
        object.__setattr__(self, name, count)

    def _require(self, name: str, good: bool, expected: str) -> None:
        if not good:
            raise ValueError(f"The race's {name} is {getattr(self, name)}; expected {expected}.")

    @property
    def seeds(self) -> list[int]:
        """The seed of every candidate, the caller's own first."""
        return [sample_seed(self.seed, number) for number in range(self.candidates)]

    def steps_judged(self, steps: int) -> list[int]:
        """After how many of the steps each check is made; the end is no check, and drafts need none."""
        if self.method == "draft":
            return []
        rounded = {max(1, math.floor(share * steps + 0.5)) for share in self.checks}
        return sorted(step for step in rounded if step < steps)

    def draft_levels(self, sigmas: Tensor) -> Tensor:
        """The noise levels of a draft: some of the schedule's [steps + 1], evenly, with both ends."""
        self.check_draft(len(sigmas) - 1)
        places = torch.linspace(0, len(sigmas) - 1, self.draft_steps + 1, dtype=torch.float64)
        return sigmas[places.round().long().to(sigmas.device)]

    def check_draft(self, steps: int) -> None:
        """ValueError where a draft has as many steps as the picture."""
        if self.draft_steps >= steps:
            raise ValueError(
                f"The race's draft_steps is {self.draft_steps}, and the schedule has {steps}; expected "
                "fewer, or a draft saves nothing. Raise the steps, lower draft_steps, or take another method."
            )

    def left_of(self, number: int) -> int:
        """How many of so many a check leaves in."""
        return min(number, max(self.finish, math.ceil(self.keep * number - 1e-9)))


@dataclass(frozen=True)
class RaceCheck:
    """One look at the field; tensors lie on the CPU."""

    step: int
    """After how many steps; 0: by their drafts, before the first."""
    steps: int
    """Of how many."""
    rewards: Tensor
    """[B, candidates] of the predicted x0, at the end of the latents; NaN for who was out."""
    kept: Tensor
    """[B, candidates] bool: who goes on."""

    @property
    def doubts(self) -> list[str]:
        """Of which items the rewards could not choose, in words."""
        told = (
            "no reward is a number, so the first candidates go on. Check the latents and the reward."
            if not bool(torch.isfinite(values).any())
            else "all rewards are equal, so the first candidates go on. Check the reward."
            if all_alike(values)
            else ""
            for values in self.rewards
        )
        return [f"item {item}: {text}" for item, text in enumerate(told) if text]


@dataclass(frozen=True)
class RaceResult:
    """What a race found. W = finish x B winners: the best of every batch item, then every second best, ..."""

    latents: Tensor
    """[W, ...] the winners, in the sampler's scale."""
    noise: Tensor
    """[W, ...] the noise that each started from. Without resampling it gives the same latents again."""
    rewards: Tensor
    """[W] their rewards; NaN where the reward was none."""
    places: list[int]
    """Per winner which candidate it is, from 0; 0 has the caller's own noise."""
    seeds: list[int]
    """Per winner the seed that its noise was drawn by."""
    checks: list[RaceCheck] = field(repr=False)
    """Every check in order, the end as the last."""
    passes: int
    """How often a latent went through the model."""
    passes_all: int
    """How often it would have been, had all finished."""

    @property
    def notes(self) -> list[str]:
        """Where rewards could not choose, in words; each once."""
        return list(dict.fromkeys(text for check in self.checks for text in check.doubts))

    @property
    def saved(self) -> float:
        """The share of the passes that was saved, at most 1; below 0 where drafts cost more than that."""
        return 1 - self.passes / self.passes_all if self.passes_all else 0.0


def resampled(weights: Tensor, offset: float) -> Tensor:
    """Systematic resampling (Kitagawa 1996): which of N each of N slots goes on with, by weights [N].

    offset: 0 to 1. A copy of each that is drawn stays in its own slot; the others fill the slots left.
    """
    count = len(weights)
    edges = (weights.cpu().double() / weights.cpu().double().sum()).cumsum(0)
    marks = (torch.arange(count, dtype=torch.float64) + offset) / count
    drawn = torch.searchsorted(edges, marks, right=True).clamp(max=count - 1)
    copies = torch.bincount(drawn, minlength=count)
    spare = [index for index in range(count) for _ in range(int(copies[index]) - 1)]
    return torch.tensor([index if copies[index] else spare.pop(0) for index in range(count)])
