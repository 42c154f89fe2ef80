"""Pictures into latents by the VAE that is wired, at the size that a Latent-CLIP was trained on."""

from __future__ import annotations

from typing import Any

import comfy.utils
from torch import Tensor

from ... import lclip
from ...lclip.latents.items import finite_items
from .adapter import encoder
from .spaces import check_vae, shape_of


def as_latents(images: Tensor, vae: Any, config: lclip.LatentCLIPConfig) -> Tensor:
    """IMAGE [B, H, W, 3] -> raw latents [B, C, native, native]: cut to a square around the middle, encoded.

    ValueError for a VAE that makes other latents than the Latent-CLIP reads, and for what is no picture.
    """
    check_vae(vae, config.latent_space)
    check_images(images)
    side = config.native_size * shape_of(vae)[1]
    pixels = images[..., :3].movedim(-1, 1)
    return encoder(vae)(comfy.utils.common_upscale(pixels, side, side, "bicubic", "center").clamp(0, 1))


def check_images(images: Any) -> None:
    """ValueError for an IMAGE without pictures in colour, or with none that is finite."""
    wanted = "expected pictures in colour, [batch, height, width, 3], one or more"
    if not isinstance(images, Tensor) or images.ndim != 4 or images.shape[-1] < 3 or 0 in images.shape:
        got = f"shape {list(images.shape)}" if isinstance(images, Tensor) else type(images).__name__
        raise ValueError(f"this IMAGE has {got}; {wanted}. Wire what Load Image or VAE Decode gives.")
    if not bool(finite_items(images).any()):
        raise ValueError(
            f"this IMAGE holds NaN or infinity in each of its {len(images)} pictures; {wanted}, of numbers "
            "from 0 to 1. The VAE that decoded it overflowed, often in half precision: use fp32."
        )
