"""Batches of latents, one item at a time: norms, shapes, checks and seeds that never mix two items."""

from __future__ import annotations

from hashlib import blake2b

import torch
from torch import Tensor


def per_item(values: Tensor, like: Tensor) -> Tensor:
    """Reshape one number per item [B] so that it broadcasts over `like` [B, ...]."""
    return values.reshape(-1, *[1] * (like.ndim - 1))


def item_norm(x: Tensor) -> Tensor:
    """L2 norm of every item, in at least fp32: [B, ...] -> [B]."""
    x = x.flatten(1)
    return torch.linalg.vector_norm(x, dim=1, dtype=torch.promote_types(x.dtype, torch.float32))


def finite_items(x: Tensor) -> Tensor:
    """Which items hold only finite numbers: [B, ...] -> bool [B]."""
    return torch.isfinite(x).flatten(1).all(dim=1)


def item_seed(seed: int, item: int, stream: int = 0) -> int:
    """The seed of what is drawn for the item at that place, from 0 to 2^63 - 1.

    A hash: with a plain seed + item, item 1 of one seed is item 0 of the next, and the first candidate is the
    very noise that a host draws from the same seed. stream: which of the seed's independent draws.
    """
    text = f"{int(seed)} {int(stream)} {int(item)}".encode()
    return int.from_bytes(blake2b(text, digest_size=8).digest(), "big") >> 1
