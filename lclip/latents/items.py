"""Batches of latents, one item at a time: norms, shapes and checks that never mix two items."""

from __future__ import annotations

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
