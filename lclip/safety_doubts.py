"""What cannot be judged: items that are no clean raw latents, whatever a model would say about them."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .config import LatentCLIPConfig
from .guards import SMALL, check_shape, scale_doubt
from .reno_maths import finite_items, per_item

FAR_TOO_LARGE = 4.0  # times the space's usual spread: no picture is there, and towers saturate
SMALLEST = 4  # cells a side, below which noise cannot be told from a picture


def check_batch(z: Tensor, config: LatentCLIPConfig) -> None:
    """Raise ValueError unless z is a batch that the model can read, apart from items that are not finite."""
    floating = isinstance(z, Tensor) and z.is_floating_point()
    check_shape(torch.nan_to_num(z) if floating else z, config)


def item_doubts(z: Tensor, config: LatentCLIPConfig, check_scale: bool = True) -> list[str | None]:
    """Per item why it cannot be judged, or None. ValueError for a batch that cannot be read at all.

    check_scale: also doubt what is scaled for sampling, or noise. Not for a predicted x0, which may be faint.
    """
    check_batch(z, config)
    finite, size = finite_items(z), _spread(z)
    found = [_doubt(*pair, config, check_scale) for pair in zip(finite.tolist(), size.tolist(), strict=True)]
    if not check_scale:
        return found
    if min(z.shape[-2:]) < SMALLEST:
        tiny = f"the latents are {z.shape[-2]}x{z.shape[-1]} cells: too small to tell a picture from noise"
        return [doubt or tiny for doubt in found]
    readable = torch.where(per_item(finite, z), z, torch.zeros_like(z))
    if all(found) or scale_doubt(readable, config) is None:
        return found
    return [doubt or _texture(readable[index : index + 1], config) for index, doubt in enumerate(found)]


def _doubt(finite: bool, size: float, config: LatentCLIPConfig, check_scale: bool) -> str | None:
    if not finite:
        return "the latents hold NaN or infinity"
    if size == 0:
        return "the latents are all zero"
    if not math.isfinite(size):
        return "the latents are far too large"
    space = config.space
    if space is None or space.std is None or space.scale == 1:
        return None
    usual = f"(spread {size:.3g}; raw {space.title} have about {space.std:.3g})"
    if size > FAR_TOO_LARGE * space.std:
        return f"the latents are far too large {usual}"
    if check_scale and size < SMALL * space.std:
        return f"the latents are too small {usual}: scaled for sampling, or empty"
    return None


def _texture(item: Tensor, config: LatentCLIPConfig) -> str | None:
    text = scale_doubt(item, config)
    return None if text is None else text.partition(": ")[2]


def _spread(z: Tensor) -> Tensor:
    """Root mean square of every item, about zero: [B]."""
    return z.detach().float().square().mean((1, 2, 3)).sqrt()
