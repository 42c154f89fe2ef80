"""A reward seen through noise, so that a search finds what is there for more than one exact latent.

A small CLIP can be led astray by changes of the latents that no picture shows. The mean over noisy copies
has gradients without these (SmoothGrad, Smilkov et al. 2017; randomised smoothing, Cohen et al. 2019).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .rewards import Reward, check_reward, reward_name


class SmoothedReward:
    """The mean of a reward over noisy copies of the latents, in antithetic pairs.

    reward: any. share: std of the noise over each item's own std. pairs: z + n and z - n each; a call costs
    2 x pairs calls of the reward. seed: of the noise, which is new in every call and the same for all items
    of a batch, so that the same calls give the same answers. ValueError: share <= 0, or no pair.
    """

    def __init__(self, reward: Reward, share: float = 0.15, pairs: int = 2, seed: int = 0):
        if not 0 < share < float("inf") or pairs < 1:
            raise ValueError(
                f"share is {share} and pairs {pairs}; expected a finite share above 0 and at least one pair. "
                "For no smoothing use the reward itself."
            )
        self.reward, self.share, self.pairs = reward, share, pairs
        self.name = reward_name(reward)
        self._noise = torch.Generator().manual_seed(seed)

    def __getattr__(self, name: str) -> Any:
        """What else the reward says of itself: its weight, the latents that it reads."""
        if name == "reward":  # before __init__, as in a copy
            raise AttributeError(name)
        return getattr(self.reward, name)

    def __call__(self, latents: Tensor) -> Tensor:
        """Clean raw latents [B, C, H, W] -> [B], differentiable."""
        spread = self.share * latents.detach().flatten(1).std(dim=1)
        spread = spread.reshape(-1, *[1] * (latents.ndim - 1))
        total: Tensor | None = None
        for _ in range(self.pairs):
            noise = spread * torch.randn(latents.shape[1:], generator=self._noise).to(latents)
            for copy in (latents + noise, latents - noise):
                value = check_reward(self.name, self.reward(copy), latents)
                total = value if total is None else total + value
        assert total is not None
        return total / (2 * self.pairs)
