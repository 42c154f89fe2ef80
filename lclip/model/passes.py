"""A large batch in several passes: a pass takes memory by its batch, and gives each item the same."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

MOST_BYTES = 256 * 2**20
"""What one pass may take, about. It is enough to keep a device busy: 50 pictures of B/8 at its own size."""

MAP_BYTES = 5000
"""What a size map or an adapter keeps of a latent cell for a gradient; the shipped ones were counted to keep
1,200 to 4,600."""

FreeBytes = Callable[[], float]
"""What a host can spare at the moment."""


def pass_bytes(tokens: int, width: int) -> int:
    """What one item takes in float32 at a tower's widest place, the MLP, and as much again to spare."""
    return tokens * width * 12 * 4 * 2


def gradient_bytes(tokens: int, width: int, layers: int) -> int:
    """What one item's forward pass in float32 leaves for its gradient, and what the backward pass takes.

    A block with frozen weights was counted to keep 9.2 numbers per token and width; 12 leave some to spare.
    """
    return tokens * width * 12 * 4 * layers + pass_bytes(tokens, width)


def float32_bytes(module: nn.Module) -> int:
    """What weights take once more, in float32, where they are kept smaller."""
    return sum(4 * each.numel() for each in module.parameters() if each.element_size() < 4)


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


def in_passes_with_gradient(
    run: Callable[[Tensor], Tensor], z: Tensor, item_bytes: int, free_bytes: FreeBytes | None = None
) -> Tensor:
    """run(z), differentiable in z, in one pass where that takes no more than half of what is free.

    As in `in_passes`; item_bytes: what an item's gradient takes. Otherwise each part of the batch, of one
    item at least, is computed again when its gradient is asked for, and leaves nothing until then.
    """
    if len(z) < 2 or free_bytes is None:
        return run(z)
    items = max(1, int(free_bytes() / 2 // item_bytes))
    if items >= len(z):
        return run(z)
    again = partial(checkpoint, run, use_reentrant=False, preserve_rng_state=False)
    return torch.cat([again(part) for part in z.split(items)])
