"""Latents at another size, and square windows of them."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def resample(z: Tensor, height: int, width: int) -> Tensor:
    """[B, C, H, W] -> [B, C, height, width], bilinear, antialiased; as it is where the size is right."""
    if z.shape[-2:] == (height, width):
        return z
    # In at least float32: a CPU resamples nothing smaller, and a sum of many cells is better off in it.
    wide = z.to(torch.promote_types(z.dtype, torch.float32))
    return F.interpolate(wide, (height, width), mode="bilinear", align_corners=False, antialias=True).to(z)


def windows(z: Tensor, side: int) -> Tensor:
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
