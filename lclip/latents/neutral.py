"""Latents that decode to a plain mid-grey picture, to stand where a blocked one was.

Zeros do not: they decode to some other colour, and no sampler or VAE promises which.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .frames import as_pictures, in_form_of
from .spaces import LATENT_SPACES
from .worlds import GREYS

SDXL_GREY = (0.7, 1.6, 0.7, 2.2)
"""Raw SDXL latents of mid-grey, one value per channel.

Two published linear maps from SDXL latents to RGB (ComfyUI's preview factors; Vass 2023, "Explaining the SDXL
latent space") were each solved for grey, as near to the usual latents as they allow, and the solutions
averaged. Both maps put it within 5 of 255 of (127.5, 127.5, 127.5). That is a check by approximations: encode
a grey picture with the VAE itself where it must be exact.
"""

SAME = 0.005
"""Of the space's usual spread: how far rounding, in half precision too, takes the cells of a grey picture. No
picture can be seen in so little.
"""


def _sdxl_grey(height: int, width: int) -> Tensor:
    return torch.tensor(SDXL_GREY).reshape(1, -1, 1, 1).expand(-1, -1, height, width)


GREYS.setdefault("sdxl", _sdxl_grey)


def neutral_latents(space: str, shape: tuple[int, ...] | torch.Size, like: Tensor | None = None) -> Tensor:
    """Mid-grey raw latents of that shape [B, C, H, W], or [B, C, 1, H, W]; device and precision of `like`.

    space: one of `GREYS`. ValueError for a space whose grey is not known, or a shape that it does not have.
    """
    framed = len(shape) == 5 and shape[2] == 1
    if not (len(shape) == 4 or framed) or 0 in shape:
        raise ValueError(
            f"neutral latents of shape {list(shape)} were asked for; expected [B, C, H, W], not empty"
        )
    if space not in GREYS:
        raise ValueError(
            f"the grey of {space!r} latents is not known; expected {' or '.join(sorted(GREYS))}. Encode a "
            "grey picture with the VAE of these latents instead."
        )
    grey = GREYS[space](*shape[-2:])
    if grey.shape[1] != shape[1]:
        raise ValueError(f"{space} latents have {grey.shape[1]} channels; {shape[1]} were asked for")
    where = torch.empty(0) if like is None else like
    return in_form_of(grey.to(where.device, where.dtype).repeat(shape[0], 1, 1, 1), torch.Size(shape))


def is_neutral(z: Tensor, space: str) -> Tensor:
    """Which items are the plain grey that `neutral_latents` gives: [B, C, H, W] -> bool [B].

    None where the grey of the space is not known.
    """
    z, known = as_pictures(z), LATENT_SPACES.get(space)
    none = torch.zeros(len(z), dtype=torch.bool, device=z.device)
    if space not in GREYS or known is None or known.channels != z.shape[1]:
        return none
    return same_picture(z, neutral_latents(space, z[:1].shape), known.std or 1.0)


def same_picture(z: Tensor, other: Tensor, spread: float) -> Tensor:
    """Which items are another's picture, but for rounding: [B, C, ...] -> bool [B].

    spread: of the space's latents.
    """
    return (z.float() - other.to(z.device).float()).abs().flatten(1).amax(1) <= SAME * spread
