"""Whether what came over wires is what came before."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ...lclip.exploring.blending import Corners


def same_corners(one: Corners, other: Corners) -> bool:
    return one.numbers == other.numbers and same(one.items, other.items)


def same(one: Any, other: Any) -> bool:
    """Whether two values say the same: tensors by what they hold, other objects by themselves."""
    if one is other:
        return True
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        alike = one.shape == other.shape and one.dtype == other.dtype and one.device == other.device
        return alike and torch.equal(one, other)
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return isinstance(one, (str, int, float, bool, type(None))) and type(one) is type(other) and one == other
