"""What cannot be judged: items that are no clean raw latents, whatever a model would say about them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..latents.checks import check_shape
from ..latents.items import finite_items, per_item
from ..latents.scale import Scales, measure, usual_spread

if TYPE_CHECKING:
    from ..latents.reader import LatentReader
    from ..latents.spaces import LatentSpace

SMALLEST = 4  # cells a side, below which noise cannot be told from a picture


def why_unreadable(z: Tensor, reader: LatentReader, check_scale: bool = True) -> list[str | None]:
    """Per item why it cannot be judged, or None. ValueError for a batch that cannot be read at all.

    check_scale: also what is scaled for sampling, or noise. Not for a predicted x0, which may be faint.
    """
    z = check_shape(z, reader)
    finite = finite_items(z)
    # Zeros in the place of what is not finite: they are odd too, but not finite is what is said of them.
    found = measure(torch.where(per_item(finite, z), z, torch.zeros_like(z)), reader)
    tiny = None
    if check_scale and min(z.shape[-2:]) < SMALLEST:
        tiny = f"the latents are {z.shape[-2]}x{z.shape[-1]} cells: too small to tell a picture from noise"
    sizes, kinds = found.size.tolist(), _kinds(finite, found, check_scale)
    return [_why(kind, size, reader.space) or tiny for kind, size in zip(kinds, sizes, strict=True)]


def _kinds(finite: Tensor, found: Scales, check_scale: bool) -> list[str]:
    """Per item what is wrong with it, in a word; empty for nothing."""
    kinds = [""] * len(finite)
    wrong = {"large": found.large | ~torch.isfinite(found.size), "zero": found.size == 0, "broken": ~finite}
    if check_scale:
        wrong = {"noise": found.noise, "small": found.small, **wrong}
    for kind, mask in wrong.items():
        kinds = [kind if odd else before for odd, before in zip(mask.tolist(), kinds, strict=True)]
    return kinds


def _why(kind: str, size: float, space: LatentSpace | None) -> str | None:
    known = usual_spread(space)
    usual = "" if known is None or space is None else f"; raw {space.title} have about {known:.3g}"
    spread = f"(spread {size:.3g}{usual})"
    return {
        "": None,
        "broken": "the latents hold NaN or infinity",
        "zero": "the latents are all zero",
        "large": f"the latents are far too large {spread}",
        "small": f"the latents are too small {spread}: scaled for sampling, or empty",
        "noise": f"the latents look like noise (neither cells nor channels are related, spread {size:.3g})",
    }[kind]
