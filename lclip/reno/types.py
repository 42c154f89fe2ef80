"""What goes into a ReNO run and what comes out: settings, steps, result."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from typing import Any

import torch
from torch import Tensor

from ..latents.items import check_count
from ..scoring import all_alike
from ..wording import Say, english
from .proposals import PROPOSALS

METHODS = ("gradient", *PROPOSALS)
OPTIMIZERS = ("sgd", "adam")
ENDINGS = {
    "target": "reached the target in render {renders}, reward {reward}",
    "iterations": "the budget of {renders} renders ended, reward {reward}",
    "patience": "no new best for long, stopped after render {renders}, reward {reward}",
    "cancelled": "cancelled after render {renders}, reward {reward}",
}
"""How an item's search ended, in words, by its reason."""
DEFAULT_LR = {"sgd": 5.0, "adam": 0.02}


@dataclass(frozen=True)
class ReNOSettings:
    """How to search; the defaults are ReNO's published settings for one-step models such as SDXL-Turbo.

    ValueError for a value that no search can use. Every method spends one render per iteration.
    """

    iterations: int = 50
    """Renders per search, the first one included; 0 renders once, plainly."""
    lr: float | None = None
    """Learning rate; None takes the optimizer's own: 5 (published) for "sgd", 0.02 for "adam"."""
    optimizer: str = "sgd"
    momentum: float = 0.9
    nesterov: bool = True
    grad_clip: float = 0.1
    """Largest L2 norm of the total loss's gradient, per item; infinity switches clipping off."""
    regularization: float = 0.01
    """Weight of the pull towards the norm of Gaussian noise; 0 switches it off."""
    method: str = "gradient"
    """"gradient" (ReNO), or without gradients one of `PROPOSALS`: "best_of_n" (fresh noise), "zero_order"
    (neighbours of the best)."""
    radius: float = 0.25
    """zero_order: how far a neighbour lies, from 0 (the same noise) to 1 (fresh noise)."""
    target: float | None = None
    """An item stops once its reward reaches this."""
    patience: int | None = None
    """An item stops after this many iterations without a new best."""
    candidates: int = 1
    """Screening: noises drawn per item, the caller's own included, before the search starts."""
    keep: int = 1
    """Screening: how many of an item's best candidates are searched from, one search after the other."""
    seed: int = 0
    """Seed of the noise drawn here, with each item's place hashed in: neighbouring seeds share nothing."""
    places: tuple[int, ...] | None = None
    """Which items of a larger batch these are, one each; None: 0, 1, ... An item draws by seed and place."""

    def __post_init__(self) -> None:
        self._one_of("method", METHODS)
        self._one_of("optimizer", OPTIMIZERS)
        if self.lr is None:
            object.__setattr__(self, "lr", DEFAULT_LR[self.optimizer])
        check_count("ReNO iterations", self.iterations, "0 or more", least=0)
        check_count("ReNO candidates", self.candidates)
        kept = f"from 1 to candidates ({self.candidates})"
        check_count("ReNO keep", self.keep, kept, most=self.candidates)
        if self.patience is not None:
            check_count("ReNO patience", self.patience, "1 or more, or None")
        self._require("lr", self.learning_rate > 0 and math.isfinite(self.learning_rate), "a number above 0")
        self._require("momentum", 0 <= self.momentum < 1, "from 0 to below 1")
        self._require("nesterov", not self.nesterov or self.momentum > 0, "off where momentum is 0")
        self._require("grad_clip", self.grad_clip > 0, "above 0 (infinity switches clipping off)")
        self._require("regularization", 0 <= self.regularization < math.inf, "0 or more")
        self._require("radius", 0 < self.radius <= 1, "above 0 and at most 1")
        self._require("target", self.target is None or math.isfinite(self.target), "None or a finite number")
        if self.places is not None:
            whole = all(isinstance(place, int) and place >= 0 for place in self.places)
            self._require("places", whole, "None, or whole numbers from 0 on")
        if self.method == "best_of_n" and self.candidates > 1:
            raise ValueError(
                f"candidates={self.candidates} with method='best_of_n'; that method is screening already. "
                f"Leave candidates at 1 and set iterations to the number of noises to try."
            )

    def _one_of(self, name: str, choices: tuple[str, ...]) -> None:
        if getattr(self, name) not in choices:
            raise ValueError(f"ReNO {name} is {getattr(self, name)!r}; expected one of {', '.join(choices)}.")

    def _require(self, name: str, good: bool, expected: str) -> None:
        if not good:
            raise ValueError(f"ReNO {name} is {getattr(self, name)}; expected {expected}.")

    @property
    def learning_rate(self) -> float:
        """The learning rate with the optimizer's default filled in."""
        return DEFAULT_LR[self.optimizer] if self.lr is None else self.lr

    @property
    def renders(self) -> int:
        """How many times the model renders at most: the length of a progress bar."""
        screening = self.candidates if self.candidates > 1 else 0
        searching = self.keep * self.iterations
        return max(1, screening + searching)


