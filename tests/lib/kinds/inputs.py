"""Latents as callers hand them over: of every layout and precision, and those that nobody can read."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from tiny import random_model, tiny_config
from torch import Tensor

WORDS = [
    *("a", "photo", "of", "red", "green", "blue", "circle", "square", "blood", "wound", "arm", "bandage"),
    *("naked", "clothed", "person", "statue"),
]
BATCH = 3
HALF = [torch.float16, torch.bfloat16]

Change = Callable[[Tensor], Tensor]


def clip(seed=0, **other):
    """A Latent-CLIP of random weights: 4 channels, 8x8 cells, patches of 2."""
    config = tiny_config(WORDS, embed_dim=16, width=32, layers=2, heads=2, context_length=12, **other)
    return random_model(config, WORDS, seed)


def pictures(batch=BATCH, channels=4, height=8, width=8, seed=1, spread=6.0) -> Tensor:
    """Smooth latents of raw scale, as of pictures."""
    coarse = torch.randn(batch, channels, 3, 3, generator=torch.Generator().manual_seed(seed))
    z = F.interpolate(coarse, (height, width), mode="bicubic")
    return spread * z / z.square().mean((1, 2, 3), keepdim=True).sqrt()


LAYOUTS: dict[str, Change] = {
    "transposed in memory": lambda z: z.mT.contiguous().mT,
    "channels last": lambda z: z.to(memory_format=torch.channels_last),
    "every second column of a wider one": lambda z: z.repeat_interleave(2, -1)[..., ::2],
    "part of a larger batch": lambda z: torch.cat([z - 1, z, z + 1])[len(z) : 2 * len(z)],
    "one item expanded": lambda z: z[:1].expand(len(z), -1, -1, -1),
    "one column expanded": lambda z: z[..., :1].expand(z.shape),
}

UNREADABLE: dict[str, tuple[Callable[[Tensor], object], str]] = {
    "a list": (lambda z: z.tolist(), "list"),
    "one item alone": (lambda z: z[0], "dimensions"),
    "video": (lambda z: z[:, :, None].repeat(1, 1, 2, 1, 1), "video"),
    "other channels": (lambda z: z.repeat(1, 2, 1, 1)[:, :-1], "channels"),
    "no item": (lambda z: z[:0], "empty"),
    "whole numbers": (lambda z: z.long(), "int64"),
}
"""What cannot be read, and a word that the error must say."""


def written(z: Tensor) -> tuple[int, Tensor]:
    """What would show that somebody wrote into a tensor: its version and its values."""
    return z._version, z.detach().clone()


def same(before: tuple[int, Tensor], z: Tensor) -> bool:
    """Whether nothing was written since."""
    return before[0] == z._version and torch.equal(before[1], z.detach())


def slope(f: Callable[[Tensor], Tensor], z: Tensor, step: float = 1e-5) -> tuple[Tensor, Tensor]:
    """Derivative of f [B] along a random direction: by autograd and by central differences, in float64."""
    direction = torch.randn(z.shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    x = z.detach().clone().requires_grad_()
    (gradient,) = torch.autograd.grad(f(x).sum(), x)
    with torch.no_grad():
        difference = (f(z + step * direction) - f(z - step * direction)) / (2 * step)
    return (gradient * direction).flatten(1).sum(1), difference
