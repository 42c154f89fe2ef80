"""A reward that drives the pictures of a batch apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..latents.checks import check_form
from ..latents.items import finite_items
from .rewards import PUBLISHED_CLIP_SCALE, EmbeddingReward

if TYPE_CHECKING:
    from ..model.latent_clip import LatentCLIP


class VarietyReward(EmbeddingReward):
    """How far each item of a batch is from the others: weight x 0.01 x s x (1 - mean cosine to the others).

    The one reward whose items look at each other. In the gradient the others stand still, so that each moves
    away from where they are. An item that is not finite is nobody's other; one that is alone gets 0. weight:
    on the scale of `TextReward`; a negative one draws the batch together. ValueError as for every reward.

    A search keeps the best batch, not the best of each item out of different batches. No race asks it.
    """

    across_items = True

    def __init__(
        self, model: LatentCLIP, weight: float = 1.0, name: str = "variety", size_rule: Any = None
    ) -> None:
        super().__init__(model, weight, name, size_rule)

    def __call__(self, latents: Tensor) -> Tensor:
        """Clean raw latents [B, C, H, W] -> [B], differentiable; NaN for an item that is not finite."""
        latents = check_form(latents, self.channels, self.latent_space, f"the reward {self.name!r}")
        finite = finite_items(latents)
        if bool(finite.all()):
            return self.weight * self.score(latents)
        values = latents.new_full((len(latents),), torch.nan, dtype=torch.float32)
        if bool(finite.any()):
            values[finite] = (self.weight * self.score(latents[finite])).to(values)
        return values

    def score_embedding(self, embedding: Tensor) -> Tensor:
        others = len(embedding) - 1
        cosine = embedding @ embedding.detach().T
        itself = (embedding * embedding.detach()).sum(1)
        if others == 0:
            return 0 * itself
        return PUBLISHED_CLIP_SCALE * self.model.logit_scale * (1 - (cosine.sum(1) - itself) / others)
