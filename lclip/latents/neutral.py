"""Latents that decode to a plain mid-grey picture, to stand where a blocked one was.

Zeros do not: they decode to some other colour, and no sampler or VAE promises which.
"""

from __future__ import annotations

from functools import partial

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
ROUNDED = 2.0**-7
"""Of each value: twice what bfloat16 rounds, scaled for a sampler and back."""


# fmt: off
MEASURED_GREYS: dict[str, tuple[float, ...]] = {
    "sd1.5": (4.915, -3.034, 3.517, 0.507),
    "sd3": (
        0.467, -0.274, -1.032, -0.534, 1.528, -0.373, -0.649, -0.903, -0.391, 0.477, 0.808, 0.019, 0.431,
        -1.418, -0.244, 0.036,
    ),
    "flux": (
        1.818, 2.063, -3.027, -1.642, 1.243, 7.489, -4.662, 2.061, -1.382, -0.027, -0.002, 0.567, -3.992,
        -5.99, -2.955, 1.835,
    ),
    "flux2": tuple(value for value in (
        0.268, 0.68, 0.471, 0.197, -1.425, -0.321, 0.224, -0.747, 0.147, 0.155, -0.687, 0.181, 0.44, -0.058,
        1.138, -1.026, 0.96, -0.176, -0.043, -0.715, 0.463, -0.753, -0.83, -0.147, -0.249, 0.037, 0.317,
        0.633, -1.141, -0.147, -0.089, 0.012,
    ) for _ in range(4)),  # four cells of one patch
}
# fmt: on
"""Raw latents of mid-grey, one value per channel: what TAESD, a small imitation of the VAEs, makes of the
inside of a grey picture. It decodes them to within 7 of 255 of mid-grey, away from the border. Not measured
through the real VAEs: encode a grey picture with the VAE where it must be exact.
"""


def _everywhere(values: tuple[float, ...], height: int, width: int) -> Tensor:
    return torch.tensor(values).reshape(1, -1, 1, 1).expand(-1, -1, height, width)


for _space, _values in {"sdxl": SDXL_GREY, **MEASURED_GREYS}.items():
    GREYS.setdefault(_space, partial(_everywhere, _values))


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
        raise ValueError(
            f"{space} latents have {grey.shape[1]} channels; the grey of {shape[1]} is not known. Ask for "
            "the latents' own number."
        )
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
    other = other.to(z.device).float()
    near = (z.float() - other).abs() <= SAME * spread + ROUNDED * other.abs()
    return near.flatten(1).all(1)
