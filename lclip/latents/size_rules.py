"""How latents of another size than the native one are brought to the model.

A size rule turns latents [B, C, H, W] into views [B, V, C, h, w]; the model embeds every view, and an item's
embedding is the mean of its views', normalised again. All rules are differentiable, treat a whole batch at
once, and return latents of the native size unchanged.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import wraps

import torch
import torch.nn.functional as F
from torch import Tensor

from .checks import check_form
from .reader import LatentReader

SizeRule = Callable[[Tensor, LatentReader], Tensor]


def resize(z: Tensor, reader: LatentReader) -> Tensor:
    """One view: the latents stretched to the native square. -> [B, 1, C, native, native]"""
    return _resample(z, reader.native_size, reader.native_size)[:, None]


def crops(z: Tensor, reader: LatentReader) -> Tensor:
    """Square views along the longer side, after the shorter side is resampled to the native size.

    Keeps the aspect ratio; neighbours overlap by half or more. A square needs one view, 2:1 needs three.
    """
    native = reader.native_size
    height, width = z.shape[-2:]
    factor = native / min(height, width)
    return _windows(_resample(z, round(height * factor), round(width * factor)), native)


def tiles(z: Tensor, reader: LatentReader) -> Tensor:
    """Native-size views over the latents as they are, not downscaled; neighbours overlap by half or more.

    A side shorter than the native size is enlarged to it.
    """
    native = reader.native_size
    height, width = (max(side, native) for side in z.shape[-2:])
    return _windows(_resample(z, height, width), native)


def interpolate(z: Tensor, reader: LatentReader) -> Tensor:
    """One view at the size it has, rounded to whole patches; the position embedding is interpolated."""
    patch = reader.patch_size
    height, width = (max(1, round(side / patch)) * patch for side in z.shape[-2:])
    return _resample(z, height, width)[:, None]


def checked(rule: SizeRule) -> SizeRule:
    """The rule behind a check of the batch's form: a rule may take for granted what it reads."""

    @wraps(rule)
    def apply(z: Tensor, reader: LatentReader) -> Tensor:
        check_form(z, reader.channels, reader.latent_space)
        return rule(z, reader)

    return apply


SIZE_RULES: dict[str, SizeRule] = {
    rule.__name__: checked(rule) for rule in (resize, crops, tiles, interpolate)
}
DEFAULT_SIZE_RULE = "interpolate"  # the best over all sizes on the mini world: benchmarks/RESULTS.md


def size_rule_named(rule: str | SizeRule | None) -> SizeRule:
    """The rule of that name, the default for None; a function is passed through. Raises ValueError."""
    if callable(rule):
        return rule
    name = DEFAULT_SIZE_RULE if rule is None else rule
    if name not in SIZE_RULES:
        raise ValueError(f"size rule is {name!r}; expected one of {', '.join(SIZE_RULES)}")
    return SIZE_RULES[name]


def _resample(z: Tensor, height: int, width: int) -> Tensor:
    if z.shape[-2:] == (height, width):
        return z
    # In at least float32: a CPU resamples nothing smaller, and a sum of many cells is better off in it.
    wide = z.to(torch.promote_types(z.dtype, torch.float32))
    return F.interpolate(wide, (height, width), mode="bilinear", align_corners=False, antialias=True).to(z)


def _windows(z: Tensor, side: int) -> Tensor:
    """All square windows of that side, evenly spaced, at most half a side apart. -> [B, V, C, side, side]"""
    if z.shape[-2:] == (side, side):
        return z[:, None]
    return torch.stack(
        [
            z[..., top : top + side, left : left + side]
            for top in _starts(z.shape[-2], side)
            for left in _starts(z.shape[-1], side)
        ],
        dim=1,
    )


def _starts(length: int, side: int) -> list[int]:
    spare = length - side
    steps = math.ceil(spare / (side / 2))
    return [round(step * spare / steps) for step in range(steps + 1)] if steps else [0]
