"""What stands between two latent spaces. Importing it makes the shipped size maps known, without torch."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from ..latents.worlds import SIZE_MAPS

if TYPE_CHECKING:
    import torch

    from .adapter import Adapter


def _shipped(space: str, device: torch.device, dtype: torch.dtype) -> Adapter:
    from .shipped import size_map

    return size_map(space, device, dtype)


SIZE_MAPS["sdxl"] = partial(_shipped, "sdxl")
