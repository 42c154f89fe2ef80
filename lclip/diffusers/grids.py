"""How many tokens high and wide the pictures of a pipeline are: its transformer is told with every call.

A number of tokens alone does not say it: 32 x 128 are as many as 64 x 64.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

Grid = tuple[int, int]
"""Rows and columns of tokens."""

_seen: WeakKeyDictionary[torch.nn.Module, Grid | None] = WeakKeyDictionary()


def look_on(transformer: torch.nn.Module) -> None:
    """From now on, notice the grid of every call; once for each transformer."""
    if transformer not in _seen:
        _seen[transformer] = None
        transformer.register_forward_pre_hook(_notice, with_kwargs=True)


def last_grid(transformer: torch.nn.Module) -> Grid | None:
    """That of the last call that was noticed."""
    return _seen.get(transformer)


def _notice(transformer: torch.nn.Module, _: Any, named: Mapping[str, Any]) -> None:
    _seen[transformer] = grid_of(named)


def grid_of(named: Mapping[str, Any]) -> Grid | None:
    """By a transformer's arguments: places of tokens (FLUX), or shapes of pictures (Qwen-Image)."""
    places, shapes = named.get("img_ids"), named.get("img_shapes")
    if isinstance(places, Tensor) and places.shape[-1] >= 3:
        own = places.reshape(-1, places.shape[-1])
        own = own[own[:, 0] == 0]  # pictures to look at have another number there
        return (int(own[:, 1].max()) + 1, int(own[:, 2].max()) + 1) if len(own) else None
    if isinstance(shapes, (list, tuple)) and shapes:
        first = shapes[0]
        first = first[0] if isinstance(first, list) else first
        return int(first[-2]), int(first[-1])
    return None
