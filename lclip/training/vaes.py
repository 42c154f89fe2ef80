"""VAEs that turn pictures into latents while training: registered ones, and those that diffusers loads."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..latents.encoders import Encoder
from ..latents.worlds import ENCODERS


def load_encoder(name: str, device: torch.device | str = "cpu") -> Encoder:
    """The VAE of that name. Raises ValueError or OSError where there is none.

    name: one of `ENCODERS`, or whatever diffusers' AutoencoderKL.from_pretrained takes: a folder with a
    config.json and safetensors, or a repository's name.
    """
    return ENCODERS[name](device) if name in ENCODERS else _diffusers(name, device)


def _diffusers(name: str, device: torch.device | str) -> Encoder:
    try:
        from diffusers import AutoencoderKL  # pyright: ignore
    except ImportError as error:
        raise ValueError(
            f"VAE {name!r}: expected {' or '.join(ENCODERS) or 'a registered one'}, or the package diffusers "
            "to load it with (pip install diffusers), or data that holds latents already"
        ) from error
    vae: Any = AutoencoderKL.from_pretrained(name, use_safetensors=True)
    vae.to(device).eval()
    vae.requires_grad_(False)

    def encode(pixels: Tensor) -> Tensor:
        # A sample, as the released Latent-CLIPs were trained on; not times scaling_factor.
        with torch.autocast(pixels.device.type, enabled=False):
            return vae.encode(pixels * 2.0 - 1.0).latent_dist.sample()

    levels = len(vae.config.block_out_channels)
    return Encoder(name, vae.config.latent_channels, 2 ** (levels - 1), encode)
