"""What a world tells the library of its latents, by the name of their space.

It stands here by itself, so that a world registers itself without torch: that is there when it is asked.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from .encoders import Encoder

GREYS: dict[str, Callable[[int, int], Tensor]] = {}
"""(height, width) in cells -> raw latents [1, C, height, width] of a mid-grey picture."""

Halve = Callable[["Tensor"], "Tensor"]
"""Raw latents [B, C, 2h, 2w] -> those of the picture at half the size, [B, C, h, w]; differentiable."""

SIZE_MAPS: dict[str, Callable[[torch.device, torch.dtype], Halve]] = {}
"""What gives a space's map for the size rule "fit", on a device and in a precision."""

SMALL_IN: dict[str, float] = {}
"""What stands in the place of `scale.SMALL`, where the space's own pictures were measured."""

ENCODERS: dict[str, Callable[[torch.device | str], Encoder]] = {}
"""The VAEs' encoders, as functions of the device."""
