"""Latents, and other planes, at another size; and square windows of them.

Antialiased resampling is linear, and the same for rows and columns: a matrix on either side. They are made on
the CPU, once for each size, so that it runs on every device: not all have it (MPS before torch 2.8).
"""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def resample(z: Tensor, height: int, width: int, mode: str = "bilinear") -> Tensor:
    """[B, C, H, W] -> [B, C, height, width], antialiased; as it is where the size is right.

    mode: "bilinear" or "bicubic"; as `torch.nn.functional.interpolate(..., antialias=True)` but for rounding.
    """
    if z.shape[-2:] == (height, width):
        return z
    # In at least float32: a sum of many cells is better off in it.
    wide = z.to(torch.promote_types(z.dtype, torch.float32))
    rows = weights(z.shape[-2], height, mode, wide.device, wide.dtype)
    columns = weights(z.shape[-1], width, mode, wide.device, wide.dtype)
    with _full_precision(wide.device.type):
        return (rows @ wide @ columns.T).to(z)


@lru_cache(maxsize=256)
def weights(before: int, after: int, mode: str, device: torch.device, dtype: torch.dtype) -> Tensor:
    """What every cell before counts in every cell after: [after, before]."""
    with torch.inference_mode(False), torch.no_grad():
        each_alone = torch.eye(before, dtype=torch.float64, device="cpu")[None, None]
        found = F.interpolate(each_alone, (after, before), mode=mode, align_corners=False, antialias=True)
        return found[0, 0].to(device, dtype)


def _full_precision(device: str) -> AbstractContextManager[Any]:
    """Keeps a training in mixed precision from rounding the products, where one is done."""
    return torch.autocast(device, enabled=False) if device in ("cpu", "cuda") else nullcontext()


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


def stitched(x: Tensor, height: int, width: int, side: int, cells: int) -> Tensor:
    """What was found in all `windows` of [height, width], each on its grid of patches, on one grid.

    x: [B, V, n, n, D] for n = side / cells -> [B, height / cells, width / cells, D], rounded: the mean of
    what the windows that see a place find there.
    """
    if x.shape[1] == 1:
        return x[:, 0]
    rows, columns = (_overlaps(length, side, cells).to(x) for length in (height, width))
    x = x.unflatten(1, (len(rows), len(columns)))
    found = torch.einsum("rpi,cqj,brcijd->bpqd", rows, columns, x)
    return found / (rows.sum((0, 2))[:, None] * columns.sum((0, 2)))[..., None]


def _overlaps(length: int, side: int, cells: int) -> Tensor:
    """How many cells every patch of every window shares with every patch of the whole: [windows, N, n]."""
    whole = torch.linspace(0, length, round(length / cells) + 1)
    part = torch.tensor(_starts(length, side))[:, None] + torch.arange(0, side + 1, cells)  # [windows, n + 1]
    low = torch.maximum(whole[:-1, None], part[:, None, :-1])
    return (torch.minimum(whole[1:, None], part[:, None, 1:]) - low).clamp_min(0)


def _starts(length: int, side: int) -> list[int]:
    spare = length - side
    steps = math.ceil(spare / (side / 2))
    return [round(step * spare / steps) for step in range(steps + 1)] if steps else [0]