@dataclass(frozen=True)
class ReNORecord:
    """The numbers of one render; tensors have one entry per batch item and lie on the CPU."""

    phase: str
    """"screen" while candidates are compared, "search" afterwards."""
    run: int
    """Which search, from 0 to keep - 1 (0 while screening)."""
    iteration: int
    """Which render of this phase and run; iteration 0 of a search is its unchanged starting noise."""
    reward: Tensor
    """[B] the optimised reward, without the regularizer."""
    parts: dict[str, Tensor]
    """Name to [B]: the weighted parts that sum to the reward."""
    loss: Tensor
    """[B] regularization x regularizer - reward: what the gradient method descends."""
    norm: Tensor
    """[B] L2 norm of the noise; sqrt(d - 1) is where the regularizer wants it."""
    active: Tensor
    """[B] bool: the item was still being searched."""
    held_out: Tensor | None
    """[B] a reward that is only watched, or None."""
    best_reward: Tensor
    """[B] the best reward so far, over all phases; -inf where none was finite yet."""


@dataclass(frozen=True)
class ReNOStep(ReNORecord):
    """One render with its tensors, for progress bars and previews."""

    noise: Tensor
    """[B, ...] what was rendered."""
    latents: Tensor
    """[B, C, H, W] clean raw latents of that noise."""
    best_noise: Tensor
    best_latents: Tensor

    def record(self) -> ReNORecord:
        """The numbers alone, which is what a history can afford to keep."""
        return ReNORecord(**{f.name: getattr(self, f.name) for f in fields(ReNORecord)})

    def copy(self) -> ReNOStep:
        """The same in tensors of its own, for who may write into them."""
        return ReNOStep(**{f.name: _copied(getattr(self, f.name)) for f in fields(self)})


@dataclass(frozen=True)
class ReNOResult:
    """What a search found; everything is per batch item."""

    best_noise: Tensor
    """[B, ...] the noise of the best render."""
    best_latents: Tensor
    """[B, C, H, W] the best render: clean raw latents, without gradient."""
    best_reward: Tensor
    """[B] its reward; NaN where the reward never was finite (then the first render is returned)."""
    initial_latents: Tensor
    """[B, C, H, W] the render of the caller's own noise."""
    initial_reward: Tensor
    """[B] its reward."""
    history: list[ReNORecord] = field(repr=False)
    """Every render in order."""
    stopped: list[str]
    """Per item why its search ended: "iterations", "target", "patience", "cancelled", or what was not
    finite."""
    hacked_since: list[int | None]
    """Per item the index into history after which the reward rose while the held-out one fell, or None."""

    @property
    def endings(self) -> list[str]:
        """Per item in words how its search ended, such as "reached the target in render 7, reward 0.4120"."""
        return [self.ending(item) for item in range(len(self.stopped))]

    def ending(self, item: int, say: Say = english) -> str:
        """One of them, in the words of its reader."""
        renders = sum(bool(record.active[item]) for record in self.history)
        how = ENDINGS.get(self.stopped[item], "stopped because of {reason}, reward {reward}")
        found = {"renders": renders, "reward": f"{float(self.best_reward[item]):.4f}"}
        return say(how, **found, reason=self.stopped[item])

    @property
    def notes(self) -> list[str]:
        """Per item why its rewards chose nothing, in words; empty where they did."""
        searched = [
            torch.tensor([float(r.reward[item]) for r in self.history if bool(r.active[item])])
            for item in range(len(self.stopped))
        ]
        return [
            "no reward is a number, so the first render is given. Check the latents and the reward."
            if math.isnan(best)
            else "all rewards are equal, so the first render is given. Check the reward."
            if all_alike(own)
            else ""
            for own, best in zip(searched, self.best_reward.tolist(), strict=True)
        ]


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _copied(each) for name, each in value.items()}
    return value.clone() if isinstance(value, Tensor) else value


def hacked_since(history: list[ReNORecord]) -> list[int | None]:
    """Per item where reward hacking set in: after its held-out peak the reward rose on, the held-out one
    fell.

    The fall counts when, at the best reward, the held-out reward has lost over a quarter of the range it
    moved in; less is the jitter of a trajectory. Only the search that holds the item's best reward is looked
    at.
    """
    if not history or history[0].held_out is None:
        return [None] * (len(history[0].reward) if history else 0)
    return [_item_hacked_since(history, item) for item in range(len(history[0].reward))]


def _item_hacked_since(history: list[ReNORecord], item: int) -> int | None:
    reward = torch.stack([record.reward[item] for record in history]).nan_to_num(
        nan=-math.inf, posinf=-math.inf
    )
    best = int(reward.argmax())
    trace = [
        (index, float(record.held_out[item]))
        for index, record in enumerate(history)
        if record.held_out is not None
        and (record.phase, record.run) == (history[best].phase, history[best].run)
        and math.isfinite(record.held_out[item])
    ]
    before = [(index, value) for index, value in trace if index <= best]
    if history[best].phase == "screen" or not before or not math.isfinite(reward[best]):
        return None
    peak, highest = max(before, key=lambda point: point[1])
    spread = highest - min(value for _, value in before)
    at_best = before[-1][1]
    return peak if highest - at_best > 0.25 * spread and reward[best] > reward[peak] else None
