"""A reward for batches in which every item has a caption of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..model.latent_clip import LatentCLIP
from ..rewards.rewards import PUBLISHED_CLIP_SCALE


class CaptionReward:
    """Every item against its own caption, on the scale of `lclip.TextReward`: 0.01 s cos(item, caption).

    model: a CLIP. captions: one per batch item, encoded once. before: what turns latents into the model's
    input, such as the VAE's decoder where the model reads pixels.
    """

    def __init__(
        self, model: LatentCLIP, captions: Sequence[str], before: Callable[[Tensor], Tensor] | None = None
    ):
        self.model, self.before = model, before
        with torch.no_grad():
            self.texts = model.encode_text(captions)

    def cosines(self, latents: Tensor) -> Tensor:
        """Clean raw latents [B, C, H, W] -> [B], differentiable."""
        inputs = latents if self.before is None else self.before(latents)
        return (self.model.encode_latents(inputs) * self.texts).sum(-1)

    def __call__(self, latents: Tensor) -> Tensor:
        """Clean raw latents [B, C, H, W] -> [B], differentiable."""
        return self.to_reward(self.cosines(latents))

    def to_reward(self, cosines: Tensor) -> Tensor:
        """Cosines on the published scale."""
        return PUBLISHED_CLIP_SCALE * self.model.logit_scale * cosines
