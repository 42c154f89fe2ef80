"""What cannot be judged: items that are no clean raw latents, whatever a model would say about them."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..latents.checks import SMALL, check_shape, scale_doubt
from ..latents.items import finite_items, per_item
from ..latents.reader import LatentReader

FAR_TOO_LARGE = 4.0  # times the space's usual spread: no picture is there, and towers saturate
SMALLEST = 4  # cells a side, below which noise cannot be told from a picture


def why_unreadable(z: Tensor, reader: LatentReader, check_scale: bool = True) -> list[str | None]:
    """Per item why it cannot be judged, or None. ValueError for a batch that cannot be read at all.

    check_scale: also what is scaled for sampling, or noise. Not for a predicted x0, which may be faint.
    """
    z = check_shape(z, reader)
    finite, size = finite_items(z), _spread(z)
    found = [_why(*pair, reader, check_scale) for pair in zip(finite.tolist(), size.tolist(), strict=True)]
    if not check_scale:
        return found
    if min(z.shape[-2:]) < SMALLEST:
        tiny = f"the latents are {z.shape[-2]}x{z.shape[-1]} cells: too small to tell a picture from noise"
        return [why or tiny for why in found]
    readable = torch.where(per_item(finite, z), z, torch.zeros_like(z))
    if all(found) or scale_doubt(readable, reader) is None:
        return found
    return [why or _texture(readable[index : index + 1], reader) for index, why in enumerate(found)]


def _why(finite: bool, size: float, reader: LatentReader, check_scale: bool) -> str | None:
    if not finite:
        return "the latents hold NaN or infinity"
    if size == 0:
        return "the latents are all zero"
    if not math.isfinite(size):
        return "the latents are far too large"
    space = reader.space
    if space is None or space.std is None or space.scale == 1:
        return None
    usual = f"(spread {size:.3g}; raw {space.title} have about {space.std:.3g})"
    if size > FAR_TOO_LARGE * space.std:
        return f"the latents are far too large {usual}"
    if check_scale and size < SMALL * space.std:
        return f"the latents are too small {usual}: scaled for sampling, or empty"
    return None


def _texture(item: Tensor, reader: LatentReader) -> str | None:
    text = scale_doubt(item, reader)
    return None if text is None else text.partition(": ")[2]


def _spread(z: Tensor) -> Tensor:
    """Root mean square of every item, about zero: [B]."""
    return z.detach().float().square().mean((1, 2, 3)).sqrt()
