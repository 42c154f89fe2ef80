"""What is minimised: the loss of a batch, for the loop, with latents read or made on the way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..latents.checks import check_latents
from ..model.config import LatentCLIPConfig
from ..model.latent_clip import LatentCLIP
from .data import Batch
from .losses import contrastive_loss, distillation_loss, equal_captions
from .pixel_clips import PixelCLIP

Encode = Callable[[Tensor], Tensor]
"""Pixels [B, 3, H, W] in 0..1 -> raw latents [B, C, h, w]."""

VAE_PICTURE, TEACHER_PICTURE = "vae_picture", "teacher_picture"


class LatentSource:
    """Where a batch's latents come from: the data, or its pictures through a VAE.

    The first latents are looked at: a data set that was scaled for sampling is worth a warning.
    """

    def __init__(self, config: LatentCLIPConfig, device: torch.device, encode: Encode | None = None) -> None:
        self.config, self.device, self.encode = config, device, encode
        self._seen = False

    def __call__(self, batch: Batch) -> Tensor:
        """Raw latents [B, C, H, W] on the device."""
        if self.encode is None:
            latents = batch["latents"].to(self.device)
        else:
            with torch.no_grad():
                latents = self.encode(pixels_of(batch[VAE_PICTURE], self.device)).float()
        if not self._seen:
            check_latents(latents, self.config)
            self._seen = True
        return latents


@dataclass(frozen=True)
class Contrastive:
    """Captions and latents that belong together, against all others of the batch that say something else."""

    model: LatentCLIP
    latents: LatentSource

    def __call__(self, batch: Batch) -> Tensor:
        images = self.model.encode_latents(self.latents(batch))
        texts = self.model.encode_tokens(batch["ids"])
        alike = equal_captions(batch["ids"].to(images.device))
        return contrastive_loss(images, texts, self.model.log_logit_scale, alike)


@dataclass(frozen=True)
class Distillation:
    """A pixel CLIP's embedding of each picture, to be found from its latents. Needs no captions."""

    model: LatentCLIP
    latents: LatentSource
    teacher: PixelCLIP

    def __call__(self, batch: Batch) -> Tensor:
        target = self.teacher.embed(pixels_of(batch[TEACHER_PICTURE], self.latents.device))
        return distillation_loss(self.model.encode_latents(self.latents(batch)), target)


def pixels_of(pictures: Tensor, device: torch.device) -> Tensor:
    """uint8 [B, 3, H, W] -> float32 in 0..1 on the device."""
    return pictures.to(device).float() / 255.0
