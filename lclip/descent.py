"""What every training here has in common: how the learning rate runs, and the average of the weights."""

from __future__ import annotations

import copy
import math
from typing import Generic, TypeVar

import torch
from torch import nn

M = TypeVar("M", bound=nn.Module)


def cosine_share(step: int, steps: int, warmup: int, least: float) -> float:
    """Share of the peak learning rate at a step from 0 on: a linear warmup, then half a cosine to `least`.

    Loshchilov and Hutter 2017 (arXiv 1608.03983), equation 5, with a warmup in front.
    """
    if step < warmup:
        return (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    return least + (1.0 - least) * 0.5 * (1.0 + math.cos(math.pi * progress))


class WeightAverage(Generic[M]):
    """An exponential average of a module's weights (Polyak and Juditsky 1992), in a frozen copy of it.

    decay: share of the average that stays at each step. The first steps keep less, (step + 1) / (step + 10),
    so that what the training began with is soon forgotten.
    """

    def __init__(self, module: M, decay: float) -> None:
        self.decay = decay
        self.module: M = copy.deepcopy(module).requires_grad_(False)

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Take in the weights after a step, counted from 0."""
        decay = min(self.decay, (step + 1) / (step + 10))
        for kept, new in zip(self.module.parameters(), module.parameters(), strict=True):
            kept.lerp_(new, 1.0 - decay)
