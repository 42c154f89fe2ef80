"""The noise that a stochastic sampler draws on the way, for many candidates at once.

The stock samplers draw for the whole batch from one seed. Here every candidate draws what the stock sampler
would draw for it alone, from its own seed; so it ends as the picture that KSampler makes of that seed.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from comfy.k_diffusion import sampling as k_diffusion
from torch import Tensor

Source = Callable[[Tensor, Tensor], Tensor]

BROWNIAN = ("dpmpp_sde", "dpmpp_2m_sde", "dpmpp_3m_sde")
"""Samplers, with all that begin so, that draw from a Brownian tree between the highest and lowest sigma."""


def takes_noise(stock: Any) -> bool:
    """Whether a sampler lets its noise be drawn by somebody else."""
    return "noise_sampler" in inspect.signature(stock.sampler_function).parameters


class Draws:
    """A noise sampler for a field [candidates x B, ...]: one source for every candidate's B rows."""

    def __init__(self, name: str, like: Tensor, sigmas: Tensor, seeds: Sequence[int]) -> None:
        """name: of the sampler; like: [B, ...] noise of one candidate; seeds: one per candidate."""
        self.like = like
        self.sources = [_stock_source(name, like, sigmas, seed) for seed in seeds]
        self.running = torch.ones(len(seeds) * len(like), dtype=torch.bool)
        self.drawn = 0

    def __call__(self, sigma: Tensor, sigma_next: Tensor) -> Tensor:
        """Fresh noise for every candidate still in; zeros for the others, which nobody looks at."""
        self.drawn += 1
        inside = self.running.view(-1, len(self.like)).any(1).tolist()
        parts = [
            source(sigma, sigma_next) if runs else torch.zeros_like(self.like)
            for source, runs in zip(self.sources, inside, strict=True)
        ]
        return torch.cat(parts)


def _stock_source(name: str, like: Tensor, sigmas: Tensor, seed: int) -> Source:
    if not name.startswith(BROWNIAN):
        return k_diffusion.default_noise_sampler(like, seed=seed)
    low, high = sigmas[sigmas > 0].min(), sigmas.max()
    return k_diffusion.BrownianTreeNoiseSampler(like, low, high, seed=seed, cpu=not name.endswith("_gpu"))
