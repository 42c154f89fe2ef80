"""Latents that decode to a plain mid-grey picture, to stand where a blocked one was.

Zeros do not: they decode to some other colour, and no sampler or VAE promises which.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

SDXL_GREY = (0.7, 1.6, 0.7, 2.2)
"""Raw SDXL latents of mid-grey, one value per channel.

Two published linear maps from SDXL latents to RGB (ComfyUI's preview factors; Vass 2023, "Explaining the SDXL
latent space") were each solved for grey, as near to the usual latents as they allow, and the solutions
averaged. Both maps put it within 5 of 255 of (127.5, 127.5, 127.5). That is a check by approximations: encode
a grey picture with the VAE itself where it must be exact.
"""


def neutral_latents(space: str, shape: tuple[int, ...] | torch.Size, like: Tensor | None = None) -> Tensor:
    """Mid-grey raw latents of that shape [B, C, H, W], with the device and precision of `like`.

    space: "sdxl", or "mini", which is read off the mini world's own VAE. ValueError for a space whose grey is
    not known, or a shape that it does not have.
    """
    if len(shape) != 4 or 0 in shape:
        raise ValueError(
            f"neutral latents of shape {list(shape)} were asked for; expected [B, C, H, W], not empty"
        )
    if space == "sdxl":
        grey = torch.tensor(SDXL_GREY).reshape(1, -1, 1, 1).expand(-1, -1, *shape[2:])
    elif space == "mini":
        grey = _mini_grey(*shape[2:])
    else:
        raise ValueError(
            f"the grey of {space!r} latents is not known; expected sdxl or mini. Encode a grey picture with "
            "the VAE of these latents instead."
        )
    if grey.shape[1] != shape[1]:
        raise ValueError(f"{space} latents have {grey.shape[1]} channels; {shape[1]} were asked for")
    where = torch.empty(0) if like is None else like
    return grey.to(where.device, where.dtype).repeat(shape[0], 1, 1, 1)


@cache
def _mini_grey(height: int, width: int) -> Tensor:
    """[1, 4, height, width]: a grey picture through the mini world's encoder."""
    from .mini.vae import FACTOR, MiniVAE
    from .mini.world import WEIGHTS, load_module

    with torch.inference_mode(False), torch.no_grad():
        vae, _ = load_module(MiniVAE(), WEIGHTS / "vae.safetensors")
        return vae.encode(torch.zeros(1, 3, height * FACTOR, width * FACTOR))
