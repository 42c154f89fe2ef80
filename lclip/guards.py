"""Checks of latents before they are embedded: each mistake has its own text."""

from __future__ import annotations

import torch
from torch import Tensor

from .config import LatentCLIPConfig


def check_shape(z: Tensor, config: LatentCLIPConfig) -> None:
    """Raise ValueError unless z is a finite batch [B, C, H, W] that the model can read."""
    if not isinstance(z, Tensor):
        raise ValueError(f"latents are a {type(z).__name__}; expected a tensor [batch, {config.channels}, H, W]")
    shape = list(z.shape)
    if z.ndim == 5:
        raise ValueError(
            f"latents have shape {shape}: these are video latents; expected [batch, {config.channels}, H, W]. "
            "Pick frames first, for example z[:, :, 0]."
        )
    if z.ndim != 4:
        raise ValueError(
            f"latents have {z.ndim} dimensions, shape {shape}; expected [batch, {config.channels}, H, W]"
            + (". Add the batch dimension with z[None]." if z.ndim == 3 else "")
        )
    if z.shape[0] == 0:
        raise ValueError(f"latents have shape {shape}: the batch is empty; expected at least one item")
    if z.shape[1] != config.channels:
        raise ValueError(f"latents have {z.shape[1]} channels; {_reads(config)}" + _other_layout(z, config))
    if min(z.shape[-2:]) < config.patch_size:
        raise ValueError(
            f"latents are {z.shape[-2]}x{z.shape[-1]} cells; expected at least one patch of "
            f"{config.patch_size}x{config.patch_size} (native size: {config.native_size}x{config.native_size})"
        )
    if not z.is_floating_point():
        raise ValueError(f"latents are {z.dtype}; expected floating-point values as a VAE gives them")
    _check_finite(z)


def _check_finite(z: Tensor) -> None:
    finite = torch.isfinite(z).flatten(1).all(1)
    if not bool(finite.all()):
        items = [i for i, good in enumerate(finite.tolist()) if not good]
        raise ValueError(
            f"latents hold NaN or infinity in batch item {', '.join(map(str, items))} of {z.shape[0]}; expected finite "
            "values. The sampler or VAE before this overflowed, often in half precision: use fp32 or the fp16-fix VAE."
        )


def _reads(config: LatentCLIPConfig) -> str:
    title = config.space.title if config.space else f"{config.latent_space!r} latents"
    return f"this Latent-CLIP reads {title} with {config.channels}"


def _other_layout(z: Tensor, config: LatentCLIPConfig) -> str:
    if z.shape[-1] == config.channels:
        return ". The last dimension fits: pass z.permute(0, 3, 1, 2)."
    return ". Use latents of the VAE that the checkpoint was trained on."
