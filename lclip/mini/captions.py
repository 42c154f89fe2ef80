"""A reward for batches in which every item has a caption of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..model.latent_clip import LatentCLIP
from ..rewards.per_item import PerItemReward
from ..rewards.rewards import PUBLISHED_CLIP_SCALE, usable_for_backward


class CaptionReward(PerItemReward):
    """Every item against its own caption, on the scale of `lclip.TextReward`: 0.01 s cos(item, caption).

    model: a CLIP. captions: one per batch item, encoded once. before: what turns latents into the model's
    input, such as the VAE's decoder where the model reads pixels. ValueError for a batch of another length.
    """

    def __init__(
        self,
        model: LatentCLIP,
        captions: Sequence[str],
        before: Callable[[Tensor], Tensor] | None = None,
        weight: float = 1.0,
        name: str = "captions",
    ):
        reads = (model.config.channels, model.config.latent_space) if before is None else (None, None)
        super().__init__(weight, name, *reads)
        self.model, self.before = model, before
        self.numbers = tuple(range(len(captions)))
        with torch.no_grad():
            self.texts = model.encode_text(captions)

    def take(self, rows: Sequence[int]) -> None:
        self.texts = self.texts[list(rows)]

    def cosines(self, latents: Tensor) -> Tensor:
        """Clean raw latents [B, C, H, W] -> [B], differentiable."""
        self.require_batch(len(latents))
        embedding = self.model.encode_latents(latents if self.before is None else self.before(latents))
        return (embedding * usable_for_backward(self.texts).to(embedding)).sum(-1)

    def score(self, latents: Tensor) -> Tensor:
        return self.to_reward(self.cosines(latents))

    def to_reward(self, cosines: Tensor) -> Tensor:
        """Cosines on the published scale."""
        return PUBLISHED_CLIP_SCALE * self.model.logit_scale * cosines
