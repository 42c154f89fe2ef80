"""Pictures into latents by the VAE that is wired, at the size that a Latent-CLIP was trained on."""

from __future__ import annotations

from typing import Any

import comfy.utils
from torch import Tensor

from ... import lclip
from .adapter import encoder
from .spaces import check_vae, shape_of


def as_latents(images: Tensor, vae: Any, config: lclip.LatentCLIPConfig) -> Tensor:
    """IMAGE [B, H, W, 3] -> raw latents [B, C, native, native]: cut to a square around the middle, encoded.

    ValueError for a VAE that makes other latents than the Latent-CLIP reads.
    """
    check_vae(vae, config.latent_space)
    side = config.native_size * shape_of(vae)[1]
    pixels = images[..., :3].movedim(-1, 1)
    return encoder(vae)(comfy.utils.common_upscale(pixels, side, side, "bicubic", "center").clamp(0, 1))
