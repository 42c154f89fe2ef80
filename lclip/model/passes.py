"""A large batch in several passes: a pass takes memory by its batch, and gives each item the same."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

MOST_BYTES = 256 * 2**20
"""What one pass may take, about. It is enough to keep a device busy: 50 pictures of B/8 at its own size."""

FreeBytes = Callable[[], float]
"""What a host can spare at the moment."""


def pass_bytes(tokens: int, width: int) -> int:
    """What one item takes in float32 at a tower's widest place, the MLP, and as much again to spare."""
    return tokens * width * 12 * 4 * 2


def in_passes(
    run: Callable[[Tensor], Tensor], z: Tensor, item_bytes: int, free_bytes: FreeBytes | None = None
) -> Tensor:
    """run(z), in as many passes as the memory asks for; each item's answer is the same.

    run: [B, ...] -> [B, ...], item by item. item_bytes: what one of them takes. A pass takes no more than
    `MOST_BYTES`, and no more than half of what is free, but always one item.
    """
    if len(z) < 2:
        return run(z)
    room = MOST_BYTES if free_bytes is None else min(MOST_BYTES, free_bytes() / 2)
    items = max(1, int(room // item_bytes))
    return run(z) if items >= len(z) else torch.cat([run(part) for part in z.split(items)])
